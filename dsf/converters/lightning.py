"""MiniMax's lightning attention: linear attention with one constant decay per head and layer.

    x_t = e^{-slope} x_{t-1} + k_t u_t^T      y_t = q_t^T x_t      q, k, u = silu(W x)

The slopes are buffers, not parameters. The norm over all heads and the sigmoid gate follow, then the output projection.
"""

from __future__ import annotations

import torch

from dsf import Core, architecture_named
from dsf.converter_registry import converter
from dsf.converter_tools import given_cache, wide
from dsf.cores import Steps
from dsf.recording import Call, Declined


def one_decay(call: Call) -> None:
    """The module keeps powers of its decay in buffers: rounded each for itself, they are of no decay at all."""
    module = call.module
    powers = torch.arange(1, module.block_size + 1, device=module.slope_rate.device)[:, None]
    apart = (module.query_decay - torch.exp(-module.slope_rate * powers)).abs().max()
    if apart > 4 * torch.finfo(module.query_decay.dtype).eps:
        raise Declined(
            f"{call.where} has powers of its decay in buffers that are {apart:.0e} away from those of its slope_rate, "
            "rounded when they were saved in half precision: open it in that dtype, or mend module.query_decay, "
            "key_decay and diagonal_decay by module.decay_factors(module.slope_rate)"
        )


@converter(
    "transformers.models.minimax.modeling_minimax.MiniMaxLightningAttention",
    parameters="hidden_states position_embeddings attention_mask cache? past_key_values?",
    families=("minimax",),
    check=one_decay,
)
def lightning(call: Call) -> Steps:
    """hidden_states [B, T, features] -> the mixer's output [B, T, features], and the state [B, H, n, p]."""
    module, a = call.module, call.arguments
    hidden, mask, cache = a["hidden_states"], a["attention_mask"], given_cache(a)
    qkv = module.act_fn(module.qkv_proj(hidden))
    if mask is not None:
        qkv = (qkv * mask[:, :, None]).to(qkv.dtype)
    q, k, u = qkv.unflatten(-1, (module.num_attention_heads, 3 * module.head_dim)).chunk(3, -1)
    state = None if cache is None else cache.get_linear_cache(module.layer_idx)
    signals = dict(q=wide(q), k=wide(k), log_gamma=-wide(module.slope_rate).flatten())
    y, x = yield Core(architecture_named("retnet"), signals, wide(u), state if state is None else wide(state))
    y = module.norm(y.flatten(2).to(hidden.dtype))
    y = module.out_proj(torch.sigmoid(module.output_gate(hidden)) * y)
    if cache is not None:
        cache.set_linear_cache(module.layer_idx, x.to(hidden.dtype))
        seen = hidden.new_zeros(*hidden.shape[:2], 1)[:, None]  # the cache counts its tokens in its first layer
        cache.update(seen, seen, module.layer_idx)
    return y, x.to(hidden.dtype)
