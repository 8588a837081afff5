"""Certified eigenvalues of matrices of floats: a float is a dyadic rational, so such a matrix is exactly rational.

The characteristic polynomial is computed in integers. Its square-free factors have distinct roots, so that a defective
matrix is as easy as any other: a Jordan block of 1 has the eigenvalue 1, and nothing beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import sympy as sp
import torch

from .exact_roots import NotCertified, Root, isolated
from .flint_roots import flint_is_here, flint_roots

STURM, FLINT = "certified: Sturm on exact rationals", "certified: flint balls"
SIZE, FLINT_SIZE = 8, 16  # the largest n of either way; a complex matrix counts as one of size 2n
MOST = 64  # different matrices in one call
_x = sp.Symbol("x")


@dataclass(frozen=True)
class Certified:
    """Every eigenvalue of one matrix, each in its own disc: a pair of conjugates once, by its upper one.

    Of a complex matrix, the eigenvalues together with their conjugates: which of a pair it is, is not told.
    """

    roots: tuple[Root, ...]
    how: str

    @property
    def reals(self) -> tuple[Root, ...]:
        """The real ones, in increasing order."""
        return tuple(root for root in self.roots if root.real)

    @property
    def real(self) -> bool:
        """Are all real?"""
        return len(self.reals) == len(self.roots)

    @property
    def nonnegative(self) -> bool:
        """Are all real and >= 0?"""
        return self.real and all(root.re >= 0 for root in self.roots)

    @property
    def within_one(self) -> bool:
        """Are all real and in [-1, 1]?"""
        return self.real and all(-1 <= root.re <= 1 for root in self.roots)

    def holds(self, x: float) -> bool:
        """Is x, a double, exactly an eigenvalue?

        >>> certified(torch.tensor([[1.0, 1.0], [0.0, 1.0]]))[0].holds(1.0)
        True
        """
        return any(root.real and root.radius == 0 and root.re == Fraction(x) for root in self.roots)

    @property
    def values(self) -> list[complex]:
        """The eigenvalues of a real matrix with their multiplicities, rounded to doubles."""
        found: list[complex] = []
        for root in self.roots:
            z = complex(float(root.re), float(root.im))
            found += ([z] if root.real else [z, z.conjugate()]) * root.multiplicity
        return found


def certified(A: torch.Tensor, most: int = MOST) -> tuple[Certified, ...]:
    """Proved enclosures of the eigenvalues of the matrices A [..., n, n], one `Certified` for each, in order.

    n <= 8 (complex: 4) by Sturm and exact discs in sympy; up to 16 (complex: 8) by flint's balls, where the extra
    "exact" is installed. most: how many different matrices are looked at.

    Raises ValueError where A is not square, or holds NaN or infinity; NotCertified (a ValueError), which says why,
    where n or the number of different matrices is too large, or no proof was found.

    >>> found = certified(torch.tensor([[0.0, -1.0], [1.0, 0.0]]))[0]
    >>> found.real, found.roots[0].modulus
    (False, [1, 1])
    """
    if A.dim() < 2 or A.shape[-1] != A.shape[-2]:
        raise ValueError(f"eigenvalues are of square matrices [..., n, n], got the shape {tuple(A.shape)}")
    if not torch.isfinite(A).all():
        raise ValueError("A holds NaN or infinity, so it has no eigenvalues")
    rows = _real_rows(A.detach()) if A.is_complex() else A.detach()
    n = rows.shape[-1]
    if n > SIZE and (n > FLINT_SIZE or not flint_is_here()):
        of = f"a complex matrix counts as one of n = {n}" if A.is_complex() else f"n = {n}"
        with_flint = "" if flint_is_here() else f', <= {FLINT_SIZE} with the extra "exact"'
        raise NotCertified(f"{of}, and n <= {FLINT_SIZE if flint_is_here() else SIZE}{with_flint} is looked at")
    if not rows.numel():
        return (Certified((), STURM),) * rows.shape[:-2].numel()
    different, which = torch.unique(rows.reshape(-1, n, n), dim=0, return_inverse=True)
    if len(different) > most:
        raise NotCertified(f"{len(different)} different matrices, and up to {most} are looked at")
    found = [_of_one(matrix) for matrix in different]
    if A.is_complex():
        found = [_halved(one) for one in found]
    return tuple(found[i] for i in which.tolist())


def all_real(A: torch.Tensor) -> bool | None:
    """Are all eigenvalues of all matrices A [..., n, n] real? Exact; None where `certified` does not look at so many.

    >>> all_real(torch.tensor([[0.0, 1.0], [-1e-30, 0.0]]))
    False
    """
    return _every(A, "real")


def all_real_nonnegative(A: torch.Tensor) -> bool | None:
    """Are all eigenvalues of all matrices A [..., n, n] real and >= 0? Exact; None as for `all_real`.

    >>> all_real_nonnegative(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    True
    """
    return _every(A, "nonnegative")


def _every(A: torch.Tensor, fact: str) -> bool | None:
    try:
        return all(getattr(one, fact) for one in certified(A))
    except NotCertified:
        return None


def _real_rows(A: torch.Tensor) -> torch.Tensor:
    """[[re, -im], [im, re]], real, whose eigenvalues are those of A and their conjugates: real ones twice."""
    return torch.cat([torch.cat([A.real, -A.imag], -1), torch.cat([A.imag, A.real], -1)], -2)


def _halved(found: Certified) -> Certified:
    roots = (replace(r, multiplicity=r.multiplicity // 2) if r.real else r for r in found.roots)
    return replace(found, roots=tuple(roots))


def _of_one(A: torch.Tensor) -> Certified:
    matrix, unit = _in_units(A)
    if len(matrix) > SIZE:
        return Certified(flint_roots(matrix, unit), FLINT)
    roots: list[Root] = []
    for factor, multiplicity in sp.Poly(characteristic(matrix), _x, domain="ZZ").sqf_list()[1]:
        whole = factor.degree() == len(matrix)  # then the matrix itself is better conditioned than its polynomial
        found = isolated(factor, unit, matrix if whole else None)
        roots += [replace(root, multiplicity=multiplicity) for root in found]
    return Certified(tuple(sorted(roots, key=lambda root: (root.re, root.im))), STURM)


def _in_units(A: torch.Tensor) -> tuple[list[list[int]], int]:
    """A as integers over one power of two."""
    entries = [[Fraction(x) for x in row] for row in A.double().tolist()]
    unit = max(x.denominator for row in entries for x in row)
    return [[int(x * unit) for x in row] for row in entries], unit


def characteristic(M: list[list[int]]) -> list[int]:
    """The coefficients of det(x I - M), from the highest: Faddeev and LeVerrier, whose divisions leave no remainder.

    >>> characteristic([[2, 1], [0, 3]])
    [1, -5, 6]
    """
    size = range(len(M))
    coefficients, N = [1], [[0 for _ in size] for _ in size]
    for k in range(1, len(M) + 1):
        N = [[sum(M[i][m] * N[m][j] for m in size) + coefficients[-1] * (i == j) for j in size] for i in size]
        coefficients.append(-sum(M[i][m] * N[m][i] for i in size for m in size) // k)
    return coefficients
