"""The gradient of normalised exponential features, part by part: dlogits = P (dy u^T - D), P = e^{logits - L}.

L is the log of the whole denominator and D_t = dy_t^T y_t, so a part goes alone: by torch's fused backward, or, where
weights, decays or a table want a gradient, with dlogits formed for a block of queries at a time.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from dsf.pairwise import Pairs

from .attention_parts import Part, blocks, fused_backward, parts


class Inputs(NamedTuple):
    """What is differentiated; table [H | 1, ages]."""

    q: torch.Tensor
    k: torch.Tensor
    u: torch.Tensor
    w: torch.Tensor | None
    g: torch.Tensor | None
    sink: torch.Tensor | None
    table: torch.Tensor | None

    def pairs(self, window: int | None) -> Pairs:
        return Pairs(*self[:6], window)


def scored(inputs: Inputs) -> torch.Tensor:
    """q as it enters the scores: under a table without its position, the last entry."""
    q = inputs.q
    return q if inputs.table is None else torch.cat([q[..., :-1], torch.zeros_like(q[..., :1])], -1)


def gradients(inputs: Inputs, window: int | None, need: tuple[bool, ...], grad, y, L) -> list:
    """Those of Inputs, None where there is no need; grad is that of y [B, H, T, p], L [B, H, T] as in attention.py."""
    q, D = scored(inputs), (grad.to(L.dtype) * y.to(L.dtype)).sum(-1)
    biased = need[3] or need[4] or need[6]  # w, g or the table
    watched = Inputs(*inputs[:3], *(_watched(x, n) for x, n in zip(inputs[3:], need[3:], strict=True)))
    z = watched.pairs(window)
    total = Inputs(torch.empty_like(q), *(torch.zeros_like(x) for x in inputs[1:3]), *map(_zeros, inputs[3:]))
    for start, stop in blocks(z, watched.table is not None, whole=not biased):
        now = slice(start, stop)
        with torch.set_grad_enabled(biased):
            some = parts(z, watched.table, start, stop)
        block = [x[:, :, now] for x in (grad, q, y, L, D)]
        dq, dbias = [], []
        for part in some:
            keys = z.k[:, :, part.seen], z.u[:, :, part.seen]
            more, dk, du, *dlogits = (_explicit if biased else _fused)(block, *keys, part)
            dq.append(more)
            total.k[:, :, part.seen] += dk
            total.u[:, :, part.seen] += du
            dbias += [(part.bias, *dlogits), (part.shift, *(x.sum(-1) for x in dlogits))] if biased else []
        total.q[:, :, now] = sum(dq[1:], dq[0])
        _add_to_leaves(dbias, watched, total)
    if inputs.table is not None:
        total.q[..., -1] = total.k[..., -1] = 0  # positions
    if inputs.sink is not None and total.sink is not None:
        total.sink.copy_((-(inputs.sink - L).exp() * D).sum_to_size(inputs.sink.shape))
    return [x if n else None for x, n in zip(total, need, strict=True)]


def _watched(x: torch.Tensor | None, need: bool) -> torch.Tensor | None:
    return x if x is None else x.detach().requires_grad_(need)


def _zeros(x: torch.Tensor | None) -> torch.Tensor | None:
    return x if x is None else torch.zeros_like(x)


def _fused(block: list[torch.Tensor], k: torch.Tensor, u: torch.Tensor, part: Part) -> tuple[torch.Tensor, ...]:
    """dq, dk, du of one part, given its queries' grad, q, y, L, D."""
    grad, q, y, L, _ = block
    return fused_backward(grad, q, k, u, y, L, part)


def _explicit(block: list[torch.Tensor], k: torch.Tensor, u: torch.Tensor, part: Part) -> tuple[torch.Tensor, ...]:
    """The same, and dlogits."""
    grad, q, _, L, D = block
    logits = q @ k.mT
    logits = logits if part.bias is None else logits + part.bias.detach()
    if part.causal:
        logits = logits.masked_fill(logits.new_ones(logits.shape[-2:]).triu(1).bool(), -torch.inf)
    P = (logits - (L if part.shift is None else L - part.shift.detach())[..., None]).exp()
    dlogits = P * (grad @ u.mT - D[..., None])
    return dlogits @ k, dlogits.mT @ q, P.mT @ grad, dlogits


def _add_to_leaves(dbias: list, watched: Inputs, total: Inputs) -> None:
    """Through biases and shifts to the weights, decays and table they are made of."""
    made = [(x, d.sum_to_size(x.shape)) for x, d in dbias if x is not None and x.requires_grad]
    leaves = [
        (x, z)
        for x, z in zip(watched[3:], total[3:], strict=True)
        if x is not None and x.requires_grad and z is not None
    ]
    if made:
        found = torch.autograd.grad(
            [x for x, _ in made], [x for x, _ in leaves], [d for _, d in made], allow_unused=True
        )
        for d, (_, into) in zip(found, leaves, strict=True):
            into.add_(0 if d is None else d)
