"""A complete deterministic finite automaton, always minimal, with its states numbered breadth first."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Word = tuple[int, ...]  # letters by their number


class TooLarge(ValueError):
    """A cap was reached: what was asked stays unknown."""


@dataclass(frozen=True)
class Automaton:
    """letters; table[q][a] is the state after letter a; words are accepted that end in `accepting`.

    Equal languages over the same letters give equal automata: make one with `minimal`.

    >>> parity = Automaton.minimal(("0", "1"), [(0, 1), (1, 0)], 0, {0})
    >>> parity.accepts("1001"), parity.accepts(["1"])
    (True, False)
    """

    letters: tuple[str, ...]
    table: tuple[tuple[int, ...], ...]
    accepting: frozenset[int]
    initial: int = 0

    @classmethod
    def minimal(
        cls, letters: Sequence[str], table: Sequence[Sequence[int]], initial: int, accepting: Iterable[int]
    ) -> Automaton:
        """The minimal automaton of what the given complete one accepts: Moore's refinement of the reachable states."""
        reached = _breadth_first(table, initial)
        delta = np.array([[reached[q] for q in table[old]] for old in reached], dtype=np.int64)
        delta = delta.reshape(len(reached), len(letters))
        accepts = set(accepting)
        block = np.array([old in accepts for old in reached], dtype=np.int64)
        count = 0
        while True:
            _, block = np.unique(np.column_stack([block, block[delta]]), axis=0, return_inverse=True)
            block = block.reshape(-1)
            if block.max(initial=0) + 1 == count:
                break
            count = int(block.max(initial=0)) + 1
        first = {int(b): q for q, b in reversed(list(enumerate(block)))}
        merged = [[int(block[delta[first[b], a]]) for a in range(len(letters))] for b in range(count)]
        order = _breadth_first(merged, int(block[0]))
        rows = tuple(tuple(order[q] for q in merged[old]) for old in order)
        good = {int(block[new]) for old, new in reached.items() if old in accepts}
        return cls(tuple(letters), rows, frozenset(order[b] for b in good if b in order))

    @property
    def size(self) -> int:
        """How many states."""
        return len(self.table)

    @cached_property
    def maps(self) -> np.ndarray:
        """maps[a, q]: the state after letter a from q, [letters, states]."""
        return np.array(self.table, dtype=np.int64).reshape(self.size, len(self.letters)).T

    def map_of(self, word: Iterable[int]) -> tuple[int, ...]:
        """Where each state goes under a word."""
        at = np.arange(self.size)
        for a in word:
            at = self.maps[a][at]
        return tuple(at.tolist())

    def run(self, word: Iterable[int], start: int | None = None) -> int:
        """The state after a word of letter numbers."""
        q = self.initial if start is None else start
        for a in word:
            q = self.table[q][a]
        return q

    def contains(self, word: Iterable[int]) -> bool:
        """Is the word of letter numbers accepted?"""
        return self.run(word) in self.accepting

    def accepts(self, word: str | Sequence[str]) -> bool:
        """Is the word, a string or a list of letters, accepted?"""
        return self.contains(self.spell(word))

    def spell(self, word: str | Sequence[str]) -> Word:
        """A word of letters as letter numbers. ValueError for a letter that is none."""
        number = {letter: a for a, letter in enumerate(self.letters)}
        try:
            return tuple(number[str(letter)] for letter in word)
        except KeyError as wrong:
            raise ValueError(f"{wrong.args[0]!r} is no letter: they are {', '.join(self.letters)}") from None

    def text(self, word: Iterable[int]) -> str:
        """A word of letter numbers, to read."""
        letters = [self.letters[a] for a in word]
        return ("" if all(len(x) == 1 for x in self.letters) else " ").join(letters) or "(the empty word)"

    def words_to(self, start: int | None = None) -> dict[int, Word]:
        """A shortest word to every state that `start` reaches."""
        start = self.initial if start is None else start
        found: dict[int, Word] = {start: ()}
        queue = deque([start])
        while queue:
            q = queue.popleft()
            for a, r in enumerate(self.table[q]):
                if r not in found:
                    found[r] = (*found[q], a)
                    queue.append(r)
        return found

    def separator(self, p: int, q: int) -> Word | None:
        """A shortest word that is accepted from one of the two states only."""
        seen: dict[tuple[int, int], Word] = {(p, q): ()}
        queue = deque([(p, q)])
        while queue:
            pair = queue.popleft()
            if (pair[0] in self.accepting) != (pair[1] in self.accepting):
                return seen[pair]
            for a in range(len(self.letters)):
                after = self.table[pair[0]][a], self.table[pair[1]][a]
                if after not in seen:
                    seen[after] = (*seen[pair], a)
                    queue.append(after)
        return None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        rows = {str(q): dict(zip(self.letters, map(str, row), strict=True)) for q, row in enumerate(self.table)}
        states = [str(q) for q in range(self.size)]
        return {
            **{"states": states, "alphabet": list(self.letters), "transitions": rows},
            **{"initial": str(self.initial), "accepting": [str(q) for q in sorted(self.accepting)]},
        }


def _breadth_first(table: Sequence[Sequence[int]], start: int) -> dict[int, int]:
    order = {start: 0}
    queue = deque([start])
    while queue:
        for r in table[queue.popleft()]:
            if r not in order:
                order[r] = len(order)
                queue.append(r)
    return order
