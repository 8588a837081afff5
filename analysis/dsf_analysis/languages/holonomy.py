"""Krohn-Rhodes by holonomy: an automaton as a cascade of components that permute or reset their few states.

Sets of states that words make of all states (and the singletons) are ordered by P <= R iff P lies in some R . word.
Level l tells in which tile of the present set of height l the state lies; from the top to the bottom this closes in on
one state. A level permutes or resets its coordinate, by the letter and by the OLD coordinates above.
Source: Eilenberg 1976; Egri-Nagy and Nehaniv 2015 (recalled).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np

from .automaton import Automaton, TooLarge

MOST_SETS = 2_000  # of states, that words make
MOST_STEPS = 600_000  # of letters on states of sets, and on coordinates
Map = tuple[int, ...]
Action = tuple[str, tuple[int, ...]]  # ("permute", images of 0..w-1) | ("reset", (target,))


def then(f: Map, g: Map) -> Map:
    """First f, then g."""
    return tuple(g[i] for i in f)


def image(states: frozenset[int], f: Map) -> frozenset[int]:
    return frozenset(f[q] for q in states)


@dataclass(frozen=True)
class Cascade:
    """The holonomy decomposition; level 1 is the lowest, `height` the highest, which reads the letter alone."""

    automaton: Automaton
    representative: dict[frozenset[int], frozenset[int]]
    heights: dict[frozenset[int], int]
    into: dict[frozenset[int], Map]  # from the representative onto the set
    back: dict[frozenset[int], Map]  # and its inverse
    tiles: dict[frozenset[int], tuple[frozenset[int], ...]]  # of representatives

    @cached_property
    def height(self) -> int:
        return self.heights[self._all]

    @cached_property
    def _all(self) -> frozenset[int]:
        return frozenset(range(self.automaton.size))

    @cached_property
    def letters(self) -> tuple[Map, ...]:
        return tuple(tuple(row) for row in self.automaton.maps.tolist())

    def width(self, level: int) -> int:
        """How many states the component of a level has."""
        return self._widths.get(level, 1)

    @cached_property
    def _widths(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for R, tiles in self.tiles.items():
            found[self.heights[R]] = max(found.get(self.heights[R], 1), len(tiles))
        return found

    def encode(self, q: int) -> tuple[int, ...]:
        """The coordinates of a state, the highest level first."""
        P, found = self._all, []
        for level in range(self.height, 0, -1):
            c = 0
            if self.heights[P] == level:
                home = self.back[P][q]
                c = next(i for i, t in enumerate(self.tiles[self.representative[P]]) if home in t)
                P = self._tile(P, c)
            found.append(c)
        return tuple(found)

    def decode(self, coordinates: tuple[int, ...]) -> int:
        """The state of some coordinates, the highest level first."""
        P = self._all
        for level, c in zip(range(self.height, 0, -1), coordinates, strict=True):
            P = self._tile(P, c) if self.heights[P] == level else P
        (q,) = P
        return q

    def _tile(self, P: frozenset[int], c: int) -> frozenset[int]:
        if P not in self._parts:
            self._parts[P] = [image(tile, self.into[P]) for tile in self.tiles[self.representative[P]]]
        return self._parts[P][c]

    @cached_property
    def _parts(self) -> dict[frozenset[int], list[frozenset[int]]]:
        return {}

    def action(self, level: int, above: tuple[int, ...], letter: int) -> Action:
        """What a letter does to the component of a level, given the OLD coordinates above it."""
        old = new = self._all
        for at, c in zip(range(self.height, level, -1), above, strict=True):
            _, old, new = self._stepped(at, old, new, c, letter)
        return self._action(level, old, new, letter)

    def _stepped(
        self, level: int, old: frozenset[int], new: frozenset[int], c: int, letter: int
    ) -> tuple[int, frozenset[int], frozenset[int]]:
        """The coordinate of a level after a letter, and the present sets below the level, before and after it."""
        kind, what = self._action(level, old, new, letter)
        after = what[0] if kind == "reset" else what[c]
        old = self._tile(old, c) if self.heights[old] == level else old
        return after, old, self._tile(new, after) if self.heights[new] == level else new

    def _action(self, level: int, old: frozenset[int], new: frozenset[int], letter: int) -> Action:
        if self.heights[new] < level:  # the coordinate is not used: it holds
            return "permute", tuple(range(self.width(level)))
        if (old, new, letter) not in self._actions:
            self._actions[old, new, letter] = self._acted(level, old, new, self.letters[letter])
        return self._actions[old, new, letter]

    def _acted(self, level: int, old: frozenset[int], new: frozenset[int], f: Map) -> Action:
        tiles, moved = self.tiles[self.representative[new]], image(old, f)
        if moved == new:
            number, images = {tile: i for i, tile in enumerate(tiles)}, list(range(self.width(level)))
            for i in range(len(self.tiles[self.representative[old]])):
                images[i] = number[image(image(self._tile(old, i), f), self.back[new])]
            return "permute", tuple(images)
        home = image(moved, self.back[new])
        return "reset", (next(i for i, tile in enumerate(tiles) if home <= tile),)

    @cached_property
    def _actions(self) -> dict[tuple[frozenset[int], frozenset[int], int], Action]:
        return {}

    def kind(self, level: int) -> str:
        """What its component does: "holds", "resets", "permutes" or "permutes and resets"."""
        actions = self.actions(level).values()
        resets = any(kind == "reset" for kind, _ in actions)
        permutes = any(kind == "permute" and what != tuple(range(len(what))) for kind, what in actions)
        return " and ".join(["permutes"] * permutes + ["resets"] * resets) or "holds"

    @cached_property
    def aperiodic(self) -> bool:
        """Do all levels only hold and reset?"""
        return all("permutes" not in self.kind(level) for level in range(1, self.height + 1))

    def step(self, coordinates: tuple[int, ...], letter: int) -> tuple[int, ...]:
        """The coordinates after a letter: those of the state after it (tiles overlap, so a state has several)."""
        old = new = self._all
        found = []
        for level, c in zip(range(self.height, 0, -1), coordinates, strict=True):
            after, old, new = self._stepped(level, old, new, c, letter)
            found.append(after)
        return tuple(found)

    @cached_property
    def reachable(self) -> tuple[tuple[int, ...], ...]:
        """All coordinates that words reach from those of the initial state. TooLarge beyond a cap on steps to them."""
        found = dict.fromkeys([self.encode(self.automaton.initial)])
        queue = list(found)
        for c in queue:
            for a in range(len(self.letters)):
                after = self.step(c, a)
                if after not in found:
                    found[after] = None
                    queue.append(after)
            if len(found) * len(self.letters) * max(1, self.height) > MOST_STEPS:
                raise TooLarge(f"its coordinates take over {MOST_STEPS:,} steps: the cascade is not computed")
        return tuple(found)

    def actions(self, level: int) -> dict[tuple[tuple[int, ...], int], Action]:
        """The action for every (old coordinates above, letter) that comes up."""
        above = dict.fromkeys(c[: self.height - level] for c in self.reachable)
        return {(c, a): self.action(level, c, a) for c in above for a in range(len(self.letters))}

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON: the levels, the highest first."""
        levels = [{"level": n, "width": self.width(n), "kind": self.kind(n)} for n in range(self.height, 0, -1)]
        return {"height": self.height, "levels": levels, "aperiodic": self.aperiodic}


def cascade_of(automaton: Automaton) -> Cascade:
    """The holonomy decomposition. TooLarge where words make more than 2,000 sets of states.

    >>> from .named import named
    >>> cascade = cascade_of(named("flip-flop"))
    >>> cascade.height, cascade.width(1), cascade.kind(1)
    (1, 2, 'resets')
    """
    n, letters = automaton.size, [tuple(row) for row in dict.fromkeys(map(tuple, automaton.maps.tolist()))]
    sets, images = _sets(n, letters)
    number = {P: i for i, P in enumerate(sets)}
    sizes = np.array([len(P) for P in sets])
    member = np.zeros((len(sets), n), dtype=np.float32)
    for i, P in enumerate(sets):
        member[i, list(P)] = 1
    inside = (member @ member.T == sizes[:, None]) & (sizes[:, None] < sizes)  # [i, j]: is set i a part of set j
    classes = _classes(images, sizes)
    heights, representative, into, back = np.zeros(len(sets), dtype=np.int64), {}, {}, {}
    tiles: dict[frozenset[int], tuple[frozenset[int], ...]] = {}
    for members in classes:
        R = min((sets[i] for i in members), key=sorted)
        lower = heights[inside[:, members].any(1)].max(initial=0)
        beyond = max((int(heights[j]) for i in members for j in images[i]), default=0)  # members have 0 as yet
        heights[members] = 1 + max(lower, beyond) if len(R) > 1 else 0
        for P, f in _onto(number[R], images, set(members), sets, letters).items():
            inverse = list(range(n))
            for q in R:
                inverse[f[q]] = q
            representative[P], into[P], back[P] = R, f, tuple(inverse)  # f permutes R onto P: a word undoes it
        if len(R) > 1:
            tiles[R] = _largest(sets, inside, inside[:, number[R]], sizes)
    return Cascade(automaton, representative, {P: int(heights[i]) for i, P in enumerate(sets)}, into, back, tiles)


def _sets(n: int, letters: list[Map]) -> tuple[list[frozenset[int]], list[list[int]]]:
    """The images of all states under words, and the single states; images[i][a]: the number of set i after letter a."""
    found = dict.fromkeys([frozenset(range(n)), *(frozenset([q]) for q in range(n))])
    number, sets, images, work = {P: i for i, P in enumerate(found)}, list(found), [], 0
    for P in sets:
        row = []
        work += len(P) * len(letters)
        for f in letters:
            Q = image(P, f)
            if Q not in number:
                number[Q] = len(sets)
                sets.append(Q)
            row.append(number[Q])
        images.append(row)
        if len(sets) > MOST_SETS:
            raise TooLarge(f"words make over {MOST_SETS:,} sets of states: the cascade is not computed")
        if work > MOST_STEPS:
            raise TooLarge(f"its sets of states take over {MOST_STEPS:,} steps: the cascade is not computed")
    return sets, images


def _classes(images: list[list[int]], sizes: np.ndarray) -> list[list[int]]:
    """Sets that words lead to each other, and those first that lie lower."""
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(images)))
    graph.add_edges_from((i, j) for i, row in enumerate(images) for j in set(row) if sizes[i] == sizes[j])
    classes = nx.condensation(graph)
    lowest_first = [sorted(classes.nodes[c]["members"]) for c in nx.topological_sort(classes)][::-1]
    return sorted(lowest_first, key=lambda members: sizes[members[0]])


def _onto(
    start: int, images: list[list[int]], members: set[int], sets: list[frozenset[int]], letters: list[Map]
) -> dict[frozenset[int], Map]:
    """A word's map from one set of a class onto each of them."""
    found: dict[int, Map] = {start: tuple(range(len(letters[0]) if letters else 1))}
    queue = [start]
    for i in queue:
        for f, j in zip(letters, images[i], strict=True):
            if j in members and j not in found:
                found[j] = then(found[i], f)
                queue.append(j)
    return {sets[i]: f for i, f in found.items()}


def _largest(
    sets: list[frozenset[int]], inside: np.ndarray, left: np.ndarray, sizes: np.ndarray
) -> tuple[frozenset[int], ...]:
    """Of the sets that are left, those that lie in no other of them."""
    left, found = left.copy(), []
    for i in np.flatnonzero(left)[np.argsort(-sizes[left], kind="stable")].tolist():
        if left[i]:
            found.append(sets[i])
            left &= ~inside[:, i]
    return tuple(sorted(found, key=sorted))
