"""The syntactic monoid: the maps that words make on the states of the minimal automaton, and its Green's relations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from .automaton import Automaton, TooLarge, Word

MOST = 200_000  # elements
MOST_BYTES = 1_000_000_000  # of the table of maps and the two Cayley graphs


@dataclass(frozen=True)
class Monoid:
    """maps[i]: where element i takes each state, [N, states]; element 0 is the identity.

    right[i, a] is i followed by letter a, left[i, a] letter a followed by i; parent and letter spell each element.
    """

    maps: np.ndarray
    right: np.ndarray
    left: np.ndarray
    parent: np.ndarray
    letter: np.ndarray

    @property
    def size(self) -> int:
        return len(self.maps)

    def word(self, i: int) -> Word:
        """A shortest word of element i."""
        letters = []
        while i:
            letters.append(int(self.letter[i]))
            i = int(self.parent[i])
        return tuple(reversed(letters))

    def classes(self, *edges: np.ndarray) -> np.ndarray:
        """The strongly connected components of a Cayley graph: R-, L- or J-classes, numbered."""
        rows = np.repeat(np.arange(self.size), edges[0].shape[1])
        rows, columns = np.tile(rows, len(edges)), np.concatenate([e.reshape(-1) for e in edges])
        graph = csr_matrix((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(self.size, self.size))
        return connected_components(graph, connection="strong")[1]

    @cached_property
    def r_classes(self) -> np.ndarray:
        return self.classes(self.right)

    @cached_property
    def l_classes(self) -> np.ndarray:
        return self.classes(self.left)

    @cached_property
    def j_classes(self) -> np.ndarray:
        return self.classes(self.right, self.left)

    @cached_property
    def periods(self) -> np.ndarray:
        """periods[i]: the least p with i^(k+p) = i^k for large k, [N]."""
        limit = self.maps
        for _ in range(max(1, self.maps.shape[1] - 1).bit_length()):  # f^(2^m), 2^m >= states: on its cycles
            limit = np.take_along_axis(limit, limit, 1)
        periods = np.zeros(self.size, dtype=np.int64)
        open_ones, p, power = np.arange(self.size), 0, limit
        while len(open_ones):
            p += 1
            power = np.take_along_axis(self.maps[open_ones], power, 1)
            back = (power == limit[open_ones]).all(1)
            periods[open_ones[back]] = p
            open_ones, power = open_ones[~back], power[~back]
        return periods

    @cached_property
    def idempotents(self) -> np.ndarray:
        return np.flatnonzero((np.take_along_axis(self.maps, self.maps, 1) == self.maps).all(1))


def transition_monoid(automaton: Automaton, most: int = MOST) -> Monoid:
    """All maps that words make, breadth first. TooLarge where there are more than `most`, or memory for them is short.

    >>> from .named import named
    >>> transition_monoid(named("S3")).size
    6
    """
    letters = automaton.maps
    k, n = letters.shape
    kind = np.uint8 if n <= 256 else np.uint16 if n <= 65536 else np.int64
    letters = letters.astype(kind)
    most = min(most, MOST_BYTES // (4 * n * np.dtype(kind).itemsize + 16 * max(k, 1)))
    identity = np.arange(n, dtype=kind)
    number = {identity.tobytes(): 0}
    layers, parents, last = [identity[None]], [np.zeros(1, np.int64)], [np.full(1, -1)]
    start, frontier = 0, identity[None]
    while len(frontier):
        fresh, origins, by = [], [], []
        for a in range(k):
            products = letters[a][frontier]
            for i, row in enumerate(products):
                key = row.tobytes()
                if key not in number:
                    number[key] = len(number)
                    fresh.append(row)
                    origins.append(start + i)
                    by.append(a)
            if len(number) > most:
                raise TooLarge(f"the monoid has over {most:,} elements")
        start += len(frontier)
        frontier = np.array(fresh, dtype=kind).reshape(-1, n)
        if len(frontier):
            layers.append(frontier)
            parents.append(np.array(origins))
            last.append(np.array(by))
    maps = np.concatenate(layers)
    right, left = np.empty((len(maps), k), np.int64), np.empty((len(maps), k), np.int64)
    for a in range(k):
        right[:, a] = [number[row.tobytes()] for row in letters[a][maps]]
        left[:, a] = [number[row.tobytes()] for row in np.ascontiguousarray(maps[:, letters[a]])]
    return Monoid(maps, right, left, np.concatenate(parents), np.concatenate(last))
