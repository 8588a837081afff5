"""Where a regular language stands: its syntactic monoid's groups, Green's relations, and its circuit class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from sympy.combinatorics import Permutation

from .automaton import Automaton, TooLarge
from .groups import LARGEST, derived_length, exponent, group_of, sign_length
from .monoid import MOST, Monoid, transition_monoid


@dataclass(frozen=True)
class Subgroup:
    """A maximal subgroup of the monoid: it permutes `points`, the states of the image of an idempotent."""

    group: Any
    points: tuple[int, ...]
    words: tuple[tuple[int, ...], ...]  # words that generate it

    @cached_property
    def order(self) -> int:
        return int(self.group.order())

    @cached_property
    def solvable(self) -> bool:
        return bool(self.group.is_solvable)

    @cached_property
    def derived_length(self) -> float:
        return derived_length(self.group)

    @cached_property
    def sign_length(self) -> float:
        return sign_length(self.group)

    @cached_property
    def exponent(self) -> int:
        return exponent(self.group)

    @cached_property
    def abelian(self) -> bool:
        return bool(self.group.is_abelian)


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
    def stable(self) -> tuple[int, np.ndarray]:
        """(s, elements of words of length s) where words of lengths s and 2 s make the same elements."""
        mask = np.zeros(self.size, dtype=bool)
        mask[0] = True
        seen, history = {mask.tobytes(): 0}, [mask]
        while True:
            after = np.zeros_like(mask)
            after[self.monoid.right[mask].reshape(-1)] = True
            mask, t = after, len(history)
            if (start := seen.get(mask.tobytes())) is not None:
                period = t - start
                s = period * max(1, math.ceil(start / period))
                return s, np.flatnonzero(history[start + (s - start) % period])
            if t * self.size > 200_000_000:
                raise TooLarge("the lengths of words take too long to come back")
            seen[mask.tobytes()] = t
            history.append(mask)

    @cached_property
    def quasi_aperiodic(self) -> bool:
        """Do groups live in lengths only? Then the language is in AC0 (Barrington, Compton, Straubing, Therien)."""
        return self.aperiodic or bool((self.monoid.periods[self.stable[1]] == 1).all())

    @cached_property
    def subgroups(self) -> tuple[Subgroup, ...]:
        """One maximal subgroup of each regular J-class where it is not trivial."""
        m, found = self.monoid, []
        if self.aperiodic:
            return ()
        seen = set()
        for e in m.idempotents[np.argsort(m.maps[m.idempotents].max(1), kind="stable")].tolist():
            if m.j_classes[e] in seen:
                continue
            seen.add(m.j_classes[e])
            members = np.flatnonzero((m.r_classes == m.r_classes[e]) & (m.l_classes == m.l_classes[e]))
            if len(members) == 1:
                continue
            if len(members) > LARGEST:
                raise TooLarge(f"a subgroup has over {LARGEST:,} elements")
            found.append(_subgroup(m, e, members))
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
        row["derived_length"] = int(self.derived_length) if math.isfinite(self.derived_length) else None
        row["two_groups"] = math.isfinite(self.sign_length)
        row["exponents"], row["circuit_class"] = list(self.exponents), self.circuit_class
        row["subgroups"] = [
            {"order": g.order, "abelian": g.abelian, "solvable": g.solvable, "exponent": g.exponent}
            for g in self.subgroups
        ]
        return row


def algebra_of(automaton: Automaton, most: int = MOST) -> Algebra:
    """The algebra of a minimal automaton. TooLarge where its monoid has more than `most` elements."""
    return Algebra(automaton, transition_monoid(automaton, most))


def _subgroup(m: Monoid, e: int, members: np.ndarray) -> Subgroup:
    """The group H-class of the idempotent e, as permutations of its image; a few words that generate it."""
    points = np.unique(m.maps[e])
    place = np.zeros(m.maps.shape[1], dtype=np.int64)
    place[points] = np.arange(len(points))
    permutations = place[m.maps[members][:, points]]
    rng, words, chosen = np.random.default_rng(0), [], []
    group: Any = None
    for i in rng.permutation(len(members)).tolist():
        p = tuple(permutations[i].tolist())
        if p == tuple(range(len(points))) or (group is not None and group.contains(Permutation(list(p)))):
            continue
        chosen.append(p)
        words.append(m.word(int(members[i])))
        group = group_of(chosen)
        if group.order() == len(members):
            break
    return Subgroup(group, tuple(points.tolist()), tuple(words))
