"""RecurrentGemma's RG-LRU: a real gate per channel, whose input is scaled to keep the variance.

    x_t = diag(a_t) x_{t-1} + diag(sqrt(1 - a_t^2) i_t) u_t      y_t = x_t      a_t = e^{g_t}

g = -8 r softplus(Lambda), r and i sigmoids. Where a document begins (position 0) the model sets a to 0 and the
multiplier to 1: that is g = -oo. It keeps its state in an attribute of the module, not in a cache.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from dsf import Core, architecture_named
from dsf.converter_registry import converter
from dsf.converter_tools import wide
from dsf.cores import Steps
from dsf.recording import Call


def carried(module: nn.Module) -> dict[str, torch.Tensor | None]:
    """The state that the module keeps, before its call."""
    return {"recurrent_states": module.recurrent_states}  # type: ignore[dict-item]


@converter(
    "transformers.models.recurrent_gemma.modeling_recurrent_gemma.RecurrentGemmaRglru",
    **dict(parameters="activations position_ids", families=("recurrent_gemma",), carried=carried),
)
def rglru(call: Call) -> Steps:
    """activations u [B, T, n], position_ids [B, T] -> y [B, T, n]; the state is kept in the module."""
    module, u, positions = call.module, call.arguments["activations"], call.arguments["position_ids"]
    blocks = u.unflatten(-1, (module.num_attention_heads, module.block_width))

    def gate(name: str) -> torch.Tensor:
        weight, bias = getattr(module, f"{name}_weight"), getattr(module, f"{name}_bias")
        return torch.sigmoid(torch.einsum("bthi,hij->bthj", blocks, weight) + bias).flatten(-2)

    g = -8.0 * wide(gate("recurrent_gate")) * F.softplus(wide(module.recurrent_param))
    g = g.masked_fill((positions == 0)[..., None], -torch.inf)
    state = call.arguments["recurrent_states"]
    initial = None if state is None else wide(state)[:, None, :, None]
    signals = dict(g=g[:, :, None], i=wide(gate("input_gate"))[:, :, None])
    y, x = yield Core(architecture_named("rglru"), signals, wide(u)[:, :, None], initial)
    module.recurrent_states = x[:, 0, :, 0]
    return y[:, :, 0].to(u.dtype)
