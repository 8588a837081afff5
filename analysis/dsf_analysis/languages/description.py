"""All that is known of a regular language, as lines to read and as plain data."""

from __future__ import annotations

import math
from typing import Any

from .automaton import Automaton
from .classes import Algebra, Subgroup
from .holonomy import Cascade
from .sources import Language

ROWS, COLUMNS, BLOCKS = 40, 12, 12  # that are printed of tables
LONGEST = 60  # characters of a title
LABEL = 24  # characters of a list of letters


def to_dict(language: Language) -> dict[str, Any]:
    """Its automaton, its syntactic monoid, its cascade: None where `unknown` says which cap was reached."""
    algebra, cascade = language.algebra, language.cascade
    return {
        **{"language": language.title, "automaton": language.automaton.to_dict()},
        **{"monoid": algebra and algebra.to_dict(), "cascade": cascade and cascade.to_dict()},
        "unknown": dict(language.unknown),
    }


def lines(language: Language) -> list[str]:
    """The same, to read.

    >>> from .sources import language
    >>> print("\\n".join(lines(language("parity"))[1:4]))
              0      1
    -> (0)    (0)    ((1))
       ((1))  ((1))  (0)
    """
    a = language.automaton
    return [f"{shortened(language.title, LONGEST)}: a minimal automaton of {_many(a.size, 'state')}", *table(a), ""] + [
        f"{name:18s}  {said}" for name, said in [*_algebra(language), *_cascade(language)]
    ]


def table(a: Automaton) -> list[str]:
    """The automaton: a row for each state, in two circles where it accepts, a column for each letter or a few."""
    columns: dict[tuple[int, ...], list[str]] = {}
    for letter, to in zip(a.letters, a.maps.tolist(), strict=True):
        columns.setdefault(tuple(to), []).append(letter)
    shown = list(columns.items())[:COLUMNS]
    rows = [["", *(shortened(", ".join(letters), LABEL) for _, letters in shown)]]
    rows += [[circled(a, q), *(circled(a, to[q]) for to, _ in shown)] for q in range(min(a.size, ROWS))]
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    marks = ["->" if i == a.initial + 1 else "  " for i in range(len(rows))]
    found = [
        f"{mark} " + "  ".join(cell.ljust(w) for cell, w in zip(row, wide, strict=True)).rstrip()
        for mark, row in zip(marks, rows, strict=True)
    ]
    left = [_many(n, what) for n, what in ((a.size - ROWS, "state"), (len(columns) - COLUMNS, "column")) if n > 0]
    return found + [f"   ... and {' and '.join(left)} more, all of which --json prints"] * bool(left)


def circled(a: Automaton, q: int) -> str:
    return f"(({q}))" if q in a.accepting else f"({q})"


def shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 4] + " ..."


def _algebra(language: Language) -> list[tuple[str, str]]:
    algebra = language.algebra
    if algebra is None:
        why = f"unknown ({language.unknown['monoid']})"
        permutes = all(len(set(f)) == language.automaton.size for f in language.automaton.maps.tolist())
        names = ("aperiodic", "R-, L-, J-trivial", "quasi-aperiodic", "subgroups", "circuit class")
        return [("monoid", f"{why}; {_group(permutes)}"), *((name, why) for name in names)]
    triviality = (algebra.r_trivial, algebra.l_trivial, algebra.j_trivial)
    star_free = "yes: star-free" if algebra.aperiodic else f"no: {_periods(algebra)}"
    first, *others = [_subgroup(g) for g in algebra.subgroups[:BLOCKS]] or ["trivial ones only"]
    rest = len(algebra.subgroups) - BLOCKS
    others += [f"... and {rest} more"] * (rest > 0)
    return [
        ("monoid", f"{_many(algebra.size, 'element')}; {_group(algebra.group)}"),
        ("aperiodic", star_free),
        ("R-, L-, J-trivial", ", ".join(map(_yes, triviality))),
        ("quasi-aperiodic", _yes(algebra.quasi_aperiodic)),
        ("subgroups", first),
        *(("", text) for text in others),
        ("circuit class", algebra.circuit_class),
    ]


def _cascade(language: Language) -> list[tuple[str, str]]:
    cascade: Cascade | None = language.cascade
    if cascade is None:
        return [("holonomy cascade", f"unknown ({language.unknown['cascade']})")]
    levels = [f"{level['width']} wide, {level['kind']}" for level in cascade.to_dict()["levels"]]
    rest = [f"... and {len(levels) - BLOCKS} more"] * (len(levels) > BLOCKS)
    named = [("", f"  level {cascade.height - i}: {text}") for i, text in enumerate(levels[:BLOCKS])]
    return [("holonomy cascade", _many(cascade.height, "level")), *named, *(("", "  " + text) for text in rest)]


def _subgroup(g: Subgroup) -> str:
    length = f"derived length {g.derived_length}" if g.solvable else "not solvable"
    two = f", a 2-group ({_many(int(g.sign_length), 'step')} of signs)" if math.isfinite(g.sign_length) else ""
    kind = "abelian" if g.abelian else "not abelian"
    return f"order {g.order:,}, exponent {g.exponent}, {kind}, {length}{two}"


def _periods(algebra: Algebra) -> str:
    found = list(map(str, algebra.exponents))
    return f"{'period' if len(found) == 1 else 'periods'} {shortened(', '.join(found), LONGEST)}"


def _group(permutes: bool) -> str:
    return "a group" if permutes else "no group"


def _yes(x: bool) -> str:
    return "yes" if x else "no"


def _many(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"
