"""A "no" carries a certificate: what all transitions have in common, and words of the language that this cannot follow.

The check shares no code with the search. It samples transitions, ends of the domains among them, and looks at their
products; and it runs the words on the automaton.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch

from dsf import Architecture, Interval, System
from dsf.reference import scan

from .languages.automaton import Automaton
from .languages.patterns import Clash, Pattern, Period, Permuting, pattern_of_json, pattern_to_json
from .subjects import has_infinite_state, heads_for, transition
from .tensors_json import number_of_json, number_to_json

SIZES = (1, 2, 3)
PRODUCTS, LENGTH = 64, 6
EXACTLY = 12  # matrices, and rows of them, that exact arithmetic looks at
AGAIN = 1000  # repetitions of a letter after which averages are settling
CLAIMS = {
    "settles on letters": "every eigenvalue of every A_t lies in `parts`: inside the unit disc, or real and >= 0",
    "settles on words": "so does every eigenvalue of every product of transitions",
    "constant or settles": "A_t is the same for every token, with real eigenvalues in [-1, 1]; or products settle",
    "real products": "transitions are diagonal in one basis, with real entries in [-1, 1]",
    "unit disc products": "transitions are diagonal in one basis, with entries in the unit disc",
    "real": "every eigenvalue of every A_t is real",
    "constant": "A_t is the same for every token",
    "window": "a power of A_t is 0",
    "average": "outputs are averages of what was written, whose weights do not depend on the order",
}


@dataclass(frozen=True)
class Refutation:
    """claim: one of CLAIMS, for every layer; parts: intervals and radii that hold the eigenvalues, per kind of layer.

    layers: the number of layers of which it speaks, None for any. `seal` is a digest of all the rest.
    """

    proves: ClassVar[bool] = False
    claim: str
    parts: tuple[tuple[tuple[float, float, bool], ...], ...]
    language: Automaton
    pattern: Pattern
    layers: int | None = None
    seal: str = ""

    def check(self, subject: Any) -> bool:
        """Seal; the words run on the automaton; the claim defeats such words; sampled transitions obey the claim."""
        kinds = subject if isinstance(subject, tuple) else (subject,)
        if self.seal != self.digest() or self.claim not in [*CLAIMS] or len(kinds) != len(self.parts):
            return False
        if not (self._written() and self._defeats() and self.pattern.check(self.language)):
            return False
        return all(self._obeys(kind, parts) for kind, parts in zip(kinds, self.parts, strict=True))

    def _written(self) -> bool:
        """Are its words made of letters of the language, and its numbers whole?"""
        p, letters = self.pattern, range(len(self.language.letters))
        if isinstance(p, Permuting):
            if not (isinstance(p.words, tuple) and isinstance(p.points, tuple)):
                return False
            words, numbers = p.words, (*p.points, 0 if p.length is None else p.length)
        else:
            words = tuple(getattr(p, f.name) for f in fields(p) if f.type == "Word")
            numbers = (p.period,) if isinstance(p, Period) else ()
        spelled = all(isinstance(w, tuple) and all(type(i) is int and i in letters for i in w) for w in words)
        return spelled and all(type(x) is int for x in numbers)

    def _defeats(self) -> bool:
        """Does the theorem of the claim speak of this pattern?"""
        p, most = self.pattern, self.layers
        if self.claim == "settles on letters":
            return isinstance(p, Period) and len(p.u) == 1
        if self.claim == "settles on words":
            return isinstance(p, Period)
        if self.claim == "constant or settles":
            return isinstance(p, Period) and len(p.u) % 2 == 0
        if self.claim == "real":
            return isinstance(p, Period) and len(p.u) == 1 and p.period > 2 and most == 1
        if self.claim in ("real products", "unit disc products"):
            series = "sign" if self.claim == "real products" else "derived"
            return (
                isinstance(p, Permuting)
                and p.series == series
                and (p.length is None or most is not None and p.length > most)
            )
        kind = {"constant": "window", "window": "memory", "average": "average"}[self.claim]
        return isinstance(p, Clash) and p.kind == kind

    def _obeys(self, kind: Architecture | System, parts: tuple[tuple[float, float, bool], ...]) -> bool:
        if self.claim == "average":
            return isinstance(kind, Architecture) and averages(kind)
        if isinstance(kind, Architecture) and has_infinite_state(kind.bounds()):
            decays = all(real and 0 <= lo <= hi <= 1 for lo, hi, real in parts)
            settles = self.claim in ("settles on letters", "settles on words", "window")
            return decays and settles and fades(kind, self.claim == "window")
        if self.claim in ("constant", "window") and not is_constant(kind):
            return False
        if self.claim == "constant or settles" and is_constant(kind):
            return all(_held(A, parts) and _held(A, ((-1.0, 1.0, True),)) for A in transitions(kind))
        products = self.claim in ("settles on words", "constant or settles")
        for A in transitions(kind):
            if self.claim in ("real products", "unit disc products") and not _diagonal(A):
                return False
            if self.claim == "window" and torch.linalg.matrix_power(A, A.shape[-1]).abs().max() > 0:
                return False
            if not _held(A, parts):
                return False
            if products and not (is_constant(kind) or _one_family(A)):
                return False
            if products and not all(_settled(P) for P in _products(A)):
                return False
        return self._allowed(parts)

    def _allowed(self, parts: tuple[tuple[float, float, bool], ...]) -> bool:
        """Are the sets such that the claim follows for single transitions?"""
        if self.claim == "settles on letters":
            return all((lo > -1 if real else hi < 1) for lo, hi, real in parts)
        if self.claim in ("real products", "unit disc products"):
            return all((real or self.claim != "real products") and max(abs(lo), abs(hi)) <= 1 for lo, hi, real in parts)
        return self.claim != "real" or all(real for _, _, real in parts)

    def digest(self) -> str:
        """SHA-256 of every entry but the seal."""
        return hashlib.sha256(json.dumps(replace(self, seal="").to_dict(), sort_keys=True).encode()).hexdigest()

    def sealed(self) -> Refutation:
        return replace(self, seal=self.digest())

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        parts = [[[number_to_json(lo), number_to_json(hi), real] for lo, hi, real in kind] for kind in self.parts]
        row = {"claim": self.claim, "parts": parts, "language": self.language.to_dict()}
        return row | {"pattern": pattern_to_json(self.pattern), "layers": self.layers, "seal": self.seal}

    @staticmethod
    def of_dict(row: dict[str, Any], language: Automaton) -> Refutation:
        """Of plain data and its language, which is read elsewhere."""
        parts = tuple(
            tuple((number_of_json(lo), number_of_json(hi), bool(real)) for lo, hi, real in kind)
            for kind in row["parts"]
        )
        layers = None if row["layers"] is None else int(row["layers"])
        return Refutation(row["claim"], parts, language, pattern_of_json(row["pattern"]), layers, str(row["seal"]))


def plain_parts(sets: Any) -> tuple[tuple[float, float, bool], ...]:
    """Intervals of real numbers as (lo, hi, True), other sets by their moduli as (lo, hi, False)."""
    return tuple((s.lo, s.hi, True) if isinstance(s, Interval) else (s.abs.lo, s.abs.hi, False) for s in sets)


# ------------------------------------------------------------------------------------------------------ what is sampled
def transitions(kind: Architecture | System) -> Iterator[torch.Tensor]:
    """Matrices A_t [many, N, N] of random signals, a third of their entries at ends; of a system its own."""
    if isinstance(kind, System):
        yield _flat(kind.dense())
        return
    generator, heads = torch.Generator().manual_seed(0), heads_for(kind)
    for n in SIZES:
        signals, u = kind.sample(8, 16, heads, n, 1, generator=generator, ends=0.3)
        yield _flat(transition(kind, signals, u))


def _flat(A: torch.Tensor) -> torch.Tensor:
    A = A.reshape(-1, *A.shape[-2:]).to(torch.complex128)
    return A[A.isfinite().all(-1).all(-1)]


def _held(A: torch.Tensor, parts: tuple[tuple[float, float, bool], ...]) -> bool:
    """Do all eigenvalues lie in the parts, up to the rounding of a solver on defective 3 x 3 matrices?"""
    values = torch.linalg.eigvals(A)
    slack = 1e-5 * torch.linalg.matrix_norm(A).clamp(min=1)[:, None]
    inside = torch.zeros_like(values, dtype=torch.bool)
    for lo, hi, real in parts:
        size = values.real if real else values.abs()
        here = (size >= lo - slack) & (size <= hi + slack)
        inside |= here & (values.imag.abs() <= slack) if real else here
    outside = A[~inside.all(-1)]
    return not len(outside) or len(outside) <= EXACTLY and all(_held_exactly(M, parts) for M in outside)


def _held_exactly(A: torch.Tensor, parts: tuple[tuple[float, float, bool], ...]) -> bool:
    """The same in exact arithmetic, of a small real matrix: a solver scatters the eigenvalues of a defective one."""
    from sympy import Matrix, Poly, Rational, Symbol

    if A.imag.abs().max() > 0 or len(A) > EXACTLY or not all(real for _, _, real in parts):
        return False
    M, ends = Matrix(A.real.tolist()).applyfunc(Rational), [(lo, hi) for lo, hi, _ in parts]
    inside = 0
    for factor, multiplicity in Poly(M.charpoly(Symbol("x")).as_expr()).sqf_list()[1]:
        inside += multiplicity * sum(
            factor.count_roots(*(Rational(e) if math.isfinite(e) else None for e in pair)) for pair in ends
        )
    return inside == len(A)


def _one_family(A: torch.Tensor) -> bool:
    """Do all shrink in the 2-norm, or are all triangular in one order with diagonals >= 0? Few sampled products tell
    little: those of a family in neither may leave the unit disc at some word of six letters."""
    size = 1e-9 * torch.linalg.matrix_norm(A).clamp(min=1)[:, None, None]
    lower, upper = ((part(A, k).abs() <= size).all() for part, k in ((torch.triu, 1), (torch.tril, -1)))
    d = A.diagonal(dim1=-2, dim2=-1)
    triangular = bool((lower | upper) & (d.real >= -size[..., 0]).all() & (d.imag.abs() <= size[..., 0]).all())
    return triangular or bool((torch.linalg.matrix_norm(A, 2) <= 1 + 1e-9).all())


def _products(A: torch.Tensor) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    for length in range(2, LENGTH + 1):
        word = torch.randint(len(A), (length, PRODUCTS), generator=generator)
        P = A[word[0]]
        for w in word[1:]:
            P = A[w] @ P
        yield P


def _settled(P: torch.Tensor) -> bool:
    """Is every eigenvalue inside the unit disc, or real and >= 0? (Near 1, a small angle is the solver's.)"""
    values = torch.linalg.eigvals(P)
    positive = (values.imag.abs() <= 1e-2 * values.abs()) & (values.real > 0)
    return bool(((values.abs() < 1 - 1e-6) | positive).all())


def _diagonal(A: torch.Tensor) -> bool:
    return bool((A - torch.diag_embed(A.diagonal(dim1=-2, dim2=-1))).abs().max() == 0)


def is_constant(kind: Architecture | System) -> bool:
    """Do other tokens with the same constants leave A as it is?"""
    if isinstance(kind, System):
        return kind.length == 1
    generator, heads = torch.Generator().manual_seed(0), heads_for(kind)
    (one, u), (two, v) = (kind.sample(2, 8, heads, 3, generator=generator, ends=0.2) for _ in range(2))
    mixed = {k: one[k] if d.const else two[k] for k, d in kind.signals.items()}
    return torch.equal(*torch.broadcast_tensors(transition(kind, one, u), transition(kind, mixed, v)))


def averages(a: Architecture) -> bool:
    """Of equal drives the average is that drive; the order of the past does not matter; no weight is negative."""
    signals, u = _moderate(a)
    y = scan(a(**signals), u)[0]
    order = torch.cat(
        [torch.randperm(u.shape[1] - 1, generator=torch.Generator().manual_seed(2)), torch.tensor([u.shape[1] - 1])]
    )
    turned = {k: s if a.signals[k].const else s[:, order] for k, s in signals.items()}
    z = scan(a(**turned), u[:, order])[0]
    ones = scan(a(**signals), torch.ones_like(u))[0]
    positive = scan(a(**signals), u.abs())[0]
    same = (y[:, -1] - z[:, -1]).abs().max() < 1e-9 and (ones - 1).abs().max() < 1e-9
    return bool(same and (positive >= 0).all())


def fades(a: Architecture, window: bool) -> bool:
    """Infinite features: the decay of a step lies in [0, 1] and is one number; or only a window is seen."""
    signals, u = _moderate(a)
    system = a(**signals)
    if not isinstance(system, System):
        return False
    n = u.shape[1]
    y = scan(system, u)[0]
    if window:  # tokens before the window do not matter
        A = system.A
        slots = next((s for s in (getattr(A, "slots", 0), getattr(getattr(A, "right", None), "slots", 0)) if s), n)
        moved = u.clone()
        moved[:, : max(0, n - slots)] += 1
        return slots < n and bool((scan(system, moved)[0][:, -1] - y[:, -1]).abs().max() < 1e-9)
    # one more repetition of a letter changes the output less and less
    first = {k: s if a.signals[k].const else s[:, :1].expand(-1, AGAIN, *s.shape[2:]) for k, s in signals.items()}
    again = scan(a(**first), u[:, :1].expand(-1, AGAIN, *u.shape[2:]))[0]
    change = (again[:, 1:] - again[:, :-1]).abs().amax((0, 2, 3))
    return bool(change[-1] <= torch.maximum(change[len(change) // 4] / 2, 1e-9 * again.abs().max().clamp(min=1)))


def _moderate(a: Architecture) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    return a.sample(2, 24, heads_for(a), 3, 2, generator=torch.Generator().manual_seed(3), ends=0.0)
