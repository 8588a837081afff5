"""What the rules look at: structure, domains, dependence of one kind of layer. Never a name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dsf import Architecture, Interval, System
from dsf.composites import Block, Composed, Product, Sum
from dsf.enclosures import enclose
from dsf.features import ExpKernel, Features
from dsf.operators import Diagonal, Identity, Operator, Scaled, Shift
from dsf.sets import Set, is_real

from .spectra import INVARIANT, Spectrum, spectrum
from .subjects import dependence_of, has_infinite_state
from .witnesses.skills import Search

ROUNDING = 1e-12  # a bound this near to the unit circle may be on it: ends of sets are sums and products of floats


@dataclass
class LayerFacts:
    """One architecture, or a system of numbers, as a layer of a model of any depth."""

    subject: Architecture | System

    @cached_property
    def bounds(self) -> System:
        return self.subject.bounds() if isinstance(self.subject, Architecture) else self.subject

    @property
    def title(self) -> str:
        return self.subject.title if isinstance(self.subject, Architecture) else "this system"

    @cached_property
    def search(self) -> Search | None:
        return Search(self.subject) if isinstance(self.subject, Architecture) and not self.feedback else None

    @cached_property
    def infinite(self) -> bool:
        return has_infinite_state(self.bounds)

    @cached_property
    def feedback(self) -> bool:
        return isinstance(self.subject, Architecture) and self.subject.feedback

    @cached_property
    def dependence(self) -> dict[str, str]:
        return dependence_of(self.subject)

    @cached_property
    def past(self) -> dict[str, str]:
        """What depends on more than the present token."""
        return {name: of for name, of in self.dependence.items() if of not in INVARIANT}

    @cached_property
    def spectrum(self) -> Spectrum:
        return spectrum(self.subject)

    @property
    def parts(self) -> str:
        return " u ".join(map(repr, self.spectrum.parts))

    @cached_property
    def exponential(self) -> bool:
        """Infinite features whose weights are a function of the two tokens alone: e^{q^T k}, perhaps capped."""
        pair = self.bounds.B, self.bounds.C
        return all(isinstance(f, Features) and isinstance(f.log_kernel, ExpKernel) for f in pair)

    @cached_property
    def linear(self) -> bool:
        """Do the theorems on x_t = A(u_t) x_{t-1} + B(u_t) speak of it? Infinite features of finitely many tokens span
        a space of finite dimension that a multiple of I keeps, and a shift only cuts off."""
        return not self.feedback and not self.past and (not self.infinite or self.exponential and self.ratio)

    @cached_property
    def constant(self) -> bool:
        return self.dependence["A"] == "const"

    @cached_property
    def ratio(self) -> bool:
        """Is the output a quotient of states, which may both fade?"""
        return bool(self.bounds.normalised)

    @cached_property
    def readout(self) -> bool:
        """Is a function of the state read, of which nothing is known? The cosine of a counter is its parity."""
        return self.bounds.readout is not None

    @cached_property
    def real(self) -> bool:
        """Is every eigenvalue proved real? Eigenvalues that a solver found prove nothing."""
        return self.spectrum.certified and self.spectrum.real

    @cached_property
    def nonnegative(self) -> bool:
        """Is every eigenvalue proved real and >= 0?"""
        return self.spectrum.certified and self.spectrum.nonnegative

    @cached_property
    def in_disc(self) -> bool:
        """Is no eigenvalue outside the unit disc?"""
        return self.spectrum.certified and self.spectrum.radius <= 1

    @cached_property
    def settles_on_letters(self) -> bool:
        """Is every eigenvalue inside the unit disc, or real and >= 0?"""
        inside = self.spectrum.certified and all(map(_inside_or_nonnegative, self.spectrum.parts))
        return self.nonnegative or (inside and not self.ratio)

    @cached_property
    def nonnegative_products(self) -> bool:
        """Does every product of transitions have real eigenvalues >= 0, by its structure?"""
        return self.nonnegative and (self.constant or ordered(self.bounds.A))

    @cached_property
    def settles_on_words(self) -> bool:
        """Does every product, repeated, settle?"""
        if self.nonnegative_products or self.window:
            return True
        if self.ratio:
            return False
        if self.constant:
            return self.settles_on_letters
        return isinstance(self.subject, Architecture) and contracting(self.bounds.A)

    @cached_property
    def real_products(self) -> bool:
        """Do all products have real eigenvalues in [-1, 1], by structure?"""
        return self.real and self.in_disc and not self.ratio and (self.constant or diagonal(self.bounds.A))

    @cached_property
    def complex_diagonal(self) -> bool:
        """Are all transitions diagonal in one basis, with entries in the unit disc?"""
        return self.in_disc and not self.ratio and diagonal(self.bounds.A)

    @cached_property
    def window(self) -> bool:
        """Is A nilpotent and constant in time: a shift register, a window of attention?"""
        A = self.bounds.A
        if isinstance(A, Composed) and isinstance(A.left, Scaled):
            A = A.right
        return isinstance(A, Shift) and A.by > 0

    @cached_property
    def average(self) -> bool:
        """Is the output an average of what was written, with positive weights that the tokens alone give?"""
        plain = self.bounds.sink is None and self.bounds.floor is None
        return self.infinite and self.exponential and self.ratio and plain and isinstance(self.bounds.A, Identity)


def _inside_or_nonnegative(part: Set) -> bool:
    if isinstance(part, Interval):
        return part.lo > ROUNDING - 1
    return part.abs.hi < 1 - ROUNDING


def diagonal(A: Operator) -> bool:
    """Are all members diagonal in the basis of the body?"""
    if isinstance(A, (Identity, Scaled, Diagonal)):
        return True
    if isinstance(A, (Composed, Sum)):
        return diagonal(A.left) and diagonal(A.right)
    return isinstance(A, Product) and diagonal(A.factor)


def ordered(A: Operator) -> bool:
    """Are all members triangular in one order of blocks, with diagonal blocks that are diagonal?"""
    if isinstance(A, Block):
        size = range(len(A.rows))

        def zero(i: int, j: int) -> bool:
            return isinstance(A.rows[i][j], Scaled) and enclose(A.rows[i][j]).norm == 0

        upper = all(zero(i, j) for i in size for j in size if i > j)
        lower = all(zero(i, j) for i in size for j in size if i < j)
        return (upper or lower) and all(ordered(A.rows[i][i]) for i in size)
    return diagonal(A)


def contracting(A: Operator) -> bool:
    """Is every product a paracontraction: |A| < 1, or factors that are normal with eigenvalues in the disc or 1?"""
    found = enclose(A)
    if found.norm < 1 - ROUNDING:
        return True
    if isinstance(A, Composed):
        return contracting(A.left) and contracting(A.right)
    if isinstance(A, Product):
        return contracting(A.factor)
    normal = found.symmetric or diagonal(A)
    return normal and found.norm <= 1 and all(_inside_or_one(part) for part in found.parts)


def _inside_or_one(part: Set) -> bool:
    if is_real(part):
        assert isinstance(part, Interval)
        return part.lo > ROUNDING - 1 and part.hi <= 1
    return part.abs.hi < 1 - ROUNDING


def described(facts: LayerFacts) -> dict[str, Any]:
    """Hypotheses of a kind of layer, as they were checked."""
    row = {"state": "infinite" if facts.infinite else "finite"}
    row["dependence"] = ", ".join(f"{name} {of}" for name, of in facts.dependence.items())
    if facts.linear:
        radius = facts.spectrum.radius
        row["spectrum"] = f"{facts.parts} by: {'; '.join(facts.spectrum.how)}"
        row["norm"] = "" if math.isinf(radius) else f"|eigenvalue| <= {radius:.4g}"
    return {k: v for k, v in row.items() if v and k != "norm"}
