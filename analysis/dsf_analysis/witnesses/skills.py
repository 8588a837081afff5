"""What single heads of an architecture can be made to do, found by running thousands of candidates: no name is read.

    register   hold a value for ever; overwrite it           counter    add what is written, for ever
    flip       change between two values; hold               delay      show the last symbol but one
    latch      tell no event, one event, more than one

A candidate is a choice of corners of the domains; what it does on a test word decides. The weights that come out are
run again, in every witness.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dsf import Architecture
from dsf.reference import scan

from ..subjects import has_infinite_state
from .corners import Signals, as_signals, draw, pick, ungrouped
from .matrix_skills import MatrixSearch
from .stacks import pieces

CANDIDATES = 40_000
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Skill:
    """Signals of each token of a skill, without batch, time and head. y = gain times what it should show, plus `base`.

    before: y_t shows what held before token t. state: x_0 of one head.
    """

    tokens: tuple[Signals, ...]
    gain: float
    base: float
    before: bool
    state: Any


def drive_of(a: Architecture, values: torch.Tensor) -> torch.Tensor:
    """Values as a drive with p = 1: [..., 1], with micro-steps the same at each, [..., J, 1]."""
    return values[..., None, None].expand(*values.shape, a.steps, 1) if a.steps else values[..., None]


def run(a: Architecture, signals: Signals, values: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
    """Runs heads on drives values [B, T, H]; real outputs [B, T, H], and the final state."""
    y, state = scan(a(**signals), drive_of(a, values), state)
    y = y.sum(-1)
    return (y.real if y.is_complex() else y), state


class Search:
    """The skills of one architecture without feedback; each is looked for once."""

    def __init__(self, a: Architecture, seed: int = 0):
        self.architecture, self.seed = a, seed
        self.alone = ungrouped(a)
        self.matrices = MatrixSearch(a, seed)
        self._found: dict[str, Any] = {}

    def _once(self, name: str, find: Any) -> Any:
        if name not in self._found:
            self._found[name] = find()
        return self._found[name]

    @property
    def register(self) -> Skill | None:
        """Tokens (hold, write): y is gain times the value last written."""
        return next(iter(self._registers), None)

    @property
    def _registers(self) -> list[Skill]:
        return self._once("register", self._find_registers)

    @property
    def flip(self) -> Skill | None:
        """Tokens (hold, flip): y is base +- gain; + at the beginning."""
        return self._once("flip", self._flip)

    @property
    def counter(self) -> Skill | None:
        """One token, whose drive is added: y is gain times the sum."""
        return self._once("counter", self._counter)

    @property
    def latch(self) -> Skill | None:
        """Tokens (nothing, event): y is 0, 1/2, 2/3, ... after 0, 1, 2 ... events."""
        return self._once("latch", self._latch)

    @property
    def _modes(self) -> tuple[bool, ...]:
        """May y_t show what held before token t?"""
        return (False, True) if self.architecture.bounds().reads == "before" else (False,)

    def _candidates(
        self, tokens: int, word: list[int], values: list[float], start: str
    ) -> tuple[torch.Tensor, Any, Any]:
        """y [T, candidates] of random candidates on a word, their table, and the state that they began with."""
        generator = torch.Generator().manual_seed(self.seed)
        table = draw(self.alone, 1, tokens, CANDIDATES, generator)
        signals = as_signals(self.alone, table, word)
        u = torch.tensor(values, dtype=torch.float64)[None, :, None].expand(1, -1, CANDIDATES)
        state = None
        if start == "ones":
            first = run(self.alone, as_signals(self.alone, table, word[:1]), u[:, :1])[1]
            state = tuple(map(torch.ones_like, first)) if isinstance(first, tuple) else torch.ones_like(first)
        with torch.no_grad():
            y = run(self.alone, signals, u, state)[0][0]
        return torch.where(torch.isfinite(y), y, torch.inf), table, state

    def _find_registers(self) -> list[Skill]:
        if has_infinite_state(self.architecture.bounds()):
            return []
        word = [1, 0, 0, 1, 0, 1, 1, 0, 0, 0, 1, 0]
        values = [1.0, 0, 0, 3.0, 0, 2.0, 5.0, 0, 0, 0, 1.0, 0]
        y, table, _ = self._candidates(2, word, values, "zeros")
        last = torch.tensor([1, 1, 1, 3, 3, 2, 5, 5, 5, 5, 1, 1], dtype=torch.float64)
        for before in self._modes:
            truth, seen = (last[:-1], y[1:]) if before else (last, y)
            found = [
                Skill(tuple(pick(self.alone, table, t, head) for t in (0, 1)), gain, 0.0, before, None)
                for head, gain in _linear(seen, truth)
            ]
            if found:
                return found
        return self._solved_registers()

    def _solved_registers(self) -> list[Skill]:
        """The same where corners are too many to meet by chance: A = I and A = 0 by least squares."""
        size = self.matrices.size_at_one
        rows = size and self.matrices.solved([np.eye(size), np.zeros((size, size))])
        if not rows:
            return []
        word, values = [1, 0, 0, 1, 0, 1], torch.tensor([1.0, 0, 0, 3.0, 0, 2.0], dtype=torch.float64)
        y = run(self.alone, one_head(self.alone, [rows[t] for t in word]), values[None, :, None])[0][0]
        truth = torch.tensor([1.0, 1, 1, 3, 3, 2], dtype=torch.float64)
        before = self.architecture.bounds().reads == "before"
        pairs = _linear(y[1:], truth[:-1]) if before else _linear(y, truth)
        return [Skill((rows[0], rows[1]), gain, 0.0, before, None) for _, gain in pairs]

    def _flip(self) -> Skill | None:
        if has_infinite_state(self.architecture.bounds()):
            return None
        word = [0, 1, 1, 1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 0]
        y, table, state = self._candidates(2, word, [0.0] * len(word), "ones")
        odd = torch.tensor(word).cumsum(0) % 2
        for before in self._modes:
            seen, parity = (y[1:], odd[:-1]) if before else (y, odd)
            even, one = seen[parity == 0], seen[parity == 1]
            gap = even.mean(0) - one.mean(0)
            scale = seen.abs().amax(0).clamp(min=1)
            spread = torch.maximum(even.amax(0) - even.amin(0), one.amax(0) - one.amin(0))
            good = torch.isfinite(gap) & (gap.abs() > 1e-2 * scale) & (spread <= TOLERANCE * scale)
            order = torch.where(good, gap.abs() / scale, -1.0).argsort(descending=True)
            for head in order[: min(20, int(good.sum()))].tolist():
                tokens = tuple(pick(self.alone, table, t, head) for t in (0, 1))
                gain, base = gap[head].item() / 2, (even[0, head] + one[0, head]).item() / 2
                one_state = tuple(s[:, head : head + 1].clone() for s in pieces(state))
                start = one_state if isinstance(state, tuple) else one_state[0]
                skill = Skill(tokens, gain, base, before, start)
                if self._flips(skill):
                    return skill
        return None

    def _flips(self, skill: Skill) -> bool:
        """Also on a long random word? A candidate may fit a short one by chance."""
        word = torch.randint(2, (300,), generator=torch.Generator().manual_seed(self.seed)).tolist()
        rows = one_head(self.alone, [skill.tokens[t] for t in word])
        y = run(self.alone, rows, torch.zeros(1, len(word), 1, dtype=torch.float64), skill.state)[0].flatten()
        sign = 1.0 - 2 * (torch.tensor(word).cumsum(0) % 2)
        seen, truth = (y[1:], sign[:-1]) if skill.before else (y, sign)
        return bool(((seen - skill.base - skill.gain * truth).abs() <= TOLERANCE * max(1, abs(skill.gain))).all())

    def _counter(self) -> Skill | None:
        if has_infinite_state(self.architecture.bounds()) or self.architecture.bounds().normalised:
            return None
        values = [1.0, -1, 1, 1, 0, 0, 1, -1, -1, 1, 1, 1, 0, -1]
        y, table, _ = self._candidates(1, [0] * len(values), values, "zeros")
        total = torch.tensor(values, dtype=torch.float64).cumsum(0)
        for before in self._modes:
            truth, seen = (total[:-1], y[1:]) if before else (total, y)
            for head, gain in _linear(seen, truth):
                return Skill((pick(self.alone, table, 0, head),), gain, 0.0, before, None)
        return None

    def _latch(self) -> Skill | None:
        """By averages: events and one token at the beginning have the weight 1, all else has none."""
        bounds = self.architecture.bounds()
        if not bounds.normalised or bounds.floor is not None:
            return None
        word = [0, 1, 1, 1, 2, 2, 1, 2, 1, 1, 2, 2]  # 0 begins; 1 is nothing, 2 an event
        values = [0.0 if t < 2 else 1.0 for t in word]
        y, table, _ = self._candidates(3, word, values, "zeros")
        n = torch.tensor([float(t == 2) for t in word], dtype=torch.float64).cumsum(0)
        error = (y - (n / (n + 1))[:, None]).abs().amax(0)
        if not (error <= TOLERANCE).any():
            return None
        head = int(error.argmin())
        begin, nothing, event = (pick(self.alone, table, t, head) for t in (0, 1, 2))
        state = state_after(self.alone, [begin], [0.0])
        return Skill((nothing, event), 1.0, 0.0, False, state)

    def delay(self, ratio: float) -> tuple[Signals, float, float] | None:
        """(signals, gain, r): y is gain (c_t + r c_{t-1} + r^2 ...) of the drives c, with ratio / 2 <= r <= ratio.

        Between the two tokens of a register, on a line, there is such a point, if the way is continuous.
        """
        return next(filter(None, (self._between(skill, ratio) for skill in self._registers)), None)

    def _between(self, skill: Skill, ratio: float) -> tuple[Signals, float, float] | None:
        hold, write = skill.tokens
        lo, hi = 0.0, 1.0  # at lo it forgets too little, at hi too much
        impulse = torch.tensor([[[1.0], [0], [0]]], dtype=torch.float64)
        for _ in range(60):
            middle = (lo + hi) / 2
            signals = {
                k: x if d.kind == "index" else x + middle * (write[k] - x) for (k, x), d in _with(hold, self.alone)
            }
            first, second, third = run(self.alone, one_head(self.alone, [signals] * 3), impulse)[0].flatten().tolist()
            r = second / first if first else math.nan
            if ratio / 2 <= r <= ratio and abs(third - r * second) <= TOLERANCE * abs(first):
                fits = all(d.contains(signals[k][None]) for k, d in self.alone.signals.items())
                return (signals, first, r) if fits else None
            lo, hi = (middle, hi) if r > ratio else (lo, middle)
        return None


def one_head(a: Architecture, rows: list[Signals]) -> Signals:
    """Rows of signals as the signals of one head along time: [1, T, 1, ...], constants [1, ...]."""
    return {
        k: rows[0][k][None] if d.const else torch.stack([row[k] for row in rows])[None, :, None]
        for k, d in a.signals.items()
    }


def _linear(y: torch.Tensor, truth: torch.Tensor, most: int = 40) -> list[tuple[int, float]]:
    """Candidates that are multiples of the truth, and their gains, those nearest to 1 first; a few of each gain."""
    at = int(truth.abs().argmax())
    gain = y[at] / truth[at]
    error = (y - gain * truth[:, None]).abs().amax(0)
    good = (
        torch.isfinite(gain) & (gain.abs() > 1e-3) & (gain.abs() < 1e4) & (error <= TOLERANCE * gain.abs().clamp(min=1))
    )
    heads = good.nonzero().flatten()
    order = heads[(gain[heads].abs().log().abs() - 1e-9 * (gain[heads] > 0)).argsort(stable=True)].tolist()
    kept: dict[float, int] = {}
    found = []
    for head in order:
        value = gain[head].item()
        kept[value] = kept.get(value, 0) + 1
        if kept[value] <= 4 and len(found) < most:
            found.append((head, value))
    return found


def _with(signals: Signals, a: Architecture):
    return ((item, a.signals[item[0]]) for item in signals.items())


def state_after(a: Architecture, rows: list[Signals], values: list[float]) -> Any:
    """The state of one head after some tokens."""
    return run(a, one_head(a, rows), torch.tensor(values, dtype=torch.float64)[None, :, None])[1]
