"""Signals worth trying: ends of the domains and 0, +-1, 2 among them, as many heads that are run at once."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from dsf import Architecture
from dsf.domains import Domain
from dsf.sets import Interval, Polar, Set

Signals = dict[str, torch.Tensor]
SATURATION = 1000.0  # sigmoid(1000) is 1.0, sigmoid(-1000) is 0.0 and tanh(1000) is 1.0 in float64: exactly at the ends


def ungrouped(a: Architecture) -> Architecture:
    """The same with no signals shared by groups: every head is a candidate of its own."""
    return replace(a, signals={k: replace(d, groups=0) for k, d in a.signals.items()})


def points(s: Set) -> list:
    """Numbers of the set: its ends (+-SATURATION for infinite ones), and those of 0, 1/2, +-1, 2 that lie in it."""
    if isinstance(s, Interval):
        lo, hi = max(s.lo, min(-SATURATION, s.hi)), min(s.hi, max(SATURATION, s.lo))
        return sorted({v for v in (lo, -1.0, 0.0, 0.5, 1.0, 2.0, hi) if lo <= v <= hi})
    if isinstance(s, Polar):
        turns = {0.0, math.pi} | {e for e in (s.theta.lo, s.theta.hi) if math.isfinite(e)}
        exact = {0.0: 1 + 0j, math.pi: -1 + 0j, -math.pi: -1 + 0j}  # of the angles 0 and pi, without rounding
        found = [r * exact.get(t, complex(math.cos(t), math.sin(t))) for r in points(s.r) for t in sorted(turns)]
    else:
        found = [complex(x, y) for x in points(s.re) for y in points(s.im)]
    return [z for z in dict.fromkeys(found) if z in s]


def draw(a: Architecture, n: int, tokens: int, count: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """`count` random choices as heads: token signals [tokens, count, ...own axes], constants [1, count, ...]."""
    table: dict[str, torch.Tensor] = {}
    for name, d in a.signals.items():
        shape = (1 if d.const else tokens, count, *((d.steps,) if d.steps else ()), *((n,) * len(d.own_axes)))
        table[name] = _choices(d, n, shape, generator)
    return table


def _choices(d: Domain, n: int, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    if d.value:
        return d.fixed(n, torch.float64).expand(shape)
    if d.unit or d.ball:
        x = torch.zeros(shape, dtype=torch.float64)
        x[..., 0] = 1.0
        return x
    if d.kind == "index":
        return torch.randint(n, shape, generator=generator)
    corners = torch.tensor(points(d.set), dtype=torch.float64 if isinstance(d.set, Interval) else torch.complex128)
    return corners[torch.randint(len(corners), shape, generator=generator)]


def as_signals(a: Architecture, table: dict[str, torch.Tensor], word: Any) -> dict[str, torch.Tensor]:
    """The table along a word of token numbers, every candidate a head: [1, T, count, ...]."""
    word = torch.as_tensor(word)
    return {k: table[k][0] if d.const else table[k][word][None] for k, d in a.signals.items()}


def pick(a: Architecture, table: dict[str, torch.Tensor], token: int, head: int) -> dict[str, torch.Tensor]:
    """One candidate's signals for one token, without batch, time and head."""
    return {k: table[k][0 if d.const else token, head].clone() for k, d in a.signals.items()}
