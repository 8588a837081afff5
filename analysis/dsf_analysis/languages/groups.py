"""Permutation groups: how many layers of abelian (or of sign) steps one takes, as sympy's groups know it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any

from sympy.combinatorics import Permutation, PermutationGroup

LARGEST = 200_000  # order of a group that is looked into


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


def derived_length(group: Any) -> float:
    """Steps with abelian factors from G to 1: oo where G is not solvable."""
    series = group.derived_series()
    return len(series) - 1 if series[-1].order() == 1 else math.inf


def sign_length(group: Any) -> float:
    """Steps G > <squares of G> > ... to 1, each with factors C2 x ... x C2: oo unless G is a 2-group.

    >>> sign_length(group_of([(1, 2, 3, 0)])), sign_length(group_of([(1, 2, 0)]))
    (2, inf)
    """
    steps = 0
    while group.order() > 1:
        squares = _squares(group)
        if squares.order() == group.order():
            return math.inf
        group, steps = squares, steps + 1
    return steps


def _squares(group: Any) -> Any:
    """The subgroup that all squares generate: normal closure of squares of generators and of their commutators."""
    gens = group.generators
    seeds = [g * g for g in gens] + [g * h * ~g * ~h for g in gens for h in gens]
    some = [s for s in seeds if not s.is_Identity]
    return group.normal_closure(PermutationGroup(some)) if some else PermutationGroup([Permutation(group.degree - 1)])


def exponent(group: Any) -> int:
    """The least common multiple of the orders of all elements."""
    return reduce(math.lcm, (int(g.order()) for g in group.elements), 1)
