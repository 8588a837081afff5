"""Eigenvalues of larger integer matrices by flint: an exact characteristic polynomial, and balls around its roots.

flint (the extra "exact") isolates the roots of an integer polynomial with their multiplicities, and proves which are
real: a defective matrix is no harder than any other.
"""

from __future__ import annotations

import importlib.util
from fractions import Fraction
from typing import Any

from dsf.extras import required

from .exact_roots import BITS, NotCertified, Root

PRECISIONS = (128, 512, 2048)  # in bits


def flint_is_here() -> bool:
    """Is the extra "exact" installed?"""
    return importlib.util.find_spec("flint") is not None


def flint_roots(matrix: list[list[int]], unit: int) -> tuple[Root, ...]:
    """The eigenvalues of matrix / unit, of integers, in increasing order; of a conjugate pair the upper one.

    Raises NotCertified where they are not tight in the last of PRECISIONS, ImportError where flint is missing.
    """
    flint = required("flint", "exact")
    polynomial = flint.fmpz_mat(matrix).charpoly()
    before = flint.ctx.prec
    try:
        for bits in PRECISIONS:
            flint.ctx.prec = bits
            upper = [(z, m) for z, m in polynomial.complex_roots() if z.imag.is_zero() or z.imag > 0]
            roots = [_root(polynomial, z, m, unit) for z, m in upper]
            told = sum(m if z.imag.is_zero() else 2 * m for z, m in upper)  # a ball across the line is neither
            if told == len(matrix) and None not in roots:
                return tuple(sorted((r for r in roots if r is not None), key=lambda root: (root.re, root.im)))
    finally:
        flint.ctx.prec = before  # flint's own, for the whole process
    raise NotCertified(f"balls of {PRECISIONS[-1]} bits are not tight enough")


def _root(polynomial: Any, z: Any, multiplicity: int, unit: int) -> Root | None:
    """A ball as a Root, exact where it is an integer of units; None where it is not tight."""
    (re, along), (im, across) = _ball(z.real), _ball(z.imag)
    whole = round(re)
    if im == 0 and abs(whole - re) <= along and polynomial(whole) == 0:
        return Root(Fraction(whole, unit), Fraction(0), Fraction(0), multiplicity)
    radius = along + across  # of a disc around the box
    tight = radius**2 * 4**BITS <= re**2 + im**2
    beside = im != 0 or all(abs(re - end) > radius for end in (-unit, 0, unit))
    return Root(re / unit, im / unit, radius / unit, multiplicity) if tight and beside else None


def _ball(x: Any) -> tuple[Fraction, Fraction]:
    """Centre and radius of a real ball."""
    return _dyadic(x.mid()), _dyadic(x.rad())


def _dyadic(x: Any) -> Fraction:
    mantissa, exponent = x.man_exp()
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
