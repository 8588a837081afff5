"""The least change that turns a "no" into a "yes". Every change that is named was decided, and its witness run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import dsf
from dsf import (
    Architecture,
    Each,
    I,
    Interval,
    Matrix,
    Scalar,
    System,
    Unit,
    UnitDisc,
    Vector,
    architecture,
    diag,
    microsteps,
    outer,
)
from dsf.domains import Domain
from dsf.sets import Set

WIDER: tuple[Set, ...] = (Interval(0, 1), Interval(0, 2), Interval(-1, 1), UnitDisc)
NAMED_SETS = {"UnitDisc": UnitDisc, "LeftHalfPlane": dsf.LeftHalfPlane, "Complex": dsf.Complex}


def fix_for(f: Any, recognizes: Callable[..., Any]) -> str | None:
    """What would change the answer, as a sentence: from the smallest change to another kind of transition, or None.

    f: the question whose answer is "no". Order: more layers, a wider domain, a signal that depends on the token, both
    at once, another structure; as many layers as were asked for go before more of them.
    """

    def layers_of(x: Any, layers: int | None) -> str | None:
        found = recognizes(x, f.language, layers, f.precision)
        return found.layers if found.answer else None

    depths = list(dict.fromkeys((f.layers, None)))
    if f.layers is not None and (deep := layers_of(f.subject, None)):
        return f"more layers: a yes with {deep}"
    changes = list(_changes(f))
    for layers in depths:
        for text, changed in changes:
            if deep := layers_of(changed, layers):
                return f"{text} gives a yes with {deep}"
    for layers in depths:
        for text, structure in _structures().items():
            if deep := layers_of(structure, layers):
                return f"another kind of transition, {text}, by the token: a yes with {deep}"
    return None


def _changes(f: Any) -> Iterator[tuple[str, Any]]:
    """The subject with one signal changed, the smallest changes first; a model of several kinds in one of them."""
    subjects = [k.subject for k in f.kinds]
    for wider, by_token in ((True, False), (False, True), (True, True)):
        for i, a in enumerate(subjects):
            for name, d in a.signals.items() if isinstance(a, Architecture) else ():
                if by_token and (not d.const or d.value):
                    continue
                for domain in _wider(d) if wider else (d,):
                    domain = replace(domain, const=False) if by_token else domain
                    domains = {name: domain} | (_complex(a, name) if domain.set == UnitDisc else {})
                    changed = a.with_domain(**domains)
                    if not _works(changed):
                        continue
                    how = ["depend on the token"] * by_token + [f"reach {_said(domain.set)}"] * wider
                    whose = f" of {a.title}" if len(subjects) > 1 else ""
                    code = ", ".join(f"{signal}={_code(each)}" for signal, each in domains.items())
                    text = f"let {name}{whose} {' and '.join(how)}: with_domain({code})"
                    yield text, changed if len(subjects) == 1 else (*subjects[:i], changed, *subjects[i + 1 :])


def _complex(a: Architecture, name: str) -> dict[str, Domain]:
    """The other free real vectors as complex ones: a state that turns is read and written by complex numbers."""
    free = {k: d for k, d in a.signals.items() if k != name and d.kind == "vector" and not (d.unit or d.ball)}
    return {k: d(dsf.Complex) for k, d in free.items() if not d.value and d.set == Interval()}


def _wider(d: Domain) -> Iterator[Domain]:
    """Domains of the same kind, each wider than a bounded real one."""
    free = d.kind in ("scalar", "vector") and not (d.unit or d.ball or d.value)
    if free and isinstance(d.set, Interval) and d.set.bounded:
        for wide in WIDER:
            if wide != d.set and d.set.lo in wide and d.set.hi in wide:
                yield d(wide)  # type: ignore[arg-type]


def _works(a: Architecture) -> bool:
    """Does the body take these domains? Not every function is defined on complex numbers."""
    try:
        a.bounds()
    except (TypeError, ValueError, AttributeError):
        return False
    return True


@cache
def _structures() -> dict[str, Architecture]:
    """Other kinds of transitions, the cheapest to compute first, each as it is said."""

    def gates(q=Vector, k=Vector, a=Vector(0, 1)):
        return System(A=diag(a), B=k, C=q)

    def signs(q=Vector, k=Vector, a=Vector(-1, 1)):
        return System(A=diag(a), B=k, C=q)

    def phases(q=Vector(dsf.Complex), k=Vector(dsf.Complex), a=Vector(UnitDisc)):
        return System(A=diag(a), B=k, C=q)

    def reflection(q=Vector, k=Unit, beta=Scalar(0, 2)):
        return System(A=I - beta * outer(k), B=beta * k, C=q)

    def reflections(q=Vector, k=Each(Unit, 2), beta=Each(Scalar(0, 2), 2)):
        return microsteps(System(A=I - beta * outer(k), B=beta * k, C=q))

    def dense(q=Vector, k=Vector, M=Matrix):
        return System(A=M, B=k, C=q)

    said = {
        "diag(a) with a in [0, 1]": gates,
        "diag(a) with a in [-1, 1]": signs,
        "diag(a) with complex |a| <= 1": phases,
        "a Householder factor I - beta k k^T with |k| = 1 and beta in [0, 2]": reflection,
        "two Householder factors I - beta k k^T with |k| = 1 and beta in [0, 2]": reflections,
        "a dense matrix": dense,
    }
    return {text: architecture(text, register=False)(body) for text, body in said.items()}


def _code(d: Domain) -> str:
    """A domain as it is written in Python."""
    written = "Unit" if d.unit else "Ball" if d.ball else d.kind.capitalize() + _ends(d.set)
    for wrapper, wraps in (
        (f"Each({{}}, {d.steps})", d.steps),
        ("First({})", d.first),
        (f"Shared({{}}, {d.groups})", d.groups),
        (f"{d.dependence.capitalize()}({{}})", d.dependence in ("window", "prefix")),
        ("Param({})", d.const),
    ):
        written = wrapper.format(written) if wraps else written
    return written


def _ends(s: Set) -> str:
    if not isinstance(s, Interval):
        return f"({_said(s)})"
    lo, hi = (repr(int(e) if e == int(e) else float(e)) if math.isfinite(e) else str(e) for e in (s.lo, s.hi))
    return "" if s == Interval() else f"({lo}, {hi})"


def _said(s: Set) -> str:
    return next((name for name, known in NAMED_SETS.items() if s == known), repr(s))
