"""Softmax attention as a core: which architecture a call of attention is, and its signals."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .converter_tools import wide
from .cores import Core
from .definition import architecture_named
from .domains import Shared, Vector
from .recording import Declined


@dataclass(frozen=True, eq=False)
class Scores:
    """What stands between q^T k and the weights.

    window: only so many tokens are seen, the present one included. valid [B, S]: the keys that are no padding. cap: scores
    are cap tanh(q^T k / cap). sinks [H]: e^sink is added to the normaliser. table [H, ages]: a bias by distance, the last
    one for all greater distances. slopes [H]: a bias of -slope per token of distance.
    """

    window: int | None = None
    valid: torch.Tensor | None = None
    cap: float | None = None
    sinks: torch.Tensor | None = None
    table: torch.Tensor | None = None
    slopes: torch.Tensor | None = None


def attention_core(q: torch.Tensor, k: torch.Tensor, u: torch.Tensor, scores: Scores) -> Core:
    """q [B, T, H, n], k [B, S, G, n], u [B, S, G, p]: the first S - T keys came before, and are the initial state."""
    if any(x is not None for x in (scores.window, scores.valid, scores.cap, scores.sinks, scores.table, scores.slopes)):
        raise Declined("not yet")
    past, heads, groups = k.shape[1] - q.shape[1], q.shape[2], k.shape[2]
    q, k, u = wide(q), wide(k), wide(u)
    u = u.repeat_interleave(heads // groups, 2)
    arch = architecture_named("softmax_attention").with_domain(k=Shared(Vector, groups))
    state = (k[:, :past].repeat_interleave(heads // groups, 2), u[:, :past]) if past else None
    return Core(arch, dict(q=q, k=k[:, past:]), u[:, past:], state)
