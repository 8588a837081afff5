"""Peers of other packages, each called as its authors mean it, with the scale that makes it compute dsf's recurrence.

transformers decorates its torch functions with switches to other packages: what is measured is the function itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module

import torch

from .case import Peer, Tensors
from .peers import picked


@cache
def _theirs(module: str, name: str) -> Callable:
    return inspect.unwrap(getattr(import_module(f"transformers.models.{module}"), name))


def _scaled(*names: str) -> Callable[[Tensors], tuple[torch.Tensor, ...]]:
    """They divide q by sqrt(n)."""
    return lambda base: (base["q"] * base["q"].shape[-1] ** 0.5, *(base[name] for name in names))


def _delta_rule(module: str, name: str) -> Callable[..., torch.Tensor]:
    theirs = _theirs(module, name)
    return lambda q, k, u, g, beta: theirs(q, k, u, g, beta)[0]


def _chunk_scan() -> Callable[..., torch.Tensor]:
    theirs = _theirs("mamba2.modeling_mamba2", "mamba2_chunk_scan")
    return lambda u, dt, log_a, k, q, d: theirs(u, dt, -log_a.exp(), k, q, CHUNK_SCAN, D=d)


def _selective_scan() -> Callable[..., torch.Tensor]:
    theirs = _theirs("mamba.modeling_mamba", "mamba_selective_scan")
    return lambda u, dt, log_a, b, c, d: theirs(u, dt, -log_a.exp(), b, c, d)


def _channels_first(base: Tensors) -> tuple[torch.Tensor, ...]:
    u, dt = base["u"][..., 0].mT.contiguous(), base["dt"].mT.contiguous()
    return u, dt, base["log_a"], base["b"][:, :, 0].mT.contiguous(), base["c"][:, :, 0].mT.contiguous(), base["d"]


def _gated_scan() -> Callable[..., torch.Tensor]:
    module = import_module("transformers.models.recurrent_gemma.modeling_recurrent_gemma")
    scan = module.RecurrentGemmaRglru._rnn_scan

    def theirs(g: torch.Tensor, i: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        a = g.exp()
        no_reset = torch.zeros_like(a[..., :1, :1], dtype=torch.bool)
        return scan(None, (1 - a**2).sqrt() * i * u, a, no_reset, None)[0]

    return theirs


CHUNK_SCAN = 64  # the configuration's default is 256; of 64, 128 and 256 the quickest on a CPU
GATED_DELTA = Peer(
    "transformers",
    "transformers",
    "torch_chunk_gated_delta_rule of qwen3_next",
    partial(_delta_rule, "qwen3_next.modeling_qwen3_next", "torch_chunk_gated_delta_rule"),
    _scaled("k", "u", "g", "beta"),
)
KIMI_DELTA = Peer(
    "transformers",
    "transformers",
    "chunk_kimi_delta_attention of kimi_linear",
    partial(_delta_rule, "kimi_linear.modeling_kimi_linear", "chunk_kimi_delta_attention"),
    _scaled("k", "u", "g", "beta"),
)
MAMBA2 = Peer(
    "transformers", "transformers", "mamba2_chunk_scan", _chunk_scan, picked("u", "dt", "log_a", "k", "q", "d")
)
MAMBA = Peer(
    "transformers", "transformers", "mamba_selective_scan", _selective_scan, _channels_first, lambda y: y.mT[..., None]
)
RGLRU = Peer(
    "transformers",
    "transformers",
    "the loop of RecurrentGemmaRglru",
    _gated_scan,
    picked("g", "i", "u"),
)


# ----------------------------------------------------------------------------------------------------------------- fla
def _fla(module: str, name: str, **more: object) -> Callable[..., torch.Tensor]:
    theirs = getattr(import_module(f"fla.ops.{module}"), name)
    return lambda *inputs: theirs(*inputs, scale=1.0, **more)[0]


def _simple_gla() -> Callable[..., torch.Tensor]:
    theirs = import_module("fla.ops.simple_gla").chunk_simple_gla

    def scan(u, dt, log_a, k, q, d):
        return theirs(q, k * dt[..., None], u, g=-dt * log_a.exp(), scale=1.0)[0] + d[:, None] * u

    return scan


def _of_fla(module: str, name: str, *inputs: str, **more: object) -> Peer:
    return Peer("fla", "fla", name, partial(_fla, module, name, **more), picked(*inputs), devices=("cuda",))


FLA_LINEAR = _of_fla("linear_attn", "chunk_linear_attn", "q", "k", "u", normalize=False)
FLA_GLA = _of_fla("gla", "chunk_gla", "q", "k", "u", "g")
FLA_GATED_DELTA = _of_fla("gated_delta_rule", "chunk_gated_delta_rule", "q", "k", "u", "g", "beta")
FLA_KIMI_DELTA = _of_fla("kda", "chunk_kda", "q", "k", "u", "g", "beta")
FLA_SIMPLE_GLA = Peer(
    "fla", "fla", "chunk_simple_gla", _simple_gla, picked("u", "dt", "log_a", "k", "q", "d"), devices=("cuda",)
)
