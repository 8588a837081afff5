"""The least change that turns a "no" into a "yes": another domain of one signal; else another kind of transition."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dsf import Architecture, Interval
from dsf.domains import Domain

WIDER = ((0.0, 2.0), (-1.0, 1.0), (0.0, 1.0))


def fix_for(f: Any, recognizes: Callable[..., Any]) -> str:
    """What would change the answer, as a sentence; a domain is named where the new verdict is a yes that was run."""
    for kind in f.kinds:
        if not isinstance(kind.subject, Architecture):
            continue
        for name, domain in _wider(kind.subject):
            changed = kind.subject.with_domain(**{name: domain})
            found = recognizes(changed, f.language, f.layers, f.precision)
            if found.answer:
                lo, hi = (int(e) if e == int(e) else e for e in (domain.set.lo, domain.set.hi))  # type: ignore[union-attr]
                return f"let {name} reach [{lo}, {hi}]: with_domain({name}=...) gives a yes with {found.layers}"
    algebra = f.language.algebra
    if f.all(lambda k: k.constant):
        return "let A depend on the token"
    if algebra is not None and not algebra.solvable:
        return "transitions that do not commute: products of two Householder factors, or dense ones"
    if algebra is not None and algebra.aperiodic:
        return "a gate that holds (A = 1) and overwrites (A = 0) by the token"
    return "an eigenvalue -1, a complex phase, or two Householder factors per token, by the token"


def _wider(a: Architecture) -> Iterator[tuple[str, Domain]]:
    """Domains of one bounded signal at a time, each wider than it is."""
    for name, d in a.signals.items():
        if (
            d.const
            or d.kind not in ("scalar", "vector")
            or d.unit
            or d.ball
            or d.value
            or not isinstance(d.set, Interval)
        ):
            continue
        if not d.set.bounded:
            continue
        for lo, hi in WIDER:
            if lo <= d.set.lo and d.set.hi <= hi and (lo, hi) != (d.set.lo, d.set.hi):
                yield name, d(lo, hi)
