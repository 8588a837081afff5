"""torch.nn.MultiheadAttention, and with it TransformerEncoderLayer, where the mask is causal.

Its mask may be bool (True: not seen) or float (added); padding comes as key_padding_mask. It returns no weights: dsf
never forms them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from dsf.attention import Scores, attention_core
from dsf.attention_masks import sight
from dsf.converter_registry import converter
from dsf.cores import Steps
from dsf.recording import Call, ConversionError, Declined


def check(call: Call) -> None:
    """Causal self-attention in the form of a recurrence; Declined says why not."""
    module, a = call.module, call.arguments
    if module.training and module.dropout:
        raise ConversionError(
            f"{call.where} drops attention weights at random (dropout {module.dropout}): call .eval()"
        )
    if module.bias_k is not None or module.add_zero_attn:
        raise Declined(f"{call.where} adds keys of its own (add_bias_kv, add_zero_attn), which dsf does not write")
    for name in ("query", "key", "value"):
        if not torch.isfinite(a[name]).all():
            raise ConversionError(f"the {name} of {call.where} holds NaN or infinity")
    if _time(call, "query") != _time(call, "key"):
        raise Declined(
            f"{call.where} is cross-attention: its keys are no part of the sequence that its queries run along"
        )
    _scores(call)


def _time(call: Call, name: str) -> int:
    x = call.arguments[name]
    return x.shape[0 if x.dim() == 2 or not call.module.batch_first else 1]


def _scores(call: Call) -> Scores:
    """The mask as transformers has it: [B, 1 | H, T, S], True for what is seen."""
    module, a, T = call.module, call.arguments, _time(call, "query")
    mask, padding = a["attn_mask"], a["key_padding_mask"]
    seen = None if mask is None else ~mask if mask.dtype == torch.bool else mask
    if seen is not None and seen.dim() == 3:
        seen = seen.unflatten(0, (-1, module.num_heads))
    if padding is not None and seen is not None:
        real = ~padding if padding.dtype == torch.bool else padding == 0
        real = real.reshape(-1, 1, 1, T)
        seen = (seen if seen.dtype == torch.bool else seen == 0) & real
    found = sight(seen, T, T, call.where)
    return Scores(found.window, found.valid, None, None, None)


@converter(
    nn.MultiheadAttention,
    check=check,
    parameters="query key value key_padding_mask need_weights attn_mask average_attn_weights is_causal",
    families=("torch.nn.MultiheadAttention", "torch.nn.TransformerEncoderLayer"),
)
def multihead_attention(call: Call) -> Steps:
    """query, key, value in the module's layout -> (output, None)."""
    module, a = call.module, call.arguments
    inputs = [a[name] for name in ("query", "key", "value")]
    unbatched = inputs[0].dim() == 2
    if unbatched or not module.batch_first:
        inputs = [(x[:, None] if unbatched else x).transpose(0, 1) for x in inputs]
    if module.in_proj_weight is not None:
        weights = module.in_proj_weight.chunk(3)
    else:
        weights = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
    biases = (None,) * 3 if module.in_proj_bias is None else module.in_proj_bias.chunk(3)
    q, k, u = (
        F.linear(x, w, b).unflatten(-1, (module.num_heads, -1)) for x, w, b in zip(inputs, weights, biases, strict=True)
    )
    y, _ = yield attention_core(q * q.shape[-1] ** -0.5, k, u, _scores(call))
    y = module.out_proj(y.flatten(2))
    y = y if module.batch_first and not unbatched else y.transpose(0, 1)
    return (y[:, 0] if unbatched else y), None
