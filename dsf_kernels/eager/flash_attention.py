"""Softmax attention on CUDA: torch's own fused attention, where nothing stands between q^T k and the weights.

    y_t = sum_s e^{q_t^T k_s} u_s / sum_s e^{q_t^T k_s}

Windows, decays, weights of tokens, tables and sinks go by blocks of queries (dsf.pairwise).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from dsf.features import RelativeKernel, decay_and_window
from dsf.feedback import Feedback
from dsf.pairwise import gather, is_weighted, run_pairs
from dsf.system import System

from ..costs import Cost, Sizes, floor
from ..reach import HALF
from ..registry import REAL, kernel
from .attention import declines as declines_any

CALLS = 6


def declines(system: System | Feedback) -> str | None:
    """Why this is not softmax(q k^T) u, or None."""
    reason = declines_any(system)
    if reason or isinstance(system, Feedback):
        return reason
    step = system.outline
    biased = is_weighted(step) or step.sink is not None or isinstance(step.B.log_kernel, RelativeKernel)
    if biased or decay_and_window(step.A)[1] is not None:
        return "its scores have a bias, a window, a decay or a sink"
    return None


def cost(system: System, sizes: Sizes) -> Cost:
    """The floor."""
    least = floor(system, sizes)
    return Cost(least.flops, least.bytes, CALLS, least.speed)


@kernel("flash_attention", form="system", cost=cost, declines=declines, dtypes=REAL, devices=("cuda",))
def run(system: System, u: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
    """As dsf.pairwise.run_pairs, which the transforms of torch.func take."""
    if torch._C._are_functorch_transforms_active() or not u.shape[1]:
        return run_pairs(system, u, state)
    with torch.autocast(u.device.type, enabled=False):
        z = gather(system, u, state)
        dtype = torch.promote_types(torch.promote_types(z.q.dtype, z.k.dtype), z.u.dtype)
        q, k, v = (x.to(dtype) for x in (z.q, z.k, z.u))
        T, S = q.shape[2], k.shape[2]
        if T == 1 or S == T:
            y = scaled_dot_product_attention(q, k, v, is_causal=T > 1, scale=1.0)
        else:  # the last query sees the last key
            seen = torch.ones(T, S, dtype=torch.bool, device=u.device).tril(S - T)
            y = scaled_dot_product_attention(q, k, v, seen, scale=1.0)
        past = tuple(x.float() if x.dtype in HALF else x for x in z.past(None))
    return y.transpose(1, 2).to(u.dtype), past
