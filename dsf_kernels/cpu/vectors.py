"""Vectors of 64 bytes as values in compiled loops: what stays in a register is said, not hoped for.

For a loop over arrays the compiler must find out, at every row, that no two of them overlap; here it need not.
The functions say what they mean, in numpy; `teach()` tells numba how each is one or a few machine instructions.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

BYTES = 64
_LN2 = {32: (0.693359375, -2.12194440e-4), 64: (6.93147180369123816490e-01, 1.90821492927058770002e-10)}
_RANGE = {32: (-87.3, 88.7, 7), 64: (-708.0, 709.7, 13)}  # below: 0; above: oo; degree of the polynomial


def lanes(array: Any) -> int:
    """Entries of one vector."""
    return BYTES // array.itemsize


def load(array: Any, at: int) -> Any:
    """The vector array[at : at + lanes].

    >>> a = np.arange(32.0)
    >>> load(a, 3)
    array([ 3.,  4.,  5.,  6.,  7.,  8.,  9., 10.])
    """
    return array[at : at + lanes(array)].copy()


def store(array: Any, at: int, vector: Any) -> None:
    array[at : at + lanes(array)] = vector


def spread(array: Any, at: int) -> Any:
    """array[at] in every lane."""
    return np.full(lanes(array), array[at])


def zeros(array: Any) -> Any:
    """0 in every lane."""
    return np.zeros(lanes(array), array.dtype)


def plus(x: Any, y: Any) -> Any:
    return x + y


def times(x: Any, y: Any) -> Any:
    return x * y


def plus_times(z: Any, x: Any, y: Any) -> Any:
    """z + x y, rounded once where the machine can."""
    return z + x * y


def exponential(x: Any) -> Any:
    """e^x to one or two units in the last place; below the smallest normal number, and at -oo, exactly 0."""
    return np.exp(x)


def sums(array: Any, at: int, step: int) -> Any:
    """Entry i: the sum of the vector at + i step. As many as a vector has lanes.

    >>> sums(np.arange(64.0), 0, 8)[:2]
    array([28., 92.])
    """
    return np.array([load(array, at + i * step).sum() for i in range(lanes(array))])


@cache
def teach() -> None:
    """Numba learns the functions above; once a process, before the first loop is compiled."""
    from numba.core import types
    from numba.extending import lower_builtin, models, register_model, type_callable

    class Vector(types.Type):
        def __init__(self, dtype):
            self.dtype, self.count = dtype, BYTES * 8 // dtype.bitwidth
            super().__init__(f"vector({dtype}, {self.count})")

    @register_model(Vector)
    class _(models.PrimitiveModel):
        def __init__(self, manager, kind):
            from llvmlite import ir

            super().__init__(manager, kind, ir.VectorType(manager.lookup(kind.dtype).get_value_type(), kind.count))

    for function in (load, spread):
        type_callable(function)(lambda context: lambda array, at: Vector(array.dtype))
    type_callable(sums)(lambda context: lambda array, at, step: Vector(array.dtype))
    type_callable(zeros)(lambda context: lambda array: Vector(array.dtype))
    type_callable(plus)(lambda context: lambda x, y: x)
    type_callable(times)(lambda context: lambda x, y: x)
    type_callable(plus_times)(lambda context: lambda z, x, y: z)
    type_callable(exponential)(lambda context: lambda x: x)
    type_callable(lanes)(lambda context: lambda array: types.intp)
    type_callable(store)(lambda context: lambda array, at, vector: types.none)
    place, vector = (types.Array, types.Integer), Vector
    lower_builtin(lanes, types.Array)(_lower_lanes)
    lower_builtin(load, *place)(lambda context, builder, sig, args: _load(context, builder, sig.args[0], *args))
    lower_builtin(store, *place, vector)(_lower_store)
    lower_builtin(spread, *place)(_lower_spread)
    lower_builtin(sums, *place, types.Integer)(_lower_sums)
    lower_builtin(zeros, types.Array)(lambda context, builder, sig, args: context.get_constant_null(sig.return_type))
    lower_builtin(plus, vector, vector)(lambda context, builder, sig, args: builder.fadd(*args))
    lower_builtin(times, vector, vector)(lambda context, builder, sig, args: builder.fmul(*args))
    lower_builtin(plus_times, vector, vector, vector)(_lower_plus_times)
    lower_builtin(exponential, vector)(_lower_exponential)


# ------------------------------------------------------------------------------------------- as machine instructions
CONTRACT = ("contract",)  # a product and a sum may become one instruction; nothing else may change


def _pointer(context, builder, kind, array, at):
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


def _load(context, builder, kind, array, at):
    from llvmlite import ir

    entry = context.get_data_type(kind.dtype)
    whole = ir.VectorType(entry, BYTES * 8 // kind.dtype.bitwidth).as_pointer()
    return builder.load(
        builder.bitcast(_pointer(context, builder, kind, array, at), whole), align=kind.dtype.bitwidth // 8
    )


def _lower_store(context, builder, sig, args):
    array, at, vector = args
    where = builder.bitcast(_pointer(context, builder, sig.args[0], array, at), vector.type.as_pointer())
    builder.store(vector, where, align=sig.args[0].dtype.bitwidth // 8)
    return context.get_dummy_value()


def _lower_lanes(context, builder, sig, args):
    return context.get_constant(sig.return_type, BYTES * 8 // sig.args[0].dtype.bitwidth)


def _lower_spread(context, builder, sig, args):
    from llvmlite import ir

    entry = builder.load(_pointer(context, builder, sig.args[0], *args))
    count = BYTES * 8 // sig.args[0].dtype.bitwidth
    whole = ir.VectorType(entry.type, count)
    one = builder.insert_element(ir.Constant(whole, ir.Undefined), entry, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), count), [0] * count))


def _lower_plus_times(context, builder, sig, args):
    z, x, y = args
    return _plus_times(builder, z, x, y)


def _plus_times(builder, z, x, y):
    return builder.fadd(z, builder.fmul(x, y, flags=CONTRACT), flags=CONTRACT)


def _lower_sums(context, builder, sig, args):
    """Neighbours are added pairwise: of two vectors one with the sums of both, of half the length each, and so on."""
    from llvmlite import ir

    kind, (array, at, step) = sig.args[0], args
    count = BYTES * 8 // kind.dtype.bitwidth
    places = [builder.add(at, builder.mul(step, ir.Constant(at.type, i))) for i in range(count)]
    rows = [_load(context, builder, kind, array, place) for place in places]
    indices = ir.VectorType(ir.IntType(32), count)
    even, odd = ([2 * i + side for i in range(count)] for side in (0, 1))
    while len(rows) > 1:
        rows = [
            builder.fadd(*(builder.shuffle_vector(x, y, ir.Constant(indices, part)) for part in (even, odd)))
            for x, y in zip(rows[::2], rows[1::2], strict=True)
        ]
    return rows[0]


def _lower_exponential(context, builder, sig, args):
    """e^x = 2^k e^r with k = round(x / ln 2): adding 1.5 2^m leaves k in the low bits of the sum."""
    from llvmlite import ir

    (x,) = args
    bits = sig.return_type.dtype.bitwidth
    mantissa, bias = (23, 127) if bits == 32 else (52, 1023)
    lowest, highest, degree = _RANGE[bits]
    whole = ir.VectorType(ir.IntType(bits), x.type.count)

    def constant(value, kind=x.type):
        return ir.Constant(kind, [value] * kind.count)

    magic = constant(1.5 * 2.0**mantissa)
    sum_ = _plus_times(builder, magic, x, constant(1 / math.log(2)))
    k = builder.fsub(sum_, magic)
    r = x
    for part in _LN2[bits]:
        r = _plus_times(builder, r, k, constant(-part))
    polynomial = constant(1 / math.factorial(degree))
    for i in reversed(range(degree)):
        polynomial = _plus_times(builder, constant(1 / math.factorial(i)), polynomial, r)
    exponent = builder.add(builder.bitcast(sum_, whole), constant(bias, whole))
    power = builder.bitcast(builder.shl(exponent, constant(mantissa, whole)), x.type)
    found = builder.fmul(polynomial, power)
    found = builder.select(builder.fcmp_ordered("<", x, constant(lowest)), constant(0.0), found)
    return builder.select(builder.fcmp_ordered(">", x, constant(highest)), constant(math.inf), found)
