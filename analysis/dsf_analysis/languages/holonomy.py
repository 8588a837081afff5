"""Krohn-Rhodes by holonomy: an automaton as a cascade of components that permute or reset their few states.

Sets of states that words make of all states (and the singletons) are ordered by P <= R iff P lies in some R . word.
Level l tells in which tile of the present set of height l the state lies; from the top to the bottom this closes in on
one state. A level permutes or resets its coordinate, by the letter and by the OLD coordinates above.
Source: Eilenberg 1976; Egri-Nagy and Nehaniv 2015 (recalled).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from .automaton import Automaton, TooLarge

MOST_SETS = 2_000
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
        return max((len(t) for R, t in self.tiles.items() if self.heights[R] == level), default=1)

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
        return image(self.tiles[self.representative[P]][c], self.into[P])

    def action(self, level: int, above: tuple[int, ...], letter: int) -> Action:
        """What a letter does to the component of a level, given the OLD coordinates above it."""
        old, new, f = self._all, self._all, self.letters[letter]
        for at, c in zip(range(self.height, level, -1), above, strict=True):
            kind, what = self._action(at, old, new, f)
            after = what[0] if kind == "reset" else what[c]
            old = self._tile(old, c) if self.heights[old] == at else old
            new = self._tile(new, after) if self.heights[new] == at else new
        return self._action(level, old, new, f)

    def _action(self, level: int, old: frozenset[int], new: frozenset[int], f: Map) -> Action:
        if self.heights[new] < level:  # the coordinate is not used: it holds
            return "permute", tuple(range(self.width(level)))
        tiles, moved = self.tiles[self.representative[new]], image(old, f)
        if moved == new:
            images = list(range(self.width(level)))
            for i, tile in enumerate(self.tiles[self.representative[old]]):
                images[i] = tiles.index(image(image(image(tile, self.into[old]), f), self.back[new]))
            return "permute", tuple(images)
        home = image(moved, self.back[new])
        return "reset", (next(i for i, tile in enumerate(tiles) if home <= tile),)

    @cached_property
    def aperiodic(self) -> bool:
        """Do all levels only hold and reset?"""
        return all(
            kind == "reset" or what == tuple(range(len(what)))
            for level in range(1, self.height + 1)
            for kind, what in self.actions(level).values()
        )

    def actions(self, level: int) -> dict[tuple[tuple[int, ...], int], Action]:
        """The action for every (old coordinates above, letter) that some state has."""
        above = {self.encode(q)[: self.height - level] for q in range(self.automaton.size)}
        return {(c, a): self.action(level, c, a) for c in sorted(above) for a in range(len(self.automaton.letters))}


def cascade_of(automaton: Automaton) -> Cascade:
    """The holonomy decomposition. TooLarge where words make more than 2,000 sets of states.

    >>> from .named import named
    >>> cascade = cascade_of(named("flip-flop"))
    >>> cascade.height, cascade.width(1), cascade.aperiodic
    (1, 2, True)
    """
    n, letters = automaton.size, [tuple(row) for row in automaton.maps.tolist()]
    everything = frozenset(range(n))
    sets = set(_reach(everything, letters, n)) | {frozenset([q]) for q in range(n)}
    reach = {P: _reach(P, letters, n) for P in sets}
    representative: dict[frozenset[int], frozenset[int]] = {}
    classes: list[frozenset[int]] = []
    for P in sorted(sets, key=lambda P: (len(P), sorted(P))):
        home = next((R for R in classes if len(R) == len(P) and P in reach[R] and R in reach[P]), None)
        if home is None:
            classes.append(home := P)
        representative[P] = home
    heights = _heights(classes, reach)
    into, back = {}, {}
    for P in sets:
        R = representative[P]
        f, inverse = reach[R][P], reach[P][R]
        step = then(f, inverse)
        power = tuple(range(n))
        while any(then(then(f, inverse), power)[q] != q for q in R):  # a permutation of R: some power undoes it
            power = then(power, step)
        into[P], back[P] = f, then(inverse, power)
    tiles = {}
    for R in classes:
        if len(R) > 1:
            smaller = [X for X in sets if X < R]
            largest = [X for X in smaller if not any(X < Y for Y in smaller)]
            tiles[R] = tuple(sorted(largest, key=sorted))
    return Cascade(automaton, representative, {P: heights[representative[P]] for P in sets}, into, back, tiles)


def _reach(P: frozenset[int], letters: list[Map], n: int) -> dict[frozenset[int], Map]:
    found: dict[frozenset[int], Map] = {P: tuple(range(n))}
    queue = [P]
    for X in queue:
        for f in letters:
            Y = image(X, f)
            if Y not in found:
                found[Y] = then(found[X], f)
                queue.append(Y)
                if len(found) > MOST_SETS:
                    raise TooLarge(f"words make over {MOST_SETS:,} sets of states: the cascade is not computed")
    return found


def _heights(classes: list[frozenset[int]], reach: dict) -> dict[frozenset[int], int]:
    below = {R: [X for X in classes if X != R and any(X <= Y for Y in reach[R])] for R in classes}
    heights: dict[frozenset[int], int] = {}

    def height(R: frozenset[int]) -> int:
        if R not in heights:
            strictly = [X for X in below[R] if R not in below[X]]
            heights[R] = 0 if len(R) == 1 else 1 + max(map(height, strictly), default=0)
        return heights[R]

    for R in classes:
        height(R)
    return heights
