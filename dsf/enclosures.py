"""What an operator can be over all inputs: three facts per operator, each by a named lemma.

    symmetric (all members are real symmetric)      a bound of the 2-norm      sets that hold every eigenvalue

Sets of eigenvalues do not compose: the eigenvalues of A B are not products of eigenvalues of A and B. Products go
through norms, except where a lemma says more. One rule per structure; docs/theorems.md has the proofs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from . import sets
from .composites import Block, Composed, Product, Sum
from .functions import inner
from .operators import (
    Dense,
    Diagonal,
    DiagonalPlusLowRank,
    Identity,
    OneHotDiagonal,
    Operator,
    Reflection,
    Scaled,
    Shift,
)
from .sets import Interval, Set, disc, inf
from .tree import leaves
from .values import Bound, MatrixBound


@dataclass(frozen=True)
class Enclosure:
    """Every operator of a family: are all symmetric; |A|_2 <= norm; every eigenvalue lies in one of `parts`."""

    parts: tuple[Set, ...]
    norm: float
    symmetric: bool
    lemmas: tuple[str, ...]

    def __contains__(self, z: complex) -> bool:
        return any(z in part for part in self.parts)

    @property
    def hull(self) -> Set:
        return sets.hull(list(self.parts))

    @property
    def nonnegative(self) -> bool:
        """Is every eigenvalue proved real and >= 0?"""
        return all(isinstance(part, Interval) and part.lo >= 0 for part in self.parts)


ONE_VALUE = "a multiple of I has one eigenvalue"
DIAGONAL = "a diagonal matrix has its entries as eigenvalues"
RANK_ONE = "rank one: a I - b k k^T has the eigenvalues a (n-1 times) and a - b |k|^2"
RANK_ONE_UV = "matrix determinant lemma: a I - b u v^T has the eigenvalues a (n-1 times) and a - b v^T u"
WEYL = "Weyl: the eigenvalues of a sum of symmetric matrices lie between the sums of the extreme ones"
NORM = "|eigenvalue| <= |A|_2, with |A B| <= |A| |B| and |A + B| <= |A| + |B|"
TWO_SYMMETRIC = "S P with S symmetric, P symmetric >= 0 is similar to P^1/2 S P^1/2: real, between the products of ends"
ONE_HOT = "|P diag(d)|_1 <= max |d| where the columns of P are one-hot"
NILPOTENT = "a shift is nilpotent"
DECLARED = "the domain of the matrix says where its eigenvalues lie"
COMMUTING_BLOCKS = "blocks in span{I, k k^T} commute: the eigenvalues are those of two 2x2 matrices, on k and off k"
TRIANGULAR = "a block triangular matrix has the eigenvalues of its diagonal blocks"
MULTIPLE = "c X has c times the eigenvalues of X"
SHIFTED = "a I + X has the eigenvalues a + x"


@singledispatch
def enclose(A: Operator) -> Enclosure:
    """The three facts of an operator under bounds (`architecture.bounds().A`).

    >>> import dsf
    >>> enclose(dsf.architecture_named("deltanet").bounds().A).parts
    ([1, 1], [0, 1])
    """
    unknown = f"no lemma for {type(A).__name__}, so any number (@enclose.register adds one)"
    return Enclosure((disc(inf),), inf, False, (unknown,))


def set_of(x: Any) -> Set:
    """The set of a scalar leaf: a Bound, or a Python number."""
    return x.set if isinstance(x, Bound) else sets.point(x)


def _scalar(x: Any) -> Set:
    """The set of a leaf that must be a scalar: the lemmas on multiples of I and of k k^T are false for vectors."""
    if isinstance(x, Bound) and x.norm2 is not None:
        raise TypeError("a scalar stands in a I - b k k^T and in a I, got a vector: write diag(v), or diag(v) @ A")
    return set_of(x)


def norm2_of(v: Any) -> float:
    """The largest |v|^2 of a vector leaf."""
    return v.norm2.hi if isinstance(v, Bound) and v.norm2 else inf


def _times(*factors: float) -> float:
    product = 1.0
    for f in factors:
        product = sets._times(product, f)
    return product


def _normal(parts: tuple[Set, ...], lemma: str) -> Enclosure:
    """A normal family: its norm is its spectral radius; symmetric where it is real."""
    return Enclosure(parts, max(p.abs.hi for p in parts), all(map(sets.is_real, parts)), (lemma,))


def _by_norm(norm: float, *facts: Enclosure, symmetric: bool = False) -> Enclosure:
    lemmas = dict.fromkeys(lemma for f in facts for lemma in f.lemmas)
    part = Interval(-norm, norm) if symmetric else disc(norm)
    return Enclosure((part,), norm, symmetric, (*lemmas, NORM))


@enclose.register
def _(A: Identity) -> Enclosure:
    return _normal((Interval(1, 1),), ONE_VALUE)


@enclose.register
def _(A: Scaled) -> Enclosure:
    return _normal((_off(A),), ONE_VALUE)


@enclose.register
def _(A: Diagonal) -> Enclosure:
    return _normal((set_of(A.d),), DIAGONAL)


@enclose.register
def _(A: Reflection) -> Enclosure:
    parts = _off(A), _on(A)
    if sets.is_real(A.k.set):  # k k^T is symmetric, and every polynomial of it normal
        return _normal(parts, RANK_ONE)
    c, a, b = (set_of(x).abs.hi for x in (A.c, A.a, A.b))
    return Enclosure(parts, _times(c, a + _times(b, norm2_of(A.k))), False, (RANK_ONE_UV,))


def _off(A: Operator) -> Set:
    """The eigenvalue of a member of span{I, k k^T} on the complement of k."""
    if isinstance(A, Reflection):
        return sets.mul(_scalar(A.c), _scalar(A.a))
    return _scalar(A.a) if isinstance(A, Scaled) else Interval(1, 1)


def _on(A: Operator) -> Set:
    """The eigenvalue of a member of span{I, k k^T} on k."""
    if not isinstance(A, Reflection):
        return _off(A)
    return sets.mul(_scalar(A.c), sets.add(_scalar(A.a), -sets.mul(_scalar(A.b), inner(A.k, A.k).set)))


@enclose.register
def _(A: DiagonalPlusLowRank) -> Enclosure:
    d, b = set_of(A.d), _scalar(A.b)
    norm = d.abs.hi + _times(b.abs.hi, (_times(norm2_of(A.u), norm2_of(A.v))) ** 0.5)
    symmetric = A.u is A.v and all(map(sets.is_real, (d, b, A.u.set)))
    if not (isinstance(A.d, Bound) and A.d.norm2):  # d is a scalar
        rest = sets.add(d, -sets.mul(b, inner(A.v, A.u).set))
        return Enclosure((d, rest), norm, symmetric, (RANK_ONE_UV,))
    if symmetric:
        moved = sets.mul(b, Interval(0, norm2_of(A.u)))
        assert isinstance(moved, Interval) and isinstance(d, Interval)
        return Enclosure((d + -moved.hull(Interval(0, 0)),), norm, True, (WEYL,))
    return Enclosure((disc(norm),), norm, False, (NORM,))


@enclose.register
def _(A: OneHotDiagonal) -> Enclosure:
    radius = set_of(A.d).abs.hi
    return Enclosure((disc(radius),), 0.0 if radius == 0 else inf, False, (ONE_HOT,))  # |P|_2 = sqrt(n) at worst


@enclose.register
def _(A: Shift) -> Enclosure:
    return Enclosure((Interval(0, 0) if A.by else Interval(1, 1),), 1.0, A.by == 0, (NILPOTENT,))


@enclose.register
def _(A: Dense) -> Enclosure:
    M = A.M
    if not isinstance(M, MatrixBound):
        raise TypeError(f"enclose takes operators under bounds, got a Dense of {type(M).__name__}")
    return Enclosure((M.spectrum,), max(M.norm, M.spectrum.abs.hi) if M.norm < inf else inf, M.symmetric, (DECLARED,))


@enclose.register
def _(A: Composed) -> Enclosure:
    left, right = enclose(A.left), enclose(A.right)
    lemmas = tuple(dict.fromkeys((*left.lemmas, *right.lemmas)))
    if isinstance(A.left, Scaled):
        parts = tuple(sets.mul(_off(A.left), part) for part in right.parts)
        return Enclosure(parts, _times(left.norm, right.norm), left.symmetric and right.symmetric, (*lemmas, MULTIPLE))
    if left.symmetric and right.symmetric and (left.nonnegative or right.nonnegative):
        parts, norm = (sets.mul(left.hull, right.hull),), _times(left.norm, right.norm)
        return Enclosure(parts, norm, False, (*lemmas, TWO_SYMMETRIC))
    return _by_norm(_times(left.norm, right.norm), left, right)


@enclose.register
def _(A: Sum) -> Enclosure:
    left, right = enclose(A.left), enclose(A.right)
    lemmas = tuple(dict.fromkeys((*left.lemmas, *right.lemmas)))
    norm = left.norm + right.norm
    for shift, other in ((A.left, right), (A.right, left)):
        if isinstance(shift, (Identity, Scaled)):
            parts = tuple(sets.add(_off(shift), part) for part in other.parts)
            symmetric = left.symmetric and right.symmetric
            return Enclosure(parts, norm, symmetric, (*lemmas, SHIFTED))
    if left.symmetric and right.symmetric:
        return Enclosure((sets.add(left.hull, right.hull),), norm, True, (*lemmas, WEYL))
    return _by_norm(norm, left, right)


@enclose.register
def _(A: Product) -> Enclosure:
    factor, J = enclose(A.factor), max([A.steps, *(leaf.steps for leaf in leaves(A.factor))]) or 1
    norm = _times(*[factor.norm] * J)
    if J == 1:
        return factor
    if isinstance(A.factor, (Identity, Scaled, Diagonal)):  # they commute
        power = factor.hull
        for _ in range(J - 1):
            power = sets.mul(power, factor.hull)
        return Enclosure((power,), norm, sets.is_real(power), factor.lemmas)
    if J == 2 and factor.symmetric and factor.nonnegative:
        return Enclosure((sets.mul(factor.hull, factor.hull),), norm, False, (*factor.lemmas, TWO_SYMMETRIC))
    return _by_norm(norm, factor)


@enclose.register
def _(A: Block) -> Enclosure:
    facts = [[enclose(op) for op in row] for row in A.rows]
    norm = math.sqrt(sum(_times(f.norm, f.norm) for row in facts for f in row))
    size = range(len(A.rows))
    zero = [[isinstance(op, Scaled) and set_of(op.a) == Interval(0, 0) for op in row] for row in A.rows]
    upper = all(zero[i][j] for i in size for j in size if i > j)
    lower = all(zero[i][j] for i in size for j in size if i < j)
    if upper or lower:
        diagonal = [facts[i][i] for i in size]
        lemmas = tuple(dict.fromkeys(lemma for f in diagonal for lemma in f.lemmas))
        return Enclosure(tuple(p for f in diagonal for p in f.parts), norm, False, (*lemmas, TRIANGULAR))
    if len(A.rows) == 2 and _in_one_span(A):
        on, off = ([[part(op) for op in row] for row in A.rows] for part in (_on, _off))
        if all(isinstance(s, Interval) for m in (on, off) for row in m for s in row):
            parts = (*sets.eigenvalues_2x2(on), *sets.eigenvalues_2x2(off))  # type: ignore[arg-type]
            return Enclosure(parts, norm, False, (COMMUTING_BLOCKS,))
    return _by_norm(norm, *(f for row in facts for f in row))


def _in_one_span(A: Block) -> bool:
    """Are all blocks in span{I, k k^T} of ONE k?"""
    ops = [op for row in A.rows for op in row]
    keys = [op.k for op in ops if isinstance(op, Reflection)]
    return all(isinstance(op, (Identity, Scaled, Reflection)) for op in ops) and all(k is keys[0] for k in keys)
