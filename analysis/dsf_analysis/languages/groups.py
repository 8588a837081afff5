"""Groups by their right multiplication: how many layers of abelian (or of sign) steps one takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from sympy.combinatorics import Permutation, PermutationGroup

FEW = 32  # elements that are gone through one by one: monoids have thousands of small groups


def group_of(permutations: Iterable[Sequence[int]]) -> Any:
    """The sympy group that some permutations (images of 0..n-1) generate; those that add nothing are left out."""
    chosen: list[Any] = []
    group: Any = None
    for images in permutations:
        p = Permutation(list(images))
        if group is None or not group.contains(p):
            chosen.append(p)
            group = PermutationGroup(chosen)
    if group is None:
        raise ValueError("a group needs at least one permutation")
    return group


class Group:
    """A finite group of elements 0 (the identity) .. order - 1; times(j)[i] is i j, [order].

    Its cost is linear in the order: no table of products is made, and subgroups are orbits of their generators.

    >>> cyclic = Group(4, lambda j: (np.arange(4) + j) % 4)
    >>> cyclic.abelian, cyclic.derived_length, cyclic.sign_length
    (True, 1, 2)
    """

    def __init__(self, order: int, times: Callable[[int], np.ndarray]) -> None:
        self.order, self._times = order, times
        self._known: dict[int, np.ndarray] = {}

    def times(self, j: int) -> np.ndarray:
        if j not in self._known:
            self._known[j] = self._times(j)
        return self._known[j]

    def _product(self, *elements: int) -> int:
        found = elements[0]
        for j in elements[1:]:
            found = int(self.times(j)[found])
        return found

    def _inverse(self, *elements: int) -> int:
        """Of the product of some elements."""
        onto = np.arange(self.order)
        for j in elements:
            onto = self.times(j)[onto]
        return int(np.flatnonzero(onto == 0)[0])

    def generated(self, elements: Sequence[int]) -> np.ndarray:
        """Which elements lie in the subgroup that these generate, [order]."""
        if not elements:
            return np.arange(self.order) == 0
        if self.order <= FEW:
            moves, queue = [self.times(j).tolist() for j in elements], [0]
            inside = np.zeros(self.order, dtype=bool)
            inside[0] = True
            for i in queue:
                for move in moves:
                    if not inside[move[i]]:
                        inside[move[i]] = True
                        queue.append(move[i])
            return inside
        rows, columns = np.tile(np.arange(self.order), len(elements)), np.concatenate([*map(self.times, elements)])
        graph = csr_matrix((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(self.order, self.order))
        orbit = connected_components(graph, directed=False)[1]
        return orbit == orbit[0]

    @cached_property
    def generators(self) -> tuple[int, ...]:
        """A few elements that generate it: the first one that those before it do not."""
        chosen: list[int] = []
        while not (inside := self.generated(chosen)).all():
            chosen.append(int(np.argmin(inside)))
        return tuple(chosen)

    def _normal(self, generators: Sequence[int], seeds: Iterable[int]) -> list[int]:
        """Generators of the smallest normal subgroup of <generators> that holds the seeds."""
        chosen: list[int] = []
        queue, inside = list(seeds), self.generated([])
        for k in queue:
            if not inside[k]:
                chosen.append(k)
                inside = self.generated(chosen)
                queue += [self._product(self._inverse(g), k, g) for g in generators]
        return chosen

    def _steps(self, squares: bool) -> float:
        """Steps of the series of commutators (and squares) down to 1; oo where it stops before."""
        generators, size, steps = list(self.generators), self.order, 0
        while size > 1:
            seeds = [self._product(self._inverse(h, g), g, h) for g in generators for h in generators]  # g' h' g h
            seeds += [self._product(g, g) for g in generators] if squares else []
            generators = self._normal(generators, seeds)
            below = int(self.generated(generators).sum())
            if below == size:
                return math.inf
            size, steps = below, steps + 1
        return steps

    @cached_property
    def derived_length(self) -> float:
        """Steps with abelian factors from G to 1: oo where G is not solvable."""
        return self._steps(squares=False)

    @cached_property
    def sign_length(self) -> float:
        """Steps G > <squares of G> > ... to 1, each with factors C2 x ... x C2: oo unless G is a 2-group."""
        return self._steps(squares=True)

    @property
    def abelian(self) -> bool:
        return self.derived_length <= 1

    @property
    def solvable(self) -> bool:
        return math.isfinite(self.derived_length)
