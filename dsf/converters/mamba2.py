"""Mamba-2's chunk scan, as transformers' mixers call it: one decay per head, B and C shared by groups of heads.

    x_t = e^{dt_t A} x_{t-1} + dt_t B_t u_t^T      y_t = C_t^T x_t + D u_t      dt = clamp(softplus(dt + bias), limit)

u, B, C come after the short convolution; the gate and the norm follow outside (gate first). In one-token decoding
transformers leaves out the clamp; here a token decoded is a token of a chunk.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from dsf import Core, Scalar, Vector, architecture_named, inf
from dsf.converter_registry import tap
from dsf.converter_tools import decaying, gated, grouped, wide
from dsf.cores import Steps
from dsf.recording import Call

FAMILIES = ("mamba2", "bamba", "zamba2", "nemotron_h", "granitemoehybrid", "falcon_h1")
SCAN = """hidden_states dt A B C chunk_size D? dt_bias? initial_states? dt_softplus? dt_limit? return_final_states? z?
    seq_idx?"""
UPDATE = "state hidden_states dt A B C D? dt_bias? dt_softplus? z?"


def _core(call: Call, u, dt, B, C, A, D, bias, limit: tuple[float, float], state: torch.Tensor | None) -> Core:
    """u [B, T, H, P], dt [B, T, H], B, C [B, T, G, N], A, D [H], state [B, H, P, N]."""
    dt = dt if bias is None else dt + bias.to(dt.dtype)
    least = 0.0 if call.arguments["dt_softplus"] else -inf
    dt = (F.softplus(dt) if call.arguments["dt_softplus"] else dt).clamp(*limit)
    groups = grouped(Vector, B.shape[2], u.shape[2])
    domains = dict(q=groups, k=groups, dt=Scalar(max(limit[0], least), limit[1]))
    skip = torch.zeros_like(A) if D is None else D
    signals = dict(q=wide(C), k=wide(B), dt=wide(dt), log_a=wide(-A).log(), d=wide(skip))
    arch = architecture_named("mamba2").with_domain(**domains)
    return Core(arch, signals, wide(u), None if state is None else wide(state).mT)


@tap("mamba2_chunk_scan", check=decaying, parameters=SCAN, families=FAMILIES)
def scan(call: Call) -> Steps:
    """hidden_states [B, T, H, P], dt [B, T, H], A [H], B, C [B, T, G, N] -> y (and the final state [B, H, P, N])."""
    a = call.arguments
    u, parts = a["hidden_states"], (a["dt"], a["B"], a["C"], a["A"], a["D"], a["dt_bias"], a["dt_limit"])
    y, x = yield _core(call, u, *parts, a["initial_states"])
    y = gated(y, a.get("z")).contiguous()
    return (y, x.mT) if a["return_final_states"] else y


@tap("mamba2_selective_state_update", check=decaying, parameters=UPDATE, families=FAMILIES)
def update(call: Call) -> Steps:
    """One token: state [B, H, P, N], changed in place, hidden_states, dt [B, H, P], A [H, P, N], B, C [B, G, N]."""
    a = call.arguments
    u, B, C, dt = (a[k][:, None] for k in ("hidden_states", "B", "C", "dt"))
    D, bias = (None if a[k] is None else a[k][:, 0] for k in ("D", "dt_bias"))
    limit = getattr(call.module, "time_step_limit", (0.0, inf))
    y, x = yield _core(call, u, dt[..., 0], B, C, a["A"][:, 0, 0], D, bias, limit, a["state"])
    a["state"].copy_(x.mT)
    return gated(y[:, 0], a["z"]).to(a["hidden_states"].dtype)
