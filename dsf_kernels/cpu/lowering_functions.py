"""Functions of rows of lanes as intermediate code for numba: e^x, e^x - 1, log x, square roots (see lanes.py)."""

from __future__ import annotations

import math

_LN2 = {32: (0.693359375, -2.12194440e-4), 64: (6.93147180369123816490e-01, 1.90821492927058770002e-10)}
_RANGE = {32: (-87.3, 88.7, 7), 64: (-708.0, 709.7, 13)}  # below: 0; above: oo; degree of the polynomial
_LAYOUT = {32: (23, 127), 64: (52, 1023)}  # bits of a mantissa, and what is added to an exponent
_BITS = {32: 0x3F3504F3, 64: 0x3FE6A09E667F3BCD}  # sqrt(1/2)
CONTRACT = ("contract",)  # a product and a sum may become one instruction; nothing else may change


def added(builder, x, y):
    return builder.fadd(x, y, flags=CONTRACT)


def multiplied(builder, x, y):
    return builder.fmul(x, y, flags=CONTRACT)


def root(context, builder, sig, args):
    from llvmlite import ir

    kind = args[0].type
    name = f"llvm.sqrt.v{kind.count}f{sig.return_type.dtype.bitwidth}"
    return builder.call(builder.module.declare_intrinsic(name, (), ir.FunctionType(kind, [kind])), args)


def constant(value, kind):
    from llvmlite import ir

    return ir.Constant(kind, [value] * kind.count)


def _scaled(builder, z, x, y):
    return added(builder, z, multiplied(builder, x, y))


def _whole(x, bits):
    from llvmlite import ir

    return ir.VectorType(ir.IntType(bits), x.type.count)


def _power_of_two(builder, x, bits):
    """2^k with k = round(x / ln 2), and r = x - k ln 2: adding 1.5 2^m leaves k in the low bits of the sum."""
    mantissa, bias = _LAYOUT[bits]
    magic, whole = constant(1.5 * 2.0**mantissa, x.type), _whole(x, bits)
    found = _scaled(builder, magic, x, constant(1 / math.log(2), x.type))
    k, r = builder.fsub(found, magic), x
    for part in _LN2[bits]:
        r = _scaled(builder, r, k, constant(-part, x.type))
    exponent = builder.add(builder.bitcast(found, whole), constant(bias, whole))
    return builder.bitcast(builder.shl(exponent, constant(mantissa, whole)), x.type), r


def _polynomial(builder, r, coefficients):
    """The first coefficient is that of the highest power."""
    found = constant(coefficients[0], r.type)
    for c in coefficients[1:]:
        found = _scaled(builder, constant(c, r.type), found, r)
    return found


def exponential(context, builder, sig, args):
    (x,), bits = args, sig.return_type.dtype.bitwidth
    lowest, highest, degree = _RANGE[bits]
    power, r = _power_of_two(builder, x, bits)
    polynomial = _polynomial(builder, r, [1 / math.factorial(i) for i in reversed(range(degree + 1))])
    return _limited(builder, x, builder.fmul(polynomial, power), lowest, 0.0, highest)


def _limited(builder, x, found, lowest, below, highest):
    """`below` where x is less than `lowest`, oo where it is more than `highest`."""
    found = builder.select(builder.fcmp_ordered("<", x, constant(lowest, x.type)), constant(below, x.type), found)
    return builder.select(builder.fcmp_ordered(">", x, constant(highest, x.type)), constant(math.inf, x.type), found)


def exponential_less_one(context, builder, sig, args):
    """2^k (e^r - 1) + (2^k - 1)."""
    (x,), bits = args, sig.return_type.dtype.bitwidth
    lowest, highest, degree = _RANGE[bits]
    power, r = _power_of_two(builder, x, bits)
    polynomial = _polynomial(builder, r, [1 / math.factorial(i) for i in reversed(range(1, degree + 2))])
    rest = builder.fsub(power, constant(1.0, x.type))
    found = _scaled(builder, rest, power, multiplied(builder, polynomial, r))
    return _limited(builder, x, found, lowest, -1.0, min(highest, (_LAYOUT[bits][1] + 0.499) * math.log(2)))


def logarithm(context, builder, sig, args):
    """x = 2^k m with m from sqrt(1/2) to sqrt(2); log m = 2 artanh(s), s = (m - 1) / (m + 1)."""
    (x,), bits = args, sig.return_type.dtype.bitwidth
    (mantissa, bias), kind, whole = _LAYOUT[bits], x.type, _whole(x, bits)
    tiny = builder.fcmp_ordered("<", x, constant(2.0 ** (1 - bias), kind))
    lifted = builder.select(tiny, builder.fmul(x, constant(2.0 ** (mantissa + 1), kind)), x)
    low = constant(_BITS[bits], whole)  # of sqrt(1/2)
    offset = builder.sub(builder.bitcast(lifted, whole), low)
    k = builder.ashr(offset, constant(mantissa, whole))
    m = builder.bitcast(builder.sub(builder.bitcast(lifted, whole), builder.shl(k, constant(mantissa, whole))), kind)
    k = builder.sitofp(k, kind)
    k = builder.select(tiny, builder.fsub(k, constant(mantissa + 1.0, kind)), k)
    f = builder.fsub(m, constant(1.0, kind))
    s = builder.fdiv(f, builder.fadd(f, constant(2.0, kind)))
    square = builder.fmul(s, s)
    terms = 5 if bits == 32 else 12
    series = builder.fmul(square, _polynomial(builder, square, [2 / (2 * i + 1) for i in reversed(range(1, terms))]))
    # log m = f - s (f - series): the error of s meets a small number
    small = builder.fmul(s, builder.fsub(f, series))
    large, rest = (constant(part, kind) for part in _LN2[bits])
    found = builder.fadd(builder.fsub(f, builder.fsub(small, builder.fmul(k, rest))), builder.fmul(k, large))
    positive = builder.fcmp_ordered(">", x, constant(0.0, kind))
    found = builder.select(positive, found, constant(math.nan, kind))
    found = builder.select(builder.fcmp_ordered("==", x, constant(0.0, kind)), constant(-math.inf, kind), found)
    return builder.select(builder.fcmp_ordered("==", x, constant(math.inf, kind)), x, found)
