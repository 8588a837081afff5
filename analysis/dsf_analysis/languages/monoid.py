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
MOST_PRODUCTS = 4_000_000  # elements times letters, each a map that is looked up
MOST_LOOKED_UP = 2_100_000_000  # bytes of them
CHUNK = 500_000  # entries of maps that are looked at together


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
        """periods[i]: the least p with i^(k+p) = i^k for large k, [N]: it is the lcm of the lengths of i's cycles."""
        n = self.maps.shape[1]
        step = max(1, CHUNK // n)
        return np.concatenate([_periods(self.maps[i : i + step]) for i in range(0, self.size, step)])

    @cached_property
    def idempotents(self) -> np.ndarray:
        return np.flatnonzero((np.take_along_axis(self.maps, self.maps, 1) == self.maps).all(1))


def _periods(maps: np.ndarray) -> np.ndarray:
    count, n = maps.shape
    power, least = maps, np.broadcast_to(np.arange(n), maps.shape)  # least: of the states that follow each
    for _ in range(n.bit_length()):
        least = np.minimum(least, np.take_along_axis(least, power.astype(np.int64), 1))
        power = np.take_along_axis(power, power, 1)
    rows = np.arange(count)[:, None]
    on_cycle = np.zeros(maps.shape, dtype=bool)
    on_cycle[rows, power] = True
    lengths = np.zeros(maps.shape, dtype=np.int64)
    np.add.at(lengths, (np.broadcast_to(rows, maps.shape)[on_cycle], least[on_cycle]), 1)
    return np.lcm.reduce(np.maximum(lengths, 1), axis=1)


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
    size, k = n * np.dtype(kind).itemsize, max(k, 1)
    most = min(most, MOST_BYTES // (4 * size + 16 * k), MOST_PRODUCTS // k, MOST_LOOKED_UP // (k * size))
    frontier = np.arange(n, dtype=kind)[None]
    number = {frontier.tobytes(): 0}
    layers, parents, last = [frontier], [np.zeros(1, np.int64)], [np.full(1, -1)]
    rights, start = [], 0
    while len(frontier):
        fresh, origins, by = [], [], []
        right = np.empty((len(frontier), k), np.int64)
        for a in range(k):
            for i, row in enumerate(letters[a][frontier]):
                j = right[i, a] = number.setdefault(row.tobytes(), len(number))
                if j == start + len(frontier) + len(fresh):
                    fresh.append(row)
                    origins.append(start + i)
                    by.append(a)
            if len(number) > most:
                raise TooLarge(f"monoid over {most:,} elements")
        rights.append(right)
        start += len(frontier)
        frontier = np.array(fresh, dtype=kind).reshape(-1, n)
        layers.append(frontier)
        parents.append(np.array(origins, np.int64))
        last.append(np.array(by, np.int64))
    right = np.concatenate(rights)
    left = right[:1].copy()
    for parent, letter in zip(parents[1:], last[1:], strict=True):  # a (i b) = (a i) b
        left = np.concatenate([left, right[left[parent], letter[:, None]]])
    return Monoid(np.concatenate(layers), right, left, np.concatenate(parents), np.concatenate(last))
