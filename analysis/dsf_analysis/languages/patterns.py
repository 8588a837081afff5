"""What in an automaton no network of a kind can follow: a few words that anyone can run to see it.

A pattern is the half of a certificate that speaks of the language. Its check runs words on the automaton, and shares no
code with the search for it, which reads the monoid.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .automaton import Automaton, Word

LARGEST = 200_000  # elements of a group that a check goes through


@dataclass(frozen=True)
class Period:
    """x u^k v is accepted for some k mod `period` and not for others: the language counts u mod `period`."""

    x: Word
    u: Word
    v: Word
    period: int

    def check(self, automaton: Automaton) -> bool:
        """Runs k = 0 .. 4 states: is membership, from some k on, periodic with exactly this period > 1?"""
        if not self.u or not 2 <= self.period <= automaton.size:
            return False
        q, bits = automaton.run(self.x), []
        for _ in range(3 * automaton.size + 3 * self.period):
            bits.append(automaton.run(self.v, q) in automaton.accepting)
            q = automaton.run(self.u, q)
        tail = bits[automaton.size :]
        fits = [p for p in range(1, self.period + 1) if all(a == b for a, b in zip(tail, tail[p:], strict=False))]
        return fits[:1] == [self.period]

    def said(self, a: Automaton) -> str:
        u, x, v = a.text(self.u), a.text(self.x), a.text(self.v)
        return f"it counts {u} mod {self.period}: x ({u})^k v, with x = {x}, v = {v}"


@dataclass(frozen=True)
class Permuting:
    """Words that permute some states, and the group that they make: each of its layers is a step of `series`."""

    words: tuple[Word, ...]
    points: tuple[int, ...]
    series: str  # "derived" | "sign"
    length: int | None  # None: the series never ends

    def check(self, automaton: Automaton) -> bool:
        """Are these permutations of reachable, pairwise different states, whose group has a series of that length?"""
        points, place = self.points, {q: i for i, q in enumerate(self.points)}
        reachable = automaton.words_to()
        if len(place) != len(points) or any(q not in reachable for q in points) or not all(self.words):
            return False
        if not automaton.tells_apart(points):
            return False
        images = [[place.get(automaton.run(w, q), -1) for q in points] for w in self.words]
        if not images or any(sorted(row) != list(range(len(points))) for row in images):
            return False
        group = [np.array(row, dtype=np.uint16 if len(points) <= 65_536 else np.int64) for row in images]
        order, steps = len(_products(group)), 0
        while 1 < order <= LARGEST:
            group = _normal(_commutators(group) + ([g[g] for g in group] if self.series == "sign" else []), group)
            if (below := len(_products(group))) == order:
                return self.length is None
            order, steps = below, steps + 1
        return order == 1 and self.length == steps

    def said(self, a: Automaton) -> str:
        words = ", ".join(map(a.text, self.words))
        ends = "never ends" if self.length is None else f"takes {self.length} steps"
        kind = "derived series" if self.series == "derived" else "series of squares"
        return f"the words {words} permute {len(self.points)} states, and the {kind} of that group {ends}"


def _products(group: list[np.ndarray]) -> set[bytes]:
    """All products of some permutations, the identity among them; it stops where they are too many."""
    one = np.arange(len(group[0]), dtype=group[0].dtype)
    found, queue = {one.tobytes()}, [one]
    for f in queue:
        for g in group:
            h = g[f]
            if (key := h.tobytes()) not in found:
                found.add(key)
                queue.append(h)
        if len(found) > LARGEST:
            break
    return found


def _commutators(group: list[np.ndarray]) -> list[np.ndarray]:
    return [f[g][np.argsort(g[f])] for f in group for g in group]


def _normal(some: list[np.ndarray], group: list[np.ndarray]) -> list[np.ndarray]:
    """Some permutations and their conjugates, as many as it takes to generate a normal subgroup of <group>."""
    chosen, inside, queue = [some[0]], _products(some[:1]), list(some)
    for f in queue:
        if f.tobytes() not in inside:
            chosen.append(f)
            inside = _products(chosen)
            queue += [g[f][np.argsort(g)] for g in group]
    return chosen


@dataclass(frozen=True)
class Clash:
    """For every k >= 1, exactly one of x1 u^k w1 v and x2 u^k w2 v is accepted, though they differ far from the end.

    kind "memory": w1, w2 are empty. "window": moreover |x1| = |x2|, and no word leaves the component of states that
    both reach, where they are already when x1 and x2 part (an early letter can be remembered). "average": x1 = x2, w1
    is empty, w2 begins u, and v is not empty.
    """

    kind: str
    x1: Word
    x2: Word
    u: Word
    w1: Word
    w2: Word
    v: Word

    def check(self, automaton: Automaton) -> bool:
        """u leads each state back to itself; the ends differ; and what the kind demands."""
        p, q = automaton.run(self.x1), automaton.run(self.x2)
        if not self.u or automaton.run(self.u, p) != p or automaton.run(self.u, q) != q:
            return False
        one, two = automaton.run(self.w1 + self.v, p), automaton.run(self.w2 + self.v, q)
        if (one in automaton.accepting) == (two in automaton.accepting):
            return False
        if self.kind == "average":
            begins = bool(self.w2) and self.u[: len(self.w2)] == self.w2
            return self.x1 == self.x2 and not self.w1 and begins and bool(self.v)
        if self.w1 or self.w2:
            return False
        if self.kind == "window":
            from_p = automaton.words_to(p)
            final = len(_leading_to(p, automaton, from_p)) == len(from_p)
            same = next((i for i, (a, b) in enumerate(zip(self.x1, self.x2, strict=False)) if a != b), 0)
            inside = automaton.run(self.x1[:same]) in from_p
            return len(self.x1) == len(self.x2) and q in from_p and final and inside
        return self.kind == "memory"

    def said(self, a: Automaton) -> str:
        one, two = (f"{a.text(x)} ({a.text(self.u)})^k {a.text((*w, *self.v))}" for x, w in self._sides)
        return f"it tells {one} from {two}, for every k"

    @property
    def _sides(self) -> tuple[tuple[Word, Word], tuple[Word, Word]]:
        return (self.x1, self.w1), (self.x2, self.w2)


def _leading_to(p: int, automaton: Automaton, states: Iterable[int]) -> set[int]:
    before: dict[int, set[int]] = {}
    for q in states:
        for r in automaton.table[q]:
            before.setdefault(r, set()).add(q)
    found, queue = {p}, [p]
    for r in queue:
        fresh = before.get(r, set()) - found
        found |= fresh
        queue += fresh
    return found


Pattern = Period | Permuting | Clash


def pattern_to_json(p: Pattern) -> dict[str, Any]:
    return {"pattern": type(p).__name__, **asdict(p)}


def pattern_of_json(row: dict[str, Any]) -> Pattern:
    """Of plain data. ValueError where it is none."""
    kinds = {"Period": Period, "Permuting": Permuting, "Clash": Clash}
    fields = {k: _tuples(v) for k, v in row.items() if k != "pattern"}
    try:
        return kinds[row["pattern"]](**fields)
    except (KeyError, TypeError) as error:
        raise ValueError(f"no pattern of a language: {error}") from None


def _tuples(x: Any) -> Any:
    return tuple(map(_tuples, x)) if isinstance(x, list) else x
