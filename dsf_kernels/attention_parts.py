"""Normalised exponential features as calls of torch's fused attention: which queries meet which keys, with what bias.

    logits_ts = q_t^T k_s + bias_ts + shift_t          out = softmax(logits) u          lse = log sum e^logits

A block of queries is one part (under a window or a table of biases: a bias for every pair), or two: the tokens before
the block, and those in it. The decays up to the block are in the weights of the older tokens, those inside the block
are the same for all of them: bias is one row, shift the rest. Exponents are sums of segments, never differences.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from dsf.pairwise import Pairs, cut, decayed, log_weights

BLOCK = 256  # queries at a time, where pairs have a bias of their own
_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Part(NamedTuple):
    """The keys `seen` of a block; causal: query i sees the keys up to the i-th. bias [B | 1, H | 1, C | 1, S]."""

    seen: slice
    causal: bool = False
    bias: torch.Tensor | None = None
    shift: torch.Tensor | None = None  # [B | 1, H | 1, C]


def blocks(z: Pairs, relative: bool, whole: bool = True) -> list[tuple[int, int]]:
    """Blocks of queries (start, stop); `whole`: all in one, where no pair needs a bias of its own."""
    T, S = z.q.shape[2], z.k.shape[2]
    alone = z.g is not None or relative or (z.window is not None and z.window < S)
    size = BLOCK if alone or not whole else max(T, 1)
    return [(start, min(start + size, T)) for start in range(0, T, size)]


def parts(z: Pairs, table: torch.Tensor | None, start: int, stop: int) -> list[Part]:
    """What the queries start..stop-1 see. Differentiable in w, g and the table [H | 1, ages]."""
    first, begin, end = z.first(start), z.before + start, z.before + stop
    w, g = z.w, cut(z.g, slice(start, stop))
    if w is not None and z.g is not None and start:
        w = decayed(w, z.g if z.g.shape[-1] == 1 else z.g[..., :start], z.before, begin)
    seen = slice(first, end)
    if table is not None or (stop - start > 1 and z.window is not None and z.window < end):
        bias = log_weights(stop - start, end - first, None if w is None else w[..., seen], g, z.window, z.q)
        return [Part(seen, bias=bias if table is None else bias + _by_distance(z, table, slice(start, stop), seen))]
    if stop - start == 1:  # one query sees all keys: a row
        w = w if w is None or g is None else decayed(w, g, begin, end)
        return [Part(seen, bias=_row(w, seen))]
    old, new = slice(first, begin), slice(begin, end)
    if g is None or w is None:  # decays come with weights
        present = Part(new, True, _row(w, new))
    else:
        present = Part(new, False, log_weights(stop - start, stop - start, w[..., new], g, None, z.q))
    return [Part(old, False, _row(w, old), _since(g, stop - start)), present] if begin > first else [present]


def _row(w: torch.Tensor | None, seen: slice) -> torch.Tensor | None:
    return None if w is None else w[:, :, None, seen]


def _since(g: torch.Tensor | None, C: int) -> torch.Tensor | None:
    """The decays from the beginning of the block up to each of its C queries."""
    if g is None:
        return None
    return g * torch.arange(1, C + 1, device=g.device) if g.shape[-1] == 1 else g.cumsum(-1)


def _by_distance(z: Pairs, table: torch.Tensor, now: slice, seen: slice) -> torch.Tensor:
    """table[h, t - s]; the positions t, s are the last entries of q and k."""
    t, s = (x.detach().round().long() for x in (z.q[:, :, now, -1], z.k[:, :, seen, -1]))
    if _one_after_another(t) and _one_after_another(s):
        return _diagonals(table, t.shape[-1], s.shape[-1], int(t[0, 0, 0] - s[0, 0, 0]))
    age = (t[..., None] - s[..., None, :]).clamp(0, table.shape[-1] - 1)
    table = table.expand(z.q.shape[1], -1)
    return table[torch.arange(len(table), device=table.device)[:, None, None], age]


def _one_after_another(t: torch.Tensor) -> bool:
    """Are these positions [B, H, T] t, t + 1, t + 2, ... in every batch and head?"""
    return bool((t == t[:1, :1, :1] + torch.arange(t.shape[-1], device=t.device)).all())


def _diagonals(table: torch.Tensor, C: int, S: int, age: int) -> torch.Tensor:
    """[1, H | 1, C, S]: entry i, j is table[h, age + i - j]; a row is the one above it, shifted: no gather of all."""
    ages = torch.arange(age - S + 1, age + C, device=table.device).clamp(0, table.shape[-1] - 1)
    return table[:, ages].flip(-1).unfold(-1, S, 1).flip(-2)[None]


# ---------------------------------------------------------------------------------------------------- torch's operation
def fused(q: torch.Tensor, k: torch.Tensor, u: torch.Tensor, part: Part) -> tuple[torch.Tensor, torch.Tensor]:
    """out [B, H, C, p] and lse [B, H, C] of a part; a query that sees nothing has out = 0, and lse = -oo or 0."""
    out, lse = _forward(*_one_width(q, k, u), 0.0, part.causal, attn_mask=_fitting(part.bias, q), scale=1.0)
    return out[..., : u.shape[-1]], lse if part.shift is None else lse + part.shift


def fused_backward(grad, q, k, u, out, lse, part: Part) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of q, k and u; out and lse are those of ALL that the queries see, not of this part alone."""
    lse = lse if part.shift is None else lse - part.shift
    q_, k_, u_, out, grad = _one_width(q, k, u, out, grad)
    mask = _fitting(part.bias, q)
    found = _backward(grad, q_, k_, u_, out, lse, 0.0, part.causal, attn_mask=mask, scale=1.0)
    return tuple(d[..., : x.shape[-1]] for d, x in zip(found, (q, k, u), strict=True))  # type: ignore[return-value]


def _fitting(bias: torch.Tensor | None, q: torch.Tensor) -> torch.Tensor | None:
    return bias if bias is None else bias.to(q.dtype)


def _one_width(*parts: torch.Tensor) -> list[torch.Tensor]:
    """All parts with as many channels, by zeros, and channels next to each other in memory: torch's operation asks."""
    width = max(x.shape[-1] for x in parts)
    padded = (F.pad(x, (0, width - x.shape[-1])) if x.shape[-1] < width else x for x in parts)
    return [x if x.stride(-1) == 1 else x.contiguous() for x in padded]


def see_nothing(part: Part, C: int) -> torch.Tensor | None:
    """Which of the C queries see nothing in this part: [B | 1, H | 1, C | 1]; None: each sees something."""
    if part.bias is None:
        return None
    seen = part.bias > -torch.inf
    return seen[:, :, 0].cumsum(-1)[..., :C] == 0 if part.causal else ~seen.any(-1)
