"""RWKV-4's attention: every channel a head with one constant decay, read before it is written, and a ratio of two runs.

    x_t = e^{-e^w} x_{t-1} + e^{k_t} u_t      y_t = (x_{t-1} + e^{bonus + k_t} u_t) / (the same driven by ones)

transformers keeps numerator and denominator divided by e^m, m the largest exponent so far; the receptance multiplies y
outside. Its state is a list [num, den, m].
"""

from __future__ import annotations

import torch

from dsf import Core, architecture_named
from dsf.converter_registry import tap
from dsf.converter_tools import wide
from dsf.cores import Steps
from dsf.recording import Call


@tap(
    "rwkv_linear_attention",
    parameters="time_decay time_first key value state? return_state?",
    families=("rwkv",),
)
def attention(call: Call) -> Steps:
    """time_decay, time_first [C], key, value [B, T, C], state [B, C] each -> y [B, T, C], the state."""
    a = call.arguments
    k, decay, bonus = wide(a["key"]), -wide(a["time_decay"]).exp(), wide(a["time_first"])
    state, m = None, torch.full_like(k[:, 0], -1e38)
    if a["state"] is not None:
        num, den, m = a["state"]
        state = torch.stack([num, den], -1)[:, :, None] * m.exp()[..., None, None]
    signals = dict(k=k, w=decay, bonus=bonus)
    y, x = yield Core(architecture_named("rwkv4"), signals, wide(a["value"])[..., None], state)
    y = y[..., 0].to(a["key"].dtype)
    if a["state"] is None and not a["return_state"]:
        return y, None
    steps = torch.arange(k.shape[1] - 1, -1, -1, device=k.device)[:, None]  # from each token to the last
    m = torch.maximum((k + decay * steps).amax(1), m + decay * k.shape[1])
    x = x[:, :, 0] * (-m).exp()[..., None]
    return y, [x[..., 0], x[..., 1], m]
