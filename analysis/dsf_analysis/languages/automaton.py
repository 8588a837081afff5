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
        block = _refined(delta, np.array([old in accepts for old in reached], dtype=np.int64))[-1]
        count = int(block.max()) + 1
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

    @cached_property
    def _told_apart(self) -> list[np.ndarray]:
        """By words of up to 0, 1, 2 ... letters: states of equal numbers are not told apart, [states] each."""
        return _refined(self.maps.T, np.isin(np.arange(self.size), list(self.accepting)).astype(np.int64))

    def separator(self, p: int, q: int) -> Word | None:
        """A shortest word that is accepted from one of the two states only."""
        steps = next((t for t, block in enumerate(self._told_apart) if block[p] != block[q]), None)
        if steps is None:
            return None
        word = []
        for block in reversed(self._told_apart[:steps]):
            a = int(np.argmax(block[self.maps[:, p]] != block[self.maps[:, q]]))
            word.append(a)
            p, q = self.table[p][a], self.table[q][a]
        return tuple(word)

    def tells_apart(self, states: Sequence[int]) -> bool:
        """Are the states pairwise different: is some word accepted from one of each two only?"""
        return len(np.unique(self._told_apart[-1][list(states)])) == len(states)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        rows = {str(q): dict(zip(self.letters, map(str, row), strict=True)) for q, row in enumerate(self.table)}
        states = [str(q) for q in range(self.size)]
        return {
            **{"states": states, "alphabet": list(self.letters), "transitions": rows},
            **{"initial": str(self.initial), "accepting": [str(q) for q in sorted(self.accepting)]},
        }


def _refined(delta: np.ndarray, block: np.ndarray) -> list[np.ndarray]:
    """Moore's refinement of blocks of states, delta [states, letters]: after 0, 1, 2 ... letters, until stable."""
    history = [np.unique(block, return_inverse=True)[1]]
    while True:
        block = history[-1]
        rows = np.column_stack([block, block[delta]]).astype(np.int32)
        finer = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
        if finer.max() == block.max():
            return history
        history.append(finer)


def _breadth_first(table: Sequence[Sequence[int]], start: int) -> dict[int, int]:
    order = {start: 0}
    queue = deque([start])
    while queue:
        for r in table[queue.popleft()]:
            if r not in order:
                order[r] = len(order)
                queue.append(r)
    return order
