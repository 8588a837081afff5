"""Rows of lanes, the vectors of a CPU, inside functions that numba compiles: loads, stores, fused multiply-adds, sums.

LLVM vectorises a plain loop over several arrays only behind checks that they do not overlap; on rows of 64 entries the
checks cost more than the work. Here a row of S is one value: 256 bytes where registers have 64, split by the compiler.
The functions are typed and lowered for numba by `install`; Python itself never runs them. Indices are not checked.
"""

from __future__ import annotations

from functools import cache
from typing import Any

NARROW = 64  # bytes of the rows that go through horizontal sums


def pointer(address: Any, kind: Any) -> Any:
    """The memory at an address (`Tensor.data_ptr()`), of entries of the dtype of the number `kind`.

    Arrays would be counted at every call of a function that takes one.
    """
    raise NotImplementedError


def wide(buffer: Any) -> Any:
    """A row of zeros, as wide as four rows stay in registers with what a loop needs."""
    raise NotImplementedError


def narrow(buffer: Any) -> Any:
    """A row of zeros of 64 bytes."""
    raise NotImplementedError


def single(buffer: Any) -> Any:
    """A row of one lane, for what is left of a loop."""
    raise NotImplementedError


def width(row: Any) -> Any:
    """The number of lanes."""
    raise NotImplementedError


def item(buffer: Any, at: Any) -> Any:
    """buffer[at], at >= 0."""
    raise NotImplementedError


def put(buffer: Any, at: Any, x: Any) -> Any:
    """buffer[at] = x."""
    raise NotImplementedError


def splat(x: Any, like: Any) -> Any:
    """A number in every lane."""
    raise NotImplementedError


def load(buffer: Any, at: Any, like: Any) -> Any:
    """buffer[at : at + width]."""
    raise NotImplementedError


def store(buffer: Any, at: Any, row: Any) -> Any:
    """buffer[at : at + width] = row."""
    raise NotImplementedError


def fma(x: Any, y: Any, z: Any) -> Any:
    """x y + z, rounded once where the CPU can."""
    raise NotImplementedError


def fold(x: Any, y: Any) -> Any:
    """x y, its parts of 64 bytes added up."""
    raise NotImplementedError


def every_fourth(buffer: Any, at: Any, like: Any) -> Any:
    """buffer[at], buffer[at + 4], ..."""
    raise NotImplementedError


def total(row: Any) -> Any:
    """The sum of the lanes of a narrow row."""
    raise NotImplementedError


def add_totals(buffer: Any, at: Any, x: Any, y: Any, z: Any, w: Any) -> Any:
    """buffer[at : at + 4] += the sums of the lanes of four narrow rows, all at once: a third of the shuffles."""
    raise NotImplementedError


@cache
def install() -> None:
    """Tells numba what these functions are."""
    import llvmlite.binding as llvm
    from llvmlite import ir
    from numba.core import types
    from numba.extending import lower_builtin, models, register_model, type_callable

    WIDE = 256 if llvm.get_host_cpu_features().get("avx512f") else 64

    class Lanes(types.Type):
        def __init__(self, dtype, width):
            self.dtype, self.width = dtype, width
            super().__init__(name=f"lanes({dtype}, {width})")

    @register_model(Lanes)
    class LanesModel(models.PrimitiveModel):
        def __init__(self, manager, kind):
            scalar = ir.FloatType() if kind.dtype == types.float32 else ir.DoubleType()
            super().__init__(manager, kind, ir.VectorType(scalar, kind.width))

    def typed(function):
        """type_callable without its outer function."""
        return lambda typer: type_callable(function)(lambda context: typer)

    def place(builder, buffer, at, lanes):
        return builder.bitcast(builder.gep(buffer, [at]), lanes.as_pointer())

    def size_of(kind):
        return kind.dtype.bitwidth // 8

    @typed(pointer)
    def _(address, kind):
        return types.CPointer(kind)

    @lower_builtin(pointer, types.Integer, types.Float)
    def _(context, builder, sig, args):
        return builder.inttoptr(args[0], context.get_value_type(sig.return_type))

    def part(builder, x, first, count):
        return builder.shuffle_vector(x, ir.Constant(x.type, ir.Undefined), _mask(ir, range(first, first + count)))

    def added(builder, x, y):
        return builder.fadd(x, y, flags=("contract",))

    def multiplied(builder, x, y):
        return builder.fmul(x, y, flags=("contract",))

    def halved(builder, x, count):
        while x.type.count > count:
            half = x.type.count // 2
            x = added(builder, part(builder, x, 0, half), part(builder, x, half, half))
        return x

    for function, size in ((wide, WIDE), (narrow, NARROW), (single, 0)):

        @typed(function)
        def _(buffer, size=size):
            return Lanes(buffer.dtype, max(1, 8 * size // buffer.dtype.bitwidth))

        @lower_builtin(function, types.CPointer)
        def _(context, builder, sig, args):
            return context.get_value_type(sig.return_type)(None)

    @typed(width)
    def _(row):
        return types.intp

    @lower_builtin(width, Lanes)
    def _(context, builder, sig, args):
        return context.get_constant(types.intp, sig.args[0].width)

    @typed(item)
    def _(buffer, at):
        return buffer.dtype

    @lower_builtin(item, types.CPointer, types.Integer)
    def _(context, builder, sig, args):
        return builder.load(builder.gep(args[0], [args[1]]))

    @typed(put)
    def _(buffer, at, x):
        return types.void

    @lower_builtin(put, types.CPointer, types.Integer, types.Number)
    def _(context, builder, sig, args):
        x = context.cast(builder, args[2], sig.args[2], sig.args[0].dtype)
        builder.store(x, builder.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    @typed(splat)
    def _(x, like):
        return like

    @lower_builtin(splat, types.Number, Lanes)
    def _(context, builder, sig, args):
        x, row = context.cast(builder, args[0], sig.args[0], sig.return_type.dtype), args[1].type
        first = builder.insert_element(ir.Constant(row, ir.Undefined), x, ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, ir.Constant(row, ir.Undefined), _mask(ir, [0] * row.count))

    @typed(load)
    def _(buffer, at, like):
        return like

    @lower_builtin(load, types.CPointer, types.Integer, Lanes)
    def _(context, builder, sig, args):
        at = place(builder, args[0], args[1], args[2].type)
        return builder.load(at, align=size_of(sig.args[0]))

    @typed(every_fourth)
    def _(buffer, at, like):
        return like

    @lower_builtin(every_fourth, types.CPointer, types.Integer, Lanes)
    def _(context, builder, sig, args):
        count, scalar = args[2].type.count, args[2].type.element
        at = place(builder, args[0], args[1], ir.VectorType(scalar, 4 * count))
        rows = builder.load(at, align=size_of(sig.args[0]))
        return builder.shuffle_vector(rows, ir.Constant(rows.type, ir.Undefined), _mask(ir, range(0, 4 * count, 4)))

    @typed(store)
    def _(buffer, at, row):
        return types.void

    @lower_builtin(store, types.CPointer, types.Integer, Lanes)
    def _(context, builder, sig, args):
        at = place(builder, args[0], args[1], args[2].type)
        builder.store(args[2], at, align=size_of(sig.args[0]))
        return context.get_dummy_value()

    @typed(fma)
    def _(x, y, z):
        return z

    @lower_builtin(fma, Lanes, Lanes, Lanes)
    def _(context, builder, sig, args):
        return added(builder, multiplied(builder, *args[:2]), args[2])

    @typed(fold)
    def _(x, y):
        return Lanes(x.dtype, min(x.width, 8 * NARROW // x.dtype.bitwidth))

    @lower_builtin(fold, Lanes, Lanes)
    def _(context, builder, sig, args):
        (x, y), size = args, sig.return_type.width
        parts = [[part(builder, a, first, size) for a in (x, y)] for first in range(0, x.type.count, size)]
        found = multiplied(builder, *parts[0])
        for a, b in parts[1:]:
            found = added(builder, multiplied(builder, a, b), found)
        return found

    @typed(total)
    def _(row):
        return row.dtype

    @lower_builtin(total, Lanes)
    def _(context, builder, sig, args):
        return builder.extract_element(halved(builder, args[0], 1), ir.Constant(ir.IntType(32), 0))

    @typed(add_totals)
    def _(buffer, at, x, y, z, w):
        return types.void

    @lower_builtin(add_totals, types.CPointer, types.Integer, Lanes, Lanes, Lanes, Lanes)
    def _(context, builder, sig, args):
        buffer, at, *rows = args
        count = rows[0].type.count
        evens, odds = (
            _mask(ir, [side + first + i for first in range(0, count, 4) for side in (0, count) for i in (odd, odd + 2)])
            for odd in (0, 1)
        )

        def paired(x, y):  # in every four lanes: two sums of x, two of y
            return added(builder, builder.shuffle_vector(x, y, evens), builder.shuffle_vector(x, y, odds))

        found = halved(builder, paired(paired(*rows[:2]), paired(*rows[2:])), 4)
        sums, align = place(builder, buffer, at, found.type), size_of(sig.args[0])
        builder.store(added(builder, builder.load(sums, align=align), found), sums, align=align)
        return context.get_dummy_value()


def _mask(ir: Any, indices: Any) -> Any:
    indices = list(indices)
    return ir.Constant(ir.VectorType(ir.IntType(32), len(indices)), indices)
