"""The short causal convolution of one channel at a time: a shift register, all of whose eigenvalues are 0.

    x_t = (u_t, u_{t-1}, ..., u_{t-K+1})      y_t = sum_j w_j u_{t-j}, then bias and activation

Before a recurrence (Mamba, DeltaNet) it is one of that mixer's stages; alone, as in LFM2, it is the mixer.
"""

from __future__ import annotations

from typing import Any

import torch

from dsf import Core, architecture_named
from dsf.converter_registry import tap
from dsf.converter_tools import refuse_packed, wide
from dsf.cores import Steps
from dsf.recording import Call

FAMILIES = ("lfm2",)
ACTIVATIONS = {None: lambda y: y, "silu": torch.nn.functional.silu, "swish": torch.nn.functional.silu}


def _register(call: Call, before: torch.Tensor | None) -> Core:
    """hidden_states [B, C, T], weight [C, K] with the present token's last; before [B, C, K]: the inputs so far."""
    a = call.arguments
    state = None if before is None else wide(before).flip(-1)[..., None]
    signals = dict(w=wide(a["weight"]).flip(-1))
    return Core(architecture_named("short_convolution"), signals, wide(a["hidden_states"]).mT[..., None], state)


def _finished(call: Call, y: torch.Tensor) -> Any:
    a = call.arguments
    y = y[..., 0].mT if a["bias"] is None else y[..., 0].mT + a["bias"][:, None]
    return ACTIVATIONS[a["activation"]](y).to(a["hidden_states"].dtype)


@tap(
    "causal_conv1d_fn",
    **dict(
        check=refuse_packed, parameters="hidden_states weight bias? activation? seq_idx?", stage=True, families=FAMILIES
    ),
)
def convolution(call: Call) -> Steps:
    """hidden_states [B, C, T] -> y [B, C, T]."""
    y, _ = yield _register(call, None)
    return _finished(call, y)


@tap(
    "causal_conv1d_update",
    **dict(parameters="hidden_states conv_state weight bias? activation?", stage=True, families=FAMILIES),
)
def update(call: Call) -> Steps:
    """The next tokens: conv_state [B, C, K], the last inputs, is changed in place."""
    state = call.arguments["conv_state"]
    y, x = yield _register(call, state)
    state.copy_(x[..., 0].flip(-1))
    return _finished(call, y)
