"""A run of a thousand tokens does not see a bit that fades by a millionth per token; powers of the transition do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from dsf import Architecture

from ..subjects import has_infinite_state

if TYPE_CHECKING:
    from .stacks import Head

LONGEST_PERIOD = 64
DOUBLINGS = 30  # 2^30 repetitions


def lasts(a: Architecture, head: Head, rows: torch.Tensor, seen: torch.Tensor, state: torch.Tensor) -> bool:
    """Rows [W, T] that repeat at the end: do the same symbols come up, at the same margin, after 2^30 repetitions more?

    seen: the symbols that the head showed, [W, T]; state: its last one. What is no affine map of a finite state
    (feedback, a transformed drive, quotients, infinite features), or does not repeat, is not judged.
    """
    bounds = a.bounds()
    if a.reserved_names or bounds.normalised or has_infinite_state(bounds):
        return True
    periods = [_period(row) for row in rows]
    period = math.lcm(*filter(None, periods))
    half = rows.shape[1] // 4 // period * period  # long enough that what turns comes round
    known = torch.tensor([p > 0 for p in periods])
    rows, seen, state = rows[known], seen[known], state[known]
    words, own = len(rows), state.shape[2:]
    if not words or not half:
        return True
    size = own.numel()
    basis = torch.cat([torch.zeros(1, size), torch.eye(size)]).to(state.dtype)
    basis = basis.reshape(1, size + 1, 1, *own).expand(words, size + 1, state.shape[1], *own).flatten(0, 1)
    after = head.run(a, rows[:, -period:].repeat_interleave(size + 1, 0), basis)[1]
    after = after[:, 0].reshape(words, size + 1, size)  # heads are copies
    offset, matrix = after[:, 0, :, None], (after[:, 1:] - after[:, :1]).mT
    for _ in range(DOUBLINGS):
        offset, matrix = matrix @ offset + offset, matrix @ matrix
    far = (matrix @ state[:, 0].reshape(words, size, 1) + offset).reshape(words, 1, *own).expand_as(state)
    later = head.run(a, rows[:, -half:], far)[0]
    edges = torch.tensor(head.edges, dtype=later.dtype)
    pairs = zip(seen[:, -half:], torch.bucketize(later, edges), strict=True)
    same = all(set(x.tolist()) == set(y.tolist()) for x, y in pairs)
    return same and bool(((later[..., None] - edges).abs() >= head.margin).all())


def _period(row: torch.Tensor) -> int:
    """Of the end of a row; 0 where it is longer than LONGEST_PERIOD."""
    return next((p for p in range(1, LONGEST_PERIOD + 1) if torch.equal(row[-2 * p : -p], row[-p:])), 0)
