"""Where a regular language stands: its syntactic monoid's groups, Green's relations, and its circuit class."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .automaton import Automaton, Word
from .groups import Group
from .monoid import MOST, Monoid, transition_monoid


@dataclass(frozen=True)
class Subgroup:
    """A maximal subgroup of the monoid: it permutes `points`, the states of the image of an idempotent."""

    group: Group
    points: tuple[int, ...]
    words: tuple[Word, ...]  # words that generate it
    exponent: int  # the least common multiple of the orders of its elements

    @property
    def order(self) -> int:
        return self.group.order

    @property
    def abelian(self) -> bool:
        return self.group.abelian

    @property
    def solvable(self) -> bool:
        return self.group.solvable

    @property
    def derived_length(self) -> float:
        return self.group.derived_length

    @property
    def sign_length(self) -> float:
        return self.group.sign_length

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; a length that is oo is None."""
        row = {key: getattr(self, key) for key in ("order", "exponent", "abelian", "solvable")}
        lengths = {"derived_length": _finite(self.derived_length), "sign_length": _finite(self.sign_length)}
        return row | lengths | {"two_group": math.isfinite(self.sign_length)}


@dataclass(frozen=True)
class Algebra:
    """The syntactic monoid of a minimal automaton and what follows from it."""

    automaton: Automaton
    monoid: Monoid

    @property
    def size(self) -> int:
        return self.monoid.size

    @cached_property
    def group(self) -> bool:
        """Does every letter permute the states?"""
        return all(len(set(row)) == self.automaton.size for row in self.automaton.maps.tolist())

    @cached_property
    def aperiodic(self) -> bool:
        """Are all subgroups trivial? Then the language is star-free (Schuetzenberger)."""
        return bool((self.monoid.periods == 1).all())

    @cached_property
    def r_trivial(self) -> bool:
        return len(np.unique(self.monoid.r_classes)) == self.size

    @cached_property
    def l_trivial(self) -> bool:
        return len(np.unique(self.monoid.l_classes)) == self.size

    @cached_property
    def j_trivial(self) -> bool:
        return len(np.unique(self.monoid.j_classes)) == self.size

    @cached_property
    def _groups(self) -> tuple[np.ndarray, ...]:
        """The elements of one group of each regular J-class where it is not trivial; its idempotent comes first."""
        m = self.monoid
        _, h_class = np.unique(m.r_classes * np.int64(self.size) + m.l_classes, return_inverse=True)
        members = _members(h_class.reshape(-1))
        chosen = [e for e in m.idempotents.tolist() if len(members(e)) > 1]
        one_each = np.unique(m.j_classes[chosen], return_index=True)[1]
        return tuple(
            np.concatenate([[e], g[g != e]]) for e in np.array(chosen)[one_each].tolist() for g in [members(e)]
        )

    @cached_property
    def quasi_aperiodic(self) -> bool:
        """Do groups live in lengths only? Then the language is in AC0 (Barrington, Compton, Straubing, Therien).

        From an idempotent e, words lead on within its R-class; those back to e have lengths with a greatest common
        divisor d. An element g of its group is made by a word as long as one that makes e iff words from e to g have
        lengths that d divides, for longer ones of every such length exist. Then no length tells g from e.
        """
        if self.aperiodic:
            return True
        m, level, members = self.monoid, np.full(self.size, -1), _members(self.monoid.r_classes)
        for e, *others in self._groups:
            level[e], depth, frontier = 0, 0, np.array([e])
            while len(frontier):
                depth += 1
                after = np.unique(m.right[frontier])
                frontier = after[(m.r_classes[after] == m.r_classes[e]) & (level[after] < 0)]
                level[frontier] = depth
            inside = members(e)
            onward = m.right[inside]
            around = (level[inside][:, None] + 1 - level[onward])[m.r_classes[onward] == m.r_classes[e]]
            if (level[others] % np.gcd.reduce(np.abs(around)) == 0).any():
                return False
        return True

    @cached_property
    def subgroups(self) -> tuple[Subgroup, ...]:
        """One maximal subgroup of each regular J-class where it is not trivial."""
        found = [] if self.aperiodic else [_subgroup(self.monoid, members) for members in self._groups]
        return tuple(sorted(found, key=lambda g: -g.order))

    @property
    def solvable(self) -> bool:
        return all(g.solvable for g in self.subgroups)

    @cached_property
    def derived_length(self) -> float:
        """The largest of all subgroups."""
        return max((g.derived_length for g in self.subgroups), default=0)

    @cached_property
    def sign_length(self) -> float:
        """The largest of all subgroups: oo unless all are 2-groups."""
        return max((g.sign_length for g in self.subgroups), default=0)

    @cached_property
    def exponents(self) -> tuple[int, ...]:
        """Periods of elements that are not 1."""
        return tuple(sorted(set(self.monoid.periods.tolist()) - {1}))

    @property
    def circuit_class(self) -> str:
        if self.quasi_aperiodic:
            return "AC0"
        return "ACC0, within TC0" if self.solvable else "NC1-complete (Barrington)"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        keys = ("size", "group", "aperiodic", "r_trivial", "l_trivial", "j_trivial", "quasi_aperiodic", "solvable")
        row = {key: getattr(self, key) for key in keys}
        row["derived_length"], row["sign_length"] = _finite(self.derived_length), _finite(self.sign_length)
        row["two_groups"] = math.isfinite(self.sign_length)
        row["exponents"], row["circuit_class"] = list(self.exponents), self.circuit_class
        row["subgroups"] = [g.to_dict() for g in self.subgroups]
        return row


def _finite(length: float) -> int | None:
    return int(length) if math.isfinite(length) else None


def algebra_of(automaton: Automaton, most: int = MOST) -> Algebra:
    """The algebra of a minimal automaton. TooLarge where its monoid has more than `most` elements."""
    return Algebra(automaton, transition_monoid(automaton, most))


def _members(classes: np.ndarray) -> Callable[[int], np.ndarray]:
    """A function that gives, of an element, those of its class, in their order."""
    order = np.argsort(classes, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(classes))])
    return lambda i: order[starts[classes[i]] : starts[classes[i] + 1]]


def _subgroup(m: Monoid, members: np.ndarray) -> Subgroup:
    """The group H-class of an idempotent, which comes first, multiplied along the words of its elements."""
    order = np.argsort(members)

    def times(j: int) -> np.ndarray:
        at = members
        for a in m.word(int(members[j])):
            at = m.right[at, a]
        return order[np.searchsorted(members, at, sorter=order)]

    group = Group(len(members), times)
    words = tuple(m.word(int(members[j])) for j in group.generators)
    exponent = int(np.lcm.reduce(m.periods[members]))
    return Subgroup(group, tuple(np.unique(m.maps[members[0]]).tolist()), words, exponent)
