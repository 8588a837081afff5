"""Systems of infinite features, pair by pair: the state is the past itself, and no phi is ever formed.

    y_t = sum_s e^{w_s + g_{s+1} + ... + g_t + log_kernel(q_t, k_s)} u_s      over s <= t; a window W: t - W < s <= t
    normalised: divided by the same with u = 1, plus e^sink; where nothing is seen (every weight is 0), y_t = 0

Blocks of queries, so that no matrix of all pairs is held, nor kept for the gradient: there a block is computed again.
Exponents are summed segment by segment, never subtracted: g = -oo and w = -oo are exact, forward and backward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from .features import decay_and_window
from .operators import matrix_product
from .system import System
from .values import Log

BLOCK = 256  # queries at a time


def is_weighted(system: System) -> bool:
    """Do the tokens of the past carry log weights: is there a decay, or a weight on the write?"""
    a, _ = decay_and_window(system.A)
    return isinstance(a, Log) or isinstance(system.B.weight, Log)


@dataclass(frozen=True, eq=False)
class Pairs:
    """What pairs of tokens are made of, heads first: T queries q [B, H, T, n] and S >= T keys k [B, H, S, n] with their
    u [B, H, S, p]; the past comes first. w [B, H, S]: log weights as of the first query; g and sink [B | 1, H | 1,
    T | 1]. Each of the last three may be None.
    """

    q: torch.Tensor
    k: torch.Tensor
    u: torch.Tensor
    w: torch.Tensor | None
    g: torch.Tensor | None
    sink: torch.Tensor | None
    window: int | None

    @property
    def before(self) -> int:
        """How many tokens came before the first query."""
        return self.k.shape[2] - self.q.shape[2]

    def first(self, start: int) -> int:
        """The first key that query `start` sees."""
        return 0 if self.window is None else max(0, self.before + start - self.window + 1)

    def past(self, w: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        """The state after the last query, given the weights as of it: every key that one more query would see."""
        parts = (self.k, self.u) if w is None else (self.k, self.u, w)
        kept = self.first(self.q.shape[2])
        return tuple(x.transpose(1, 2)[:, kept:] for x in parts)


def gather(system: System, u: torch.Tensor, state: Any = None) -> Pairs:
    """The tokens of a run, after those of `state`."""
    (a, window), weight = decay_and_window(system.A), system.B.weight
    q, k = (part.x.expand(*u.shape[:3], -1) for part in (system.C, system.B))
    parts = [k, u]
    if is_weighted(system):
        w = weight.log if isinstance(weight, Log) else u.new_zeros(1, 1, 1, 1)
        parts.append(w.expand(*u.shape[:3], 1)[..., 0])
    parts = parts if state is None else [torch.cat(pair, 1) for pair in zip(state, parts, strict=True)]
    q, k, u, *w = (x.transpose(1, 2) for x in (q, *parts))  # heads first: [B, H, T, ...]
    g = a.log[..., 0].transpose(1, 2) if isinstance(a, Log) else None
    sink = None if system.sink is None else system.sink[..., 0].transpose(1, 2)
    return Pairs(q, k, u, w[0] if w else None, g, sink, window)


def run_pairs(system: System, u: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """u [B, T, H, p] -> y [B, T, H, p] and the past (k [B, S, H, n], u [B, S, H, p]), under a window its last W - 1.

    Where tokens carry weights the past has a third part, w [B, S, H]: their logarithms as of the last step, so with all
    decays up to it. `state` is such a past; the run goes on from there.
    """
    pairs = gather(system, u, state)
    y, w = attend(system, pairs)
    return y.transpose(1, 2), pairs.past(w)


def attend(system: System, z: Pairs) -> tuple[torch.Tensor, torch.Tensor | None]:
    """y [B, H, T, p], and the weights as of the last query."""
    T, outputs, w = z.q.shape[2], [], z.w
    for start in range(0, T, BLOCK):
        stop = min(start + BLOCK, T)
        now, seen = slice(start, stop), slice(z.first(start), z.before + stop)
        g = cut(z.g, now)
        inputs = z.q[:, :, now], z.k[:, :, seen], z.u[:, :, seen], None if w is None else w[..., seen], g
        outputs.append(_recomputed(T > BLOCK, partial(_block, system, z.window), *inputs, cut(z.sink, now)))
        w = w if w is None or g is None else decayed(w, g, z.before + start, z.before + stop)
    return torch.cat(outputs, 2) if outputs else torch.zeros_like(z.u[:, :, z.before :]), w


def _block(system: System, window: int | None, q, k, u, w, g, sink) -> torch.Tensor:
    """The last C of S tokens: q [B,H,C,n], k, u [B,H,S,.], w [B,H,S] as of the block's beginning, g [B,H,C], sink."""
    logits = system.C.log_kernel(q, k) + log_weights(q.shape[2], k.shape[2], w, g, window, q)
    if not system.normalised:
        return matrix_product(logits.exp(), u)
    top = logits.detach().amax(-1, keepdim=True)  # cancels in the ratio, so it needs no gradient
    top = top if sink is None else torch.maximum(top, sink.detach()[..., None])
    top = top.masked_fill(top == -torch.inf, 0.0)
    weights = (logits - top).exp()
    below = weights.sum(-1, keepdim=True)
    below = below if sink is None else below + (sink[..., None] - top).exp()
    below = below.masked_fill(below == 0, 1.0) if system.floor is None else below.clamp(min=system.floor * (-top).exp())
    return matrix_product(weights, u) / below


def log_weights(C: int, S: int, w, g, window: int | None, like: torch.Tensor) -> torch.Tensor:
    """What is added to the scores of the last C queries of S keys: weights, decays, -oo for what is not seen.

    [B | 1, H | 1, C, S], in the dtype and on the device of `like`; w [B, H, S] as of the first query, g [B, H, C].

    >>> log_weights(2, 3, None, None, None, torch.zeros(1))[0, 0]
    tensor([[0., 0., -inf],
            [0., 0., 0.]])
    """
    age = torch.arange(S - C, S, device=like.device)[:, None] - torch.arange(S, device=like.device)
    unseen = (age < 0) if window is None else (age < 0) | (age >= window)
    total = like.new_zeros(1, 1, C, S) if g is None else _segments(g, C, S)
    total = total if w is None else total + w[..., None, :]
    return total.masked_fill(unseen, -torch.inf)


def cut(x: torch.Tensor | None, now: slice) -> torch.Tensor | None:
    """The steps `now` of x [B, H, T]; what is constant in time as it is."""
    return x if x is None or x.shape[-1] == 1 else x[..., now]


def _segments(g: torch.Tensor, C: int, S: int) -> torch.Tensor:
    """g_{s+1} + ... + g_t of the last C queries t and S keys s, from the block's beginning on: [B, H, C, S]."""
    steps = torch.arange(1, C + 1, device=g.device)[:, None] - torch.arange(C + 1, device=g.device)
    if g.shape[-1] == 1:  # constant
        sums = torch.where(steps > 0, g[..., None] * steps, 0)
    else:
        sums = torch.where(steps > 0, g[..., None], 0).cumsum(-2)
    return torch.cat([sums[..., :1].expand(*sums.shape[:-1], S - C), sums[..., 1:]], -1)


def decayed(w: torch.Tensor, g: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """w [B, H, S] after the decays of the steps start..stop-1: all of them for older tokens, else those that follow."""
    left = torch.arange(stop - start, -1, -1, device=g.device)
    sums = torch.where(left > 0, g * left, 0) if g.shape[-1] == 1 else F.pad(_from_the_end(g), (0, 1))
    return torch.cat([w[..., :start] + sums[..., :1], w[..., start:stop] + sums[..., 1:], w[..., stop:]], -1)


def _from_the_end(g: torch.Tensor) -> torch.Tensor:
    return g.flip(-1).cumsum(-1).flip(-1)


def _recomputed(again: bool, f: Callable[..., torch.Tensor], *inputs: torch.Tensor | None) -> torch.Tensor:
    """f(*inputs); `again`: what it computes inside is not kept for the gradient, but computed once more there."""
    if again and torch.is_grad_enabled() and not torch._C._are_functorch_transforms_active():
        return checkpoint(f, *inputs, use_reentrant=False, preserve_rng_state=False)
    return f(*inputs)
