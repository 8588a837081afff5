"""What the functions of lanes.py are as machine instructions: types and intermediate code for numba."""

from __future__ import annotations

import operator
from functools import cache
from typing import Any

from . import lanes
from .lowering_functions import (
    CONTRACT,
    added,
    constant,
    exponential,
    exponential_less_one,
    logarithm,
    multiplied,
    root,
)


@cache
def install() -> None:
    """Tells numba; once a process, before the first loop is compiled."""
    from llvmlite import ir
    from numba.core import types
    from numba.extending import lower_builtin, models, register_model, type_callable

    class Lanes(types.Type):
        def __init__(self, dtype, width):
            self.dtype, self.width = dtype, width
            super().__init__(name=f"lanes({dtype}, {width})")

    @register_model(Lanes)
    class LanesModel(models.PrimitiveModel):
        def __init__(self, manager, kind):
            scalar = ir.FloatType() if kind.dtype == types.float32 else ir.DoubleType()
            super().__init__(manager, kind, ir.VectorType(scalar, kind.width))

    def typed(function, typer):
        type_callable(function)(lambda context: typer)

    memory, at = types.CPointer, types.Integer
    for function, size in ((lanes.wide, _wide()), (lanes.narrow, lanes.NARROW), (lanes.single, 0)):
        typed(function, lambda buffer, size=size: Lanes(buffer.dtype, max(1, 8 * size // buffer.dtype.bitwidth)))
        lower_builtin(function, memory)(lambda context, builder, sig, args: context.get_constant_null(sig.return_type))

    def of_memory(buffer, at, like=None):
        return Lanes(buffer.dtype, 8 * lanes.NARROW // buffer.dtype.bitwidth) if like is None else like

    for function, lower in ((lanes.load, _load), (lanes.spread, _spread)):
        typed(function, of_memory)
        lower_builtin(function, memory, at)(lower)
        lower_builtin(function, memory, at, Lanes)(lower)
    lower_builtin(lanes.totals, memory, at, at)(_totals)
    typed(lanes.totals, lambda buffer, at, step: of_memory(buffer, at))
    typed(lanes.pointer, lambda address, kind: types.CPointer(types.unliteral(kind)))
    for number in (types.Integer, types.Float, types.Complex):
        lower_builtin(lanes.pointer, at, number)(_pointer)
    typed(lanes.width, lambda row: types.intp)
    lower_builtin(lanes.width, Lanes)(
        lambda context, builder, sig, args: context.get_constant(types.intp, sig.args[0].width)
    )
    typed(lanes.splat, lambda x, like: like)
    lower_builtin(lanes.splat, types.Number, Lanes)(_splat)
    typed(lanes.every_fourth, lambda buffer, at, like: like)
    lower_builtin(lanes.every_fourth, memory, at, Lanes)(_every_fourth)
    typed(lanes.store, lambda buffer, at, row: types.void)
    lower_builtin(lanes.store, memory, at, Lanes)(_store)
    arithmetic = (
        (operator.add, _add),
        (operator.mul, _multiply),
        (operator.sub, _subtract),
        (operator.truediv, _divide),
    )
    for function, lower in (*arithmetic, (lanes.less, _less)):
        typed(function, lambda x, y: x if isinstance(x, Lanes) and x == y else None)
        lower_builtin(function, Lanes, Lanes)(lower)
    for function, lower in (
        (operator.neg, _negate),
        (lanes.exponential, exponential),
        (lanes.exponential_less_one, exponential_less_one),
        (lanes.logarithm, logarithm),
        (lanes.root, root),
        (lanes.reciprocal, _reciprocal),
    ):
        typed(function, lambda row: row if isinstance(row, Lanes) else None)
        lower_builtin(function, Lanes)(lower)
    typed(lanes.choose, lambda mask, x, y: x)
    lower_builtin(lanes.choose, Lanes, Lanes, Lanes)(_choose)
    typed(lanes.fold, lambda x, y: Lanes(x.dtype, min(x.width, 8 * lanes.NARROW // x.dtype.bitwidth)))
    lower_builtin(lanes.fold, Lanes, Lanes)(_fold)
    typed(lanes.total, lambda row: row.dtype)
    lower_builtin(lanes.total, Lanes)(_total)
    typed(lanes.add_totals, lambda buffer, at, x, y, z, w: types.void)
    lower_builtin(lanes.add_totals, memory, at, Lanes, Lanes, Lanes, Lanes)(_add_totals)


def _wide() -> int:
    import llvmlite.binding as llvm

    return 256 if llvm.get_host_cpu_features().get("avx512f") else 64


# ------------------------------------------------------------------------------------------------------------- memory
def _pointer(context, builder, sig, args):
    return builder.inttoptr(args[0], context.get_value_type(sig.return_type))


def _place(builder, buffer, at, row):
    return builder.bitcast(builder.gep(buffer, [at]), row.as_pointer())


def _size(kind: Any) -> int:
    return kind.dtype.bitwidth // 8


def _load(context, builder, sig, args):
    row = context.get_value_type(sig.return_type)
    return builder.load(_place(builder, args[0], args[1], row), align=_size(sig.args[0]))


def _store(context, builder, sig, args):
    buffer, at, row = args
    builder.store(row, _place(builder, buffer, at, row.type), align=_size(sig.args[0]))
    return context.get_dummy_value()


def _every_fourth(context, builder, sig, args):
    from llvmlite import ir

    row = context.get_value_type(sig.return_type)
    at = _place(builder, args[0], args[1], ir.VectorType(row.element, 4 * row.count))
    rows = builder.load(at, align=_size(sig.args[0]))
    return builder.shuffle_vector(rows, ir.Constant(rows.type, ir.Undefined), _mask(range(0, 4 * row.count, 4)))


def _spread(context, builder, sig, args):
    entry = builder.load(builder.gep(args[0], [args[1]]))
    return _everywhere(builder, entry, context.get_value_type(sig.return_type))


def _splat(context, builder, sig, args):
    entry = context.cast(builder, args[0], sig.args[0], sig.return_type.dtype)
    return _everywhere(builder, entry, args[1].type)


def _everywhere(builder, entry, row):
    from llvmlite import ir

    first = builder.insert_element(ir.Constant(row, ir.Undefined), entry, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, ir.Constant(row, ir.Undefined), _mask([0] * row.count))


def _mask(indices: Any) -> Any:
    from llvmlite import ir

    indices = list(indices)
    return ir.Constant(ir.VectorType(ir.IntType(32), len(indices)), indices)


# --------------------------------------------------------------------------------------------------------- arithmetic
def _add(context, builder, sig, args):
    return added(builder, *args)


def _multiply(context, builder, sig, args):
    return multiplied(builder, *args)


def _subtract(context, builder, sig, args):
    return builder.fsub(*args, flags=CONTRACT)


def _divide(context, builder, sig, args):
    return builder.fdiv(*args)


def _negate(context, builder, sig, args):
    return builder.fneg(args[0])


def _less(context, builder, sig, args):
    one, zero = (constant(x, args[0].type) for x in (1.0, 0.0))
    return builder.select(builder.fcmp_ordered("<", *args), one, zero)


def _choose(context, builder, sig, args):
    mask, x, y = args
    return builder.select(builder.fcmp_unordered("!=", mask, constant(0.0, mask.type)), x, y)


# --------------------------------------------------------------------------------------------------------------- sums
def _reciprocal(context, builder, sig, args):
    from llvmlite import ir

    return builder.fdiv(ir.Constant(args[0].type, [1.0] * args[0].type.count), args[0])


def _part(builder, x, first, count):
    from llvmlite import ir

    return builder.shuffle_vector(x, ir.Constant(x.type, ir.Undefined), _mask(range(first, first + count)))


def _halved(builder, x, count):
    while x.type.count > count:
        half = x.type.count // 2
        x = added(builder, _part(builder, x, 0, half), _part(builder, x, half, half))
    return x


def _fold(context, builder, sig, args):
    (x, y), size = args, sig.return_type.width
    parts = [[_part(builder, a, first, size) for a in (x, y)] for first in range(0, x.type.count, size)]
    found = multiplied(builder, *parts[0])
    for a, b in parts[1:]:
        found = added(builder, multiplied(builder, a, b), found)
    return found


def _total(context, builder, sig, args):
    from llvmlite import ir

    return builder.extract_element(_halved(builder, args[0], 1), ir.Constant(ir.IntType(32), 0))


def _totals(context, builder, sig, args):
    """Neighbours are added pairwise: of two rows one with the sums of both, of half the length each, and so on."""
    from llvmlite import ir

    buffer, at, step = args
    row = context.get_value_type(sig.return_type)
    places = [builder.add(at, builder.mul(step, ir.Constant(at.type, i))) for i in range(row.count)]
    rows = [builder.load(_place(builder, buffer, place, row), align=_size(sig.args[0])) for place in places]
    even, odd = (_mask([2 * i + side for i in range(row.count)]) for side in (0, 1))
    while len(rows) > 1:
        rows = [
            added(builder, *(builder.shuffle_vector(x, y, part) for part in (even, odd)))
            for x, y in zip(rows[::2], rows[1::2], strict=True)
        ]
    return rows[0]


def _add_totals(context, builder, sig, args):
    buffer, at, *rows = args
    count = rows[0].type.count
    evens, odds = (
        _mask([side + first + i for first in range(0, count, 4) for side in (0, count) for i in (odd, odd + 2)])
        for odd in (0, 1)
    )

    def paired(x, y):  # in every four lanes: two sums of x, two of y
        return added(builder, builder.shuffle_vector(x, y, evens), builder.shuffle_vector(x, y, odds))

    found = _halved(builder, paired(paired(*rows[:2]), paired(*rows[2:])), 4)
    sums, align = _place(builder, buffer, at, found.type), _size(sig.args[0])
    builder.store(added(builder, builder.load(sums, align=align), found), sums, align=align)
    return context.get_dummy_value()
