"""Softmax attention, as transformers' models and torch.nn call it: linear attention on infinitely many features.

    x_t = x_{t-1} + phi(k_t) u_t^T      y_t = phi(q_t)^T x_t / (phi(q_t)^T n_t)      phi(q)^T phi(k) = e^{q^T k}

q comes scaled, q and k rotated (RoPE) by what stands before. A window is a register of the last tokens, padding is
written with weight zero, sinks add a constant to the normaliser, a soft cap bends the scores, a relative bias (T5)
reads positions. Grouped keys stay grouped. Attention that sees what comes after has no such form and is left as it
is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from dsf.attention import Scores, attention_core
from dsf.attention_masks import sight
from dsf.converter_registry import tap
from dsf.converter_tools import refuse_packed
from dsf.cores import Steps
from dsf.recording import Call, ConversionError, Declined

FAMILIES = (
    *("gpt2", "gpt_neox", "llama", "mistral", "gemma2", "gemma3", "gpt_oss", "deepseek_v3", "qwen3", "t5", "diffllama"),
    *("and the attention layers of the hybrids",),
)
KNOWN = """module query key value attention_mask scaling? dropout? softcap? position_bias? s_aux? sliding_window?
    is_causal? position_ids? output_attentions? use_cache? cache_position? head_mask? logits_to_keep?"""
ROWS = 256  # queries at a time


def check(call: Call) -> None:
    """Causal, without dropout; Declined says why not."""
    a = call.arguments
    refuse_packed(call)
    if a.get("dropout") and call.module.training:
        raise ConversionError(f"{call.where} drops attention weights at random (dropout {a['dropout']}): call .eval()")
    if a["query"].shape[2] > a["key"].shape[2]:
        raise Declined(
            f"{call.where} is cross-attention: its keys are no part of the sequence that its queries run along"
        )
    _scores(call)


def alone(function: Callable, arguments: dict[str, Any]) -> tuple[torch.Tensor, None]:
    """The function itself on some queries at a time: scores of all pairs at once would fill the memory."""
    outputs = []
    for start in range(0, arguments["query"].shape[2], ROWS):
        part = dict(arguments, query=arguments["query"][:, :, start : start + ROWS])
        for name in ("attention_mask", "position_bias"):
            whole = arguments.get(name)
            if whole is not None and whole.shape[-2] > 1:
                part[name] = whole[..., start : start + ROWS, :]
        outputs.append(function(**part)[0])
    return torch.cat(outputs, 1), None


def _scores(call: Call) -> Scores:
    """What stands between q^T k and the weights, read off the arguments."""
    a = call.arguments
    queries, keys = a["query"].shape[2], a["key"].shape[2]
    seen = sight(a["attention_mask"], queries, keys, call.where)
    window, told = seen.window, a.get("sliding_window")
    if told and window is None and keys <= told:
        window = told  # the text is too short to show it
    bias = a.get("position_bias")
    table = None if bias is None or not bias.any() else relative_table(bias, queries, keys, call.where)
    return Scores(window, seen.valid, a.get("softcap"), a.get("s_aux"), table)


def relative_table(bias: torch.Tensor, queries: int, keys: int, where: str) -> torch.Tensor:
    """[H, ages] of a bias [1, H, T, S] that is a function of t - s alone, of the pairs that a causal model sees."""
    last = bias[0, :, -1, :keys].flip(-1)  # the last query sees every age
    t = torch.arange(keys - queries, keys, device=bias.device)[:, None]
    age = t - torch.arange(keys, device=bias.device)
    if ((last[:, age.clamp(min=0)] != bias[0, :, :, :keys]) & (age >= 0)).any() or bias.shape[0] > 1:
        raise Declined(f"{where} adds a bias to its scores that is no function of the distance of two tokens")
    return last


@tap("eager_attention_forward", check=check, parameters=KNOWN, families=FAMILIES, alone=alone)
def attention(call: Call) -> Steps:
    """query [B, H, T, n], key [B, G, S, n], value [B, G, S, p] -> y [B, T, H, p]; S - T keys came before."""
    a = call.arguments
    scaling = a.get("scaling")
    scaling = a["query"].shape[-1] ** -0.5 if scaling is None else scaling
    q, k, u = (a[name].transpose(1, 2) for name in ("query", "key", "value"))
    y, _ = yield attention_core(q * scaling, k, u, _scores(call))
    return y.to(a["query"].dtype), None
