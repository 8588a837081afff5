"""Puts heads together: quantities that follow from symbols by tables, and heads that turn quantities into symbols."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dsf import Architecture

from ..languages.automaton import Automaton
from ..subjects import has_infinite_state, heads_for
from .corners import Signals
from .skills import Search, drive_of, state_after
from .stacks import LETTER, Head, StackWitness, pieces

LARGEST_TABLE = 400_000


class NotBuilt(Exception):
    """This way leads nowhere: a skill is missing, or a table would be too large."""


@dataclass(frozen=True)
class Quantity:
    """A value that follows from symbols: `of` names them, `value` takes them in that order. None: cannot occur."""

    of: tuple[int, ...]
    value: Callable[..., Any]

    def then(self, f: Callable[[Any], Any]) -> Quantity:
        """f of it."""
        return Quantity(self.of, lambda *s: None if (x := self.value(*s)) is None else f(x))


def jointly(f: Callable[..., Any], *parts: Quantity) -> Quantity:
    """f of several quantities; None where one of them is."""
    of = tuple(dict.fromkeys(s for q in parts for s in q.of))
    places = [[of.index(s) for s in q.of] for q in parts]

    def value(*symbols: int) -> Any:
        values = [q.value(*(symbols[i] for i in place)) for q, place in zip(parts, places, strict=True)]
        return None if any(v is None for v in values) else f(*values)

    return Quantity(of, value)


class Builder:
    """Heads of one architecture for one language, added one after the other."""

    def __init__(self, search: Search, language: Automaton):
        self.search, self.language = search, language
        self.architecture: Architecture = search.architecture
        self.heads: list[Head] = []
        self.letter = Quantity((LETTER,), lambda a: a)

    def sizes(self, symbols: Sequence[int]) -> list[int]:
        """How many values each symbol has."""
        return [len(self.language.letters) if s == LETTER else len(self.heads[s].edges) + 1 for s in symbols]

    def layer_of(self, *quantities: Quantity) -> int:
        """The last layer that they read; 0 where they read the letter alone."""
        return max((self.heads[s].layer for q in quantities for s in q.of if s != LETTER), default=0)

    def table(self, quantity: Quantity, number: Callable[[Any], int]) -> torch.Tensor:
        """number(value) for all combinations of symbols; -1 where it is None."""
        sizes = self.sizes(quantity.of)
        if torch.Size(sizes).numel() > LARGEST_TABLE:
            raise NotBuilt("a table would have too many entries")
        flat = [
            -1 if (value := quantity.value(*symbols)) is None else number(value)
            for symbols in itertools.product(*map(range, sizes))
        ]
        return torch.tensor(flat).reshape(sizes)

    def head(
        self,
        action: Quantity,
        tokens: Callable[[Any], tuple[Signals, float]],
        levels: Sequence[float],
        state: Any,
        width: float = 1.0,
    ) -> int:
        """Adds a head; its number.

        tokens(action) are the signals and the drive of an action; levels: scores that it shows, symbols are numbered
        from the lowest on; edges lie half way between. state: x_0 of one head. width: 1, or a vector that reads y.
        """
        rows: dict[Any, int] = {}
        made: list[tuple[Signals, float]] = []

        def row(value: Any) -> int:
            if value not in rows:
                rows[value] = len(rows)
                made.append(tokens(value))
            return rows[value]

        table = self.table(action, row)
        ordered = sorted(levels)
        gaps = [b - a for a, b in itertools.pairwise(ordered)]
        if gaps and min(gaps) <= 1e-6 * max(1.0, abs(ordered[0]), abs(ordered[-1])):
            raise NotBuilt("two symbols would look alike")
        edges = tuple((a + b) / 2 for a, b in itertools.pairwise(ordered))
        margin = min(gaps, default=1.0) / 4
        copies, a = heads_for(self.architecture), self.architecture

        def whole(name: str) -> torch.Tensor:
            d = a.signals[name]
            if d.const:
                return made[0][0][name].expand(d.groups or copies, *made[0][0][name].shape).clone()
            x = torch.stack([signals[name] for signals, _ in made])
            return x[:, None].expand(len(made), d.groups or copies, *x.shape[1:]).clone()

        values = torch.tensor([value for _, value in made], dtype=torch.float64)
        drive = drive_of(a, values[:, None].expand(-1, copies)).clone()
        axis = 2 if has_infinite_state(a.bounds()) else 1  # of the heads
        start = tuple(s.repeat_interleave(copies, axis) for s in pieces(state))
        full = start if isinstance(state, tuple) else start[0]
        signals = {name: whole(name) for name in a.signals}
        weights = torch.full((1,), width, dtype=torch.float64)
        layer = 1 + self.layer_of(action)
        self.heads.append(Head(layer, action.of, table, signals, drive, full, weights, edges, margin))
        return len(self.heads) - 1

    # -------------------------------------------------------------------------------------------------- what heads hold
    def register(self, write: Quantity, size: int, initial: int) -> tuple[Quantity, bool]:
        """Holds a number below `size`; write: -1 to hold, else the number: (what it shows, is it the old one?)."""
        skill = self.search.register
        if skill is None:
            raise NotBuilt("no head holds and overwrites a value")
        hold, put = skill.tokens
        state = state_after(self.search.alone, [put], [float(initial + 1)])
        levels = [skill.gain * (v + 1) for v in range(size)]
        number = self.head(write, lambda v: (hold, 0.0) if v < 0 else (put, float(v + 1)), levels, state)
        shown = range(size) if skill.gain > 0 else range(size - 1, -1, -1)
        return Quantity((number,), lambda s, shown=tuple(shown): shown[s]), skill.before

    def previous(self, x: Quantity, size: int, initial: int) -> Quantity:
        """The value of x one token ago, by a layer that forgets slowly enough to show two digits."""
        found = self.search.delay(1 / (4 * size))
        if found is None:
            raise NotBuilt("no head shows the last symbol but one")
        signals, gain, r = found
        pairs = [(now, old) for now in range(size) for old in range(size)]
        tail = r * r * (size - 1) / (1 - r)  # what is older
        centre = {pair: gain * (pair[0] + r * pair[1] + tail / 2) for pair in pairs}
        state = state_after(self.search.alone, [signals] * 30, [float(initial)] * 30)
        number = self.head(x, lambda v: (signals, float(v)), list(centre.values()), state)
        order = sorted(pairs, key=lambda pair: centre[pair])
        return Quantity((number,), lambda s: order[s][1])

    def flip(self, when: Quantity) -> tuple[Quantity, bool]:
        """A bit that changes when `when` is true: (what it shows, 0 at first; is it the old one?)."""
        skill = self.search.flip
        if skill is None:
            raise NotBuilt("no head changes its sign by a token")
        levels = [skill.base - skill.gain, skill.base + skill.gain]
        number = self.head(when, lambda v: (skill.tokens[1 if v else 0], 0.0), levels, skill.state)
        return Quantity((number,), (lambda s: 1 - s) if skill.gain > 0 else (lambda s: s)), skill.before

    def count(self, add: Quantity, lowest: int, highest: int) -> tuple[Quantity, bool]:
        """The sum of what is added, clipped to [lowest - 1, highest + 1]: (what it shows, is it the old one?)."""
        skill = self.search.counter
        if skill is None:
            raise NotBuilt("no head adds for ever")
        (token,) = skill.tokens
        state = state_after(self.search.alone, [token], [0.0])
        levels = [skill.gain * v for v in range(lowest - 1, highest + 2)]
        number = self.head(add, lambda v: (token, float(v)), levels, state)
        shown = range(lowest - 1, highest + 2) if skill.gain > 0 else range(highest + 1, lowest - 2, -1)
        return Quantity((number,), lambda s, shown=tuple(shown): shown[s]), skill.before

    def events(self, event: Quantity) -> Quantity:
        """How many events there were so far, this one included: 0, 1, or 2 for more."""
        if self.search.counter is not None:
            shown, before = self.count(event.then(int), 0, 1)
            if before:
                return jointly(lambda n, e: min(2, max(n, 0) + int(e)), shown, event)
            return shown.then(lambda n: max(n, 0))
        skill = self.search.latch
        if skill is None:
            raise NotBuilt("no head remembers that something happened")
        levels = [0.0, 0.5, 2 / 3]
        number = self.head(event, lambda e: (skill.tokens[int(e)], float(e)), levels, skill.state)
        return Quantity((number,), lambda s: s)

    def witness(self, accepted: Quantity, recipe: str) -> StackWitness:
        """The witness whose answer is a quantity of letter and symbols."""
        answer = self.table(accepted, int)
        return StackWitness(self.language, tuple(self.heads), accepted.of, answer, recipe).sealed()
