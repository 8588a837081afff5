"""Mamba's selective scan, as transformers' mixers call it: every channel a head, with its own N states.

    x_t = diag(e^{dt_t A}) x_{t-1} + dt_t B_t u_t      y_t = C_t^T x_t + D u_t      dt = softplus(dt + bias)

B is Euler's (dt B), not a zero-order hold's. u, B, C and dt come after the short convolution; y silu(z) follows
inside the function. Continued from a cache, transformers restarts a chunk of several tokens at zero; here the state
goes on.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from dsf import Core, Param, Positive, Shared, Vector, architecture_named
from dsf.converter_registry import tap
from dsf.converter_tools import cached_state, decaying, gated, wide
from dsf.cores import Steps
from dsf.recording import Call

FAMILIES = ("mamba", "falcon_mamba", "jamba", "zamba")
SCAN = """hidden_states dt A B C D? z? delta_bias? delta_softplus? return_last_state? use_mambapy? use_associative_scan?
    seq_idx?"""
UPDATE = "state hidden_states dt A B C D? z? dt_bias? dt_softplus?"


def _core(call: Call, u, dt, B, C, bias, state: torch.Tensor | None) -> Core:
    """u, dt [B, T, I], B, C [B, T, N], state [B, I, N]."""
    a = call.arguments
    dt = dt if bias is None else dt + bias.to(dt.dtype)
    arch = architecture_named("mamba").with_domain(b=Shared(Vector), c=Shared(Vector), dt=Positive, log_a=Param(Vector))
    skip = torch.zeros_like(u[0, 0]) if a["D"] is None else a["D"]
    signals = dict(b=wide(B)[:, :, None], c=wide(C)[:, :, None], log_a=wide(-a["A"]).log(), d=wide(skip))
    signals["dt"] = wide(F.softplus(dt) if a.get("delta_softplus") or a.get("dt_softplus") else dt)
    return Core(arch, signals, wide(u)[..., None], None if state is None else wide(state)[..., None])


@tap("mamba_selective_scan", check=decaying, parameters=SCAN, families=FAMILIES)
def scan(call: Call) -> Steps:
    """hidden_states, dt, z [B, I, T], A [I, N], B, C [B, N, T] -> y [B, I, T] (and the last state [B, I, N])."""
    a = call.arguments
    state = cached_state(call)
    if state is not None and state.dim() == 4:  # zamba: a scan per head, the states of all heads in one tensor
        state = state[:, call.number]
    u, dt, B, C = (a[k].transpose(1, 2) for k in ("hidden_states", "dt", "B", "C"))
    y, x = yield _core(call, u, dt, B, C, a["delta_bias"], state)
    y = gated(y[..., 0].transpose(1, 2), a["z"]).to(a["hidden_states"].dtype)
    return (y, x[..., 0].to(y.dtype)) if a["return_last_state"] else y


@tap("mamba_selective_state_update", check=decaying, parameters=UPDATE, families=FAMILIES)
def update(call: Call) -> Steps:
    """One token: state [B, I, N], changed in place, hidden_states, dt, z [B, I], B, C [B, N] -> y [B, I]."""
    a = call.arguments
    u, dt, B, C = (a[k][:, None] for k in ("hidden_states", "dt", "B", "C"))
    y, x = yield _core(call, u, dt, B, C, a["dt_bias"], a["state"])
    a["state"].copy_(x[..., 0])
    return gated(y[:, 0, :, 0], a["z"]).to(a["hidden_states"].dtype)
