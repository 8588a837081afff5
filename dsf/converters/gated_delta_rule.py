"""The gated delta rule, as transformers' linear attention calls it, in chunks and token by token.

    x_t = e^{g_t} (I - beta_t k_t k_t^T) x_{t-1} + beta_t k_t u_t^T      y_t = q_t^T x_t / sqrt(n)

q and k are normalised inside, by sqrt(|k|^2 + epsilon), so that |k| <= 1 and not = 1. Groups of heads share q and k.
Where beta lies is read off the model: sigmoid gives [0, 1], twice a sigmoid [0, 2] and with it negative eigenvalues.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from dsf import Ball, Core, LogDecay, Scalar, Vector, architecture_named
from dsf.converter_registry import tap
from dsf.converter_tools import found_domain, grouped, refuse_packed, wide
from dsf.cores import Steps
from dsf.recording import Call

FAMILIES = ("qwen3_next", "qwen3_5", "qwen3_5_moe", "olmo_hybrid")
EPSILON = 1e-6
CHUNKS = """query key value g beta chunk_size initial_state? output_final_state? use_qk_l2norm_in_kernel?
    cu_seqlens?"""
TOKENS = "query key value g beta initial_state? output_final_state? use_qk_l2norm_in_kernel? cu_seqlens?"


def normalised(x: torch.Tensor) -> torch.Tensor:
    """x / sqrt(|x|^2 + epsilon)."""
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + EPSILON)


def queries_and_keys(a: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """q, scaled by 1 / sqrt(n), k, both normalised where the function does it, and the domain of k."""
    q, k, unit = wide(a["query"]), wide(a["key"]), a["use_qk_l2norm_in_kernel"]
    q, k = (normalised(q), normalised(k)) if unit else (q, k)
    return q * q.shape[-1] ** -0.5, k, Ball if unit else Vector


@tap("torch_chunk_gated_delta_rule", check=refuse_packed, parameters=CHUNKS, families=FAMILIES)
def chunks(call: Call) -> Steps:
    """query, key [B, T, G, n], value [B, T, H, p], g, beta [B, T, H] -> y [B, T, H, p], final state [B, H, n, p]."""
    a = call.arguments
    q, k, of_k = queries_and_keys(a)
    groups, heads = q.shape[2], a["value"].shape[2]
    domains = dict(q=grouped(Vector, groups, heads), k=grouped(of_k, groups, heads))
    domains |= dict(beta=found_domain(call, "beta", Scalar), g=found_domain(call, "g", Scalar, within=LogDecay))
    signals = dict(q=q, k=k, beta=wide(a["beta"]), g=wide(a["g"]))
    state = None if a["initial_state"] is None else wide(a["initial_state"])
    y, x = yield Core(architecture_named("gated_deltanet").with_domain(**domains), signals, wide(a["value"]), state)
    return y.to(a["query"].dtype), x if a["output_final_state"] else None


tap("torch_recurrent_gated_delta_rule", check=refuse_packed, parameters=TOKENS, families=FAMILIES)(chunks)
