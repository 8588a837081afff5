"""BLOOM's and MPT's attention, whose scores fall with the distance: softmax attention with one decay per head (ALiBi).

    x_t = e^{-slope} x_{t-1} + phi(k_t) u_t^T      y_t = phi(q_t)^T x_t / (phi(q_t)^T n_t)

Their forward has no function to stop at: it is written here, with the projections, caches and dropout of its own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from dsf.attention import Scores, attention_core
from dsf.attention_masks import sight
from dsf.converter_registry import converter
from dsf.converter_tools import given_cache
from dsf.cores import Steps
from dsf.recording import Call, ConversionError


def _refuse_dropout(call: Call, share: float) -> None:
    if share and call.module.training:
        raise ConversionError(f"{call.where} drops attention weights at random (dropout {share}): call .eval()")


def bloom_slopes(alibi: torch.Tensor, heads: int, keys: int) -> torch.Tensor:
    """[H] of BLOOM's bias [B H, 1, S], slope times the number of real tokens before; 0 where all have one token."""
    bias = alibi.unflatten(0, (-1, heads))[:, :, 0, :keys]
    steps = bias[..., 1:] - bias[..., :-1]
    return steps.flatten(2).amax((0, 2)) if keys > 1 else torch.zeros_like(bias[0, :, 0])


def check_bloom(call: Call) -> None:
    """Causal, without dropout."""
    a = call.arguments
    _refuse_dropout(call, call.module.attention_dropout.p)
    past = 0 if a["layer_past"] is None else a["layer_past"].get_seq_length(call.module.layer_idx)
    queries = a["hidden_states"].shape[1]
    sight(a["attention_mask"], queries, past + queries, call.where)


@converter(
    "transformers.models.bloom.modeling_bloom.BloomAttention",
    check=check_bloom,
    parameters="hidden_states residual alibi attention_mask layer_past? use_cache? output_attentions?",
    families=("bloom",),
)
def bloom(call: Call) -> Steps:
    """hidden_states [B, T, features] -> residual + output, and no weights."""
    module, a = call.module, call.arguments
    q, k, u = module._reshape(module.query_key_value(a["hidden_states"]))
    if a["layer_past"] is not None:
        k, u = a["layer_past"].update(k, u, module.layer_idx)
    seen = sight(a["attention_mask"], q.shape[2], k.shape[2], call.where)
    slopes = bloom_slopes(a["alibi"], module.num_heads, k.shape[2])
    scores = Scores(seen.window, seen.valid, None, None, None, slopes)
    q, k, u = (x.transpose(1, 2) for x in (q * module.inv_norm_factor, k, u))
    y, _ = yield attention_core(q, k, u, scores)
    y = module.dense(y.flatten(2).to(a["hidden_states"].dtype))
    return a["residual"] + F.dropout(y, module.hidden_dropout, module.training), None


def check_mpt(call: Call) -> None:
    """Causal, without dropout."""
    a = call.arguments
    _refuse_dropout(call, call.module.attn_dropout_p)
    cache = given_cache(a)
    past = 0 if cache is None else cache.get_seq_length(call.module.layer_idx)
    queries, mask = a["hidden_states"].shape[1], a["attention_mask"]
    sight(None if mask is None else ~mask, queries, past + queries, call.where)


@converter(
    "transformers.models.mpt.modeling_mpt.MptAttention",
    check=check_mpt,
    parameters="hidden_states position_bias cache? past_key_values? attention_mask?",
    families=("mpt",),
)
def mpt(call: Call) -> Steps:
    """hidden_states [B, T, features] -> output [B, T, features] and no weights."""
    module, a = call.module, call.arguments
    qkv = module.Wqkv(a["hidden_states"])
    qkv = qkv.clamp(-module.clip_qkv, module.clip_qkv) if module.clip_qkv else qkv
    q, k, u = (x.unflatten(-1, (module.n_heads, -1)) for x in qkv.chunk(3, -1))
    cache = given_cache(a)
    if cache is not None:
        k, u = cache.update(k.transpose(1, 2), u.transpose(1, 2), module.layer_idx)
        k, u = k.transpose(1, 2), u.transpose(1, 2)
    mask, bias = a["attention_mask"], a["position_bias"]
    seen = sight(None if mask is None else ~mask, q.shape[1], k.shape[1], call.where)
    slopes = None if bias is None or bias.shape[-1] < 2 else bias[:, -1, -1] - bias[:, -1, -2]
    y, _ = yield attention_core(
        q * module.softmax_scale, k, u, Scores(seen.window, seen.valid, None, None, None, slopes)
    )
    return module.out_proj(y.flatten(2).to(a["hidden_states"].dtype)), None
