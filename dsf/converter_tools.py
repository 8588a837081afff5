"""What converters of other packages' functions share: precision, domains read off the model, caches, packed rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from .domains import Domain, Shared
from .recording import Call, ConversionError, Declined

CACHES = ("cache", "past_key_values", "cache_params")  # the keyword, and the output: one of them, by version
PACKED = ("cu_seqlens", "cu_seq_lens_q", "cu_seq_lens_k", "seq_idx")  # several documents in one row


def wide(x: torch.Tensor) -> torch.Tensor:
    """float32 at least: recurrences in half precision are run there, and so do the models."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def found_domain(call: Call, argument: str, kind: Domain, within: Domain | None = None) -> Domain:
    """A domain of this kind on the range that the model's own operations give the argument; else the whole line.

    within: a domain known to hold it, such as LogDecay where the recurrence would grow outside: kept where the model's
    operations say nothing and the recorded values lie in it.
    """
    if argument in call.ranges:
        return kind(call.ranges[argument])
    if within is not None and within.contains(call.arguments[argument].detach()):
        return within
    return kind


def grouped(domain: Any, groups: int, heads: int = 0) -> Any:
    """The domain of a signal that groups of heads share; the domain itself where each head has its own."""
    return domain if groups in (0, heads) else Shared(domain, groups)


def refuse_packed(call: Call) -> None:
    """Several documents in one row would be run as one."""
    packed = [name for name in PACKED if call.arguments.get(name) is not None]
    if packed:
        raise ConversionError(f"{call.where} is given packed sequences ({packed[0]}): give one document per row")


def decaying(call: Call) -> None:
    """Of a state space: one document per row, and states that decay, A <= 0."""
    refuse_packed(call)
    if (call.arguments["A"] > 0).any():
        raise Declined(f"{call.where} has an A above 0, and its states would grow without bound")


def given_cache(arguments: Mapping[str, Any]) -> Any:
    """The cache among the arguments of a call, under whichever name this version of transformers has; or None."""
    return next((arguments[name] for name in CACHES if arguments.get(name) is not None), None)


def cached_state(call: Call) -> torch.Tensor | None:
    """The recurrent state that the cache of the mixer's call holds, which some functions are not given."""
    cache = given_cache(call.outer)
    layer = getattr(call.module, "layer_idx", None)
    if cache is None or layer is None or not hasattr(cache, "get_recurrent_state"):
        return None
    return cache.get_recurrent_state(layer)


def gated(y: torch.Tensor, z: Any) -> torch.Tensor:
    """y silu(z) where the function has the gate inside."""
    return y if z is None else y * torch.nn.functional.silu(z)
