"""Systems of infinite features, pair by pair: the state is the past itself, and no phi is ever formed.

    y_t = sum_s e^{w_s + g_{s+1} + ... + g_t + log_kernel(q_t, k_s)} u_s      over s <= t; a window W: t - W < s <= t
    normalised: divided by the same with u = 1, plus e^sink; where nothing is seen (every weight is 0), y_t = 0

Blocks of queries, so that no matrix of all pairs is held, nor kept for the gradient: there a block is computed again.
Exponents are summed segment by segment, never subtracted: g = -oo and w = -oo are exact, forward and backward.
"""

from __future__ import annotations

from collections.abc import Callable
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


def run_pairs(system: System, u: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """u [B, T, H, p] -> y [B, T, H, p] and the past (k [B, S, H, n], u [B, S, H, p]), under a window its last W - 1.

    Where tokens carry weights the past has a third part, w [B, S, H]: their logarithms as of the last step, so with all
    decays up to it. `state` is such a past; the run goes on from there.
    """
    (a, window), weight, T = decay_and_window(system.A), system.B.weight, u.shape[1]
    q, k = (part.x.expand(*u.shape[:3], -1) for part in (system.C, system.B))
    parts = [k, u]
    if is_weighted(system):
        w = weight.log if isinstance(weight, Log) else u.new_zeros(1, 1, 1, 1)
        parts.append(w.expand(*u.shape[:3], 1)[..., 0])
    before = 0 if state is None else state[0].shape[1]
    parts = parts if state is None else [torch.cat(pair, 1) for pair in zip(state, parts, strict=True)]
    q, k, u, *w = (x.transpose(1, 2) for x in (q, *parts))  # heads first: [B, H, T, ...]
    g = a.log[..., 0].transpose(1, 2) if isinstance(a, Log) else None
    sink = None if system.sink is None else system.sink[..., 0].transpose(1, 2)
    outputs = []
    for start in range(0, T, BLOCK):
        stop, first = min(start + BLOCK, T), 0 if window is None else max(0, before + start - window + 1)
        now, seen = slice(start, stop), slice(first, before + stop)
        weights, decays = w[0][..., seen] if w else None, _cut(g, now)
        inputs = q[:, :, now], k[:, :, seen], u[:, :, seen], weights, decays, _cut(sink, now)
        outputs.append(_recomputed(T > BLOCK, partial(_block, system, window), *inputs))
        if decays is not None:
            w = [_decayed(w[0], decays, before + start, before + stop)]
    kept = 0 if window is None else max(0, before + T - window + 1)
    y = torch.cat(outputs, 2).transpose(1, 2) if outputs else torch.zeros_like(parts[1][:, before:])
    return y, tuple(x.transpose(1, 2)[:, kept:] for x in (k, u, *w))


def _block(system: System, window: int | None, q, k, u, w, g, sink) -> torch.Tensor:
    """The last C of S tokens: q [B,H,C,n], k, u [B,H,S,.], w [B,H,S] as of the block's beginning, g [B,H,C], sink."""
    C, S = q.shape[2], k.shape[2]
    logits = system.C.log_kernel(q, k)
    logits = logits if w is None else logits + w[..., None, :]
    logits = logits if g is None else logits + _segments(g, C, S)
    age = torch.arange(S - C, S, device=q.device)[:, None] - torch.arange(S, device=q.device)
    unseen = (age < 0) if window is None else (age < 0) | (age >= window)
    logits = logits.masked_fill(unseen, -torch.inf)
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


def _cut(x: torch.Tensor | None, now: slice) -> torch.Tensor | None:
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


def _decayed(w: torch.Tensor, g: torch.Tensor, start: int, stop: int) -> torch.Tensor:
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
