"""Where the eigenvalues of A_t lie: over all inputs (an architecture), or of given numbers (a system, a layer)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch

from dsf import Architecture, Feedback, System
from dsf.enclosures import enclose
from dsf.exact_eigenvalues import eigenvalues
from dsf.features import Features
from dsf.operators import Dense
from dsf.reference import scan
from dsf.sets import Interval, Polar, Set, hull

from .exact_roots import NotCertified
from .exact_spectra import MOST, Certified, certified
from .extreme_tokens import Extreme, extremes_of, is_real
from .subjects import PAST, hint, some_steps, steps_of

GAUGE = "the state as the body writes it; a constant change of basis leaves the eigenvalues as they are"
INVARIANT = ("const", "token")  # a change of basis T_t that depends on the past moves the eigenvalues of anything else
STEPS = 64  # of a long trajectory or a converted layer's input, so many steps are looked at, evenly spaced
POINTS = "numerical `values`, rounded to doubles: not certified themselves"  # of a set that is


class NotInvariant(ValueError):
    """The eigenvalues of this operator are no property of the map from inputs to outputs."""


@dataclass(frozen=True)
class Spectrum:
    """A closed set that holds the eigenvalues: the union of `parts`, with what it speaks of and how it is known."""

    parts: tuple[Set, ...]
    subject: str  # "A_t over all inputs", "A_t of these numbers", "the Jacobian of (x, y) along this trajectory"
    how: tuple[str, ...]  # lemmas, or the way it was measured
    gauge: str = GAUGE
    dependence: str = "const"
    values: torch.Tensor | None = None  # the eigenvalues themselves, where the subject is numbers
    certified: bool = False  # by lemmas, by the structure (up to the rounding of its formula), or in exact arithmetic
    extremes: tuple[Extreme, ...] = ()  # of a converted layer: where its text has them, among the steps looked at

    def __contains__(self, z: complex) -> bool:
        return any(z in part for part in self.parts)

    @property
    def nonnegative(self) -> bool:
        """Are all eigenvalues real and >= 0?"""
        return bool(self.parts) and all(isinstance(part, Interval) and part.lo >= 0 for part in self.parts)

    @property
    def real(self) -> bool:
        return bool(self.parts) and all(isinstance(part, Interval) for part in self.parts)

    @property
    def radius(self) -> float:
        """The largest modulus."""
        return max(part.abs.hi for part in self.parts)

    def __repr__(self) -> str:
        return f"{' u '.join(map(repr, self.parts))}  ({self.subject}; {'; '.join(self.how)})"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "parts": [repr(p) for p in self.parts],
            "real": self.real,
            "radius": self.radius if math.isfinite(self.radius) else None,
            "subject": self.subject,
            "how": list(self.how),
            "gauge": self.gauge,
            "dependence": self.dependence,
            "certified": self.certified,
            "extremes": [extreme.to_dict() for extreme in self.extremes],
        }


def spectrum(x: Any, u: torch.Tensor | None = None, split: int = 1) -> Spectrum:
    """The set in which the eigenvalues of A_t lie.

    An Architecture: over ALL inputs, by the lemmas of dsf.enclosures. A System: of its numbers, exact where the
    structure knows them, else proved in exact arithmetic where n and the number of matrices are small (`certified` of
    exact_spectra), else numerical. A converted layer: the same, at up to 64 steps of its input. A Feedback system with
    its drive u, or a layer of one: of the Jacobian of (x, y) along the trajectory. split > 1 cuts bounded scalar
    domains into so many pieces, which tightens repeated signals.

    Raises NotInvariant (a ValueError) for operators that are functions of a window, a prefix or the state: a change of
    basis moves their eigenvalues at will; TypeError for anything else.

    >>> import dsf
    >>> dsf.spectrum(dsf.architecture_named("deltanet")).parts
    ([0, 1],)
    """
    if hasattr(x, "architecture") and hasattr(x, "drive"):  # a converted layer: its system along its own input
        return _of_layer(x)
    if isinstance(x, Architecture):
        return _of_architecture(x, split)
    if isinstance(x, Feedback):
        if u is None:
            raise TypeError("a feedback system has its Jacobians along a trajectory: spectrum(system, u)")
        return _of_trajectory(x, u)
    if isinstance(x, System):
        return _of_system(x)
    got = f"{type(x).__name__}{hint(x)}"
    raise TypeError(f"spectrum takes an architecture, a system or a converted layer, got {got}")


def _of_architecture(a: Architecture, split: int) -> Spectrum:
    bounds = a.bounds()
    dependence = bounds.dependence()["A"]
    refuse(a.title, dependence)
    parts: list[Set] = []
    lemmas: dict[str, None] = {}
    for cut in _boxes(a, split):
        enclosure = enclose(a.bounds(**cut).A)
        parts += enclosure.parts
        lemmas |= dict.fromkeys(enclosure.lemmas)
    subject = "A_t over all inputs"
    if isinstance(bounds.B, Features):
        subject += ", on infinitely many features"
    return Spectrum(merged(parts), subject, tuple(lemmas), dependence=dependence, certified=True)


def refuse(title: str, dependence: str) -> None:
    """Raises NotInvariant where an A_t of this dependence has no eigenvalues that belong to the map."""
    if dependence in INVARIANT:
        return
    of = PAST[dependence]
    remedy = "; the Jacobian along a trajectory is: spectrum(system, u)" if dependence == "state" else ""
    raise NotInvariant(f"A_t of {title} is a function of {of}, so its eigenvalues are no invariant of the map{remedy}")


def _boxes(a: Architecture, split: int) -> list[dict[str, Set]]:
    """The bounded scalar domains cut into `split` pieces each: all combinations.

    Not those of micro-steps: a signal may lie in another piece at each of them, and a vector's entries may too.
    """
    if not isinstance(split, int) or split < 1:
        raise ValueError(f"split is a number of pieces >= 1, got {split}")
    cuts: dict[str, list[Set]] = {}
    for name, d in a.signals.items():
        if d.kind == "scalar" and not d.steps and isinstance(d.set, Interval) and d.set.bounded:
            width = (d.set.hi - d.set.lo) / split
            ends = [d.set.lo + i * width for i in range(split)] + [d.set.hi]
            cuts[name] = [Interval(lo, hi) for lo, hi in itertools.pairwise(ends)]
    if split == 1 or not cuts:
        return [{}]
    return [dict(zip(cuts, box, strict=True)) for box in itertools.product(*cuts.values())]


def _of_system(s: System) -> Spectrum:
    dependence = s.dependence()["A"]
    refuse("this system", dependence if dependence != "unknown" else "token")
    infinite = isinstance(s.B, Features)  # A has one eigenvalue, as often as there are features
    values = eigenvalues(s.A, 1 if infinite else s.state_size)
    if values is None:
        parts, how, values = _of_matrices(s)
    else:
        parts, how = _enclosing(values), ("exact, by the structure of A",)
    gauge = GAUGE if dependence in INVARIANT else "as written; of what A_t is a function is not known for a bare system"
    subject = "A_t of these numbers" + (", on infinitely many features" if infinite else "")
    proved = not how[-1].startswith("numerical")
    return Spectrum(parts, subject, how, gauge, dependence, values, proved)


def _of_matrices(s: System) -> tuple[tuple[Set, ...], tuple[str, ...], torch.Tensor]:
    """The set, how it is known, and the eigenvalues, where the structure does not tell them."""
    formed = s.dense()
    A = formed.float() if formed.dtype in (torch.float16, torch.bfloat16) else formed
    if not torch.isfinite(A).all():
        return _enclosing(A), (), A  # which refuses it
    try:
        found = certified(A)
    except NotCertified as reason:
        values = torch.linalg.eigvals(A)
        how = f"numerical (torch.linalg.eigvals): not certified ({reason}), and ill-conditioned where A is defective"
        return _enclosing(values), (how,), values
    if not found:
        return _enclosing(A), (), A
    rounded = "" if isinstance(s.A, Dense) else f", of A_t as rounded to {str(formed.dtype).removeprefix('torch.')}"
    if A.is_complex():
        values = torch.linalg.eigvals(A)
    else:
        values = torch.tensor([one.values for one in found], dtype=torch.complex128, device=A.device)
    how = f"{found[0].how}, {len(found)} matrices, at most {MOST} different ones{rounded}"
    return _around(found), (POINTS, how), values.reshape(A.shape[:-1])


def _around(found: Iterable[Certified]) -> tuple[Set, ...]:
    """As `_enclosing`, but proved: the end points are rounded outwards."""
    roots = [root for one in found for root in one.roots]
    parts: list[Set] = []
    if reals := [root.interval for root in roots if root.real]:
        parts.append(hull(list(reals)))
    if others := [root.modulus for root in roots if not root.real]:
        parts.append(Polar(Interval(min(r.lo for r in others), max(r.hi for r in others))))
    return tuple(parts)


def _of_layer(layer: Any) -> Spectrum:
    """Of its numbers at some steps: those of all steps and heads can be larger than the model."""
    chosen = some_steps(layer.length, STEPS)
    if layer.architecture.feedback:
        found = _of_trajectory(layer.system, layer.drive, layer.state)
    else:
        found = _of_system(steps_of(layer, chosen))
        if len(chosen) < layer.length:
            found = replace(found, how=(*found.how, f"at {len(chosen)} of {layer.length} steps"))
    assert found.values is not None
    return replace(found, extremes=extremes_of(found.values, chosen, *layer.drive.shape[:3:2]))


def _of_trajectory(f: Feedback, u: torch.Tensor, state: Any = None) -> Spectrum:
    """Jacobians at up to STEPS steps: the trajectory is run once, states kept only where they are needed."""
    T = u.shape[1]
    if T == 0:
        raise ValueError("a trajectory needs at least one step: u has T = 0")
    chosen = some_steps(T, STEPS)
    values, start = [], 0
    with torch.no_grad():
        for t in chosen:
            if t > start:
                state = scan(f.slice(start, t), u[:, start:t], state)[1]
            state = f.zero_state(u) if state is None else state
            start = t
            values.append(torch.linalg.eigvals(f.jacobian(t, state, u[:, t])))
    eig = torch.stack(values, 1)
    how = f"numerical, at {len(chosen)} of {T} steps"
    subject = "the Jacobian of (x, y) along this trajectory"
    return Spectrum(_enclosing(eig), subject, (how,), "Lyapunov exponents are invariant, these are not", "state", eig)


def _enclosing(values: torch.Tensor) -> tuple[Set, ...]:
    """The smallest interval that holds the real ones, and the smallest annulus that holds the rest."""
    z = values.detach().flatten()
    if not len(z):
        raise ValueError("a spectrum needs at least one step, sequence and head: this system has none")
    if not torch.isfinite(z).all():
        raise ValueError("A_t holds NaN or infinity, so it has no eigenvalues")
    parts: list[Set] = []
    real = is_real(z)
    reals = (z.real if z.is_complex() else z)[real]
    if reals.numel():
        parts.append(Interval(reals.min().item(), reals.max().item()))
    others = z[~real].abs()
    if others.numel():
        parts.append(Polar(Interval(others.min().item(), others.max().item())))
    return tuple(parts)


def merged(parts: list[Set]) -> tuple[Set, ...]:
    """Overlapping intervals joined, full annuli joined, sets inside another dropped."""
    annuli: list[Set] = [p for p in parts if isinstance(p, Polar) and p.full]
    disc = hull(annuli) if annuli else None
    intervals: list[Interval] = []
    for p in sorted((p for p in parts if isinstance(p, Interval)), key=lambda p: p.lo):
        if intervals and p.lo <= intervals[-1].hi:
            intervals[-1] = intervals[-1].hull(p)
        elif not (disc and p.abs.hi <= disc.abs.hi and p.abs.lo >= disc.abs.lo):
            intervals.append(p)
    others = [p for p in dict.fromkeys(parts) if not isinstance(p, Interval) and p not in annuli]
    return (*intervals, *([disc] if disc else []), *others)
