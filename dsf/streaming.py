"""A long text through a language model in chunks, its state or cache carried from each chunk to the next.

    for logits, targets in stream(model, tokens, chunk=512):     # the model is asked first whether its cache continues
        loss += cross_entropy(logits, targets)

It knows byte models, whose `advance` takes and gives a state, and transformers' models, whose forward takes a cache.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from .converter_tools import CACHES
from .example_inputs import check_tokens

CARRIED = (*CACHES, "state")  # what transformers' models call the keyword, and the output
WINDOWS = ("sliding_window", "attention_window_size", "attention_chunk_size")
KEPT = ("recurrent_states", "conv1d_state")  # in attributes of its modules: RecurrentGemma
TOLERANCE = 1e-3  # of logits, max |difference| / max |logit|
HALF = 5e-2  # the same, where weights have 8 to 11 bits
SHORT = 64  # tokens of a chunk of the comparison

Advance = Callable[[torch.Tensor, int, Any], tuple[torch.Tensor, Any]]  # tokens, their first position, what was carried


class CannotStream(ValueError):
    """A model whose state or cache does not carry over from one chunk to the next; the message says what to do."""


class Diverged(CannotStream):
    """A model whose logits are not finite."""


def stream(
    module: nn.Module, tokens: torch.Tensor, chunk: int = 512, check: bool = True
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Logits [B, t, V] and the tokens [B, t] that they predict, chunk by chunk, without gradients.

    tokens int64 [B, T]; the last one is predicted only. A chunk of T or more is one run, without a cache. check: first
    compare, on two short chunks, the logits with those of one run.

    Raises CannotStream (a ValueError) where they differ, or where the model has no cache to carry.

    >>> from dsf.checkpoints import ByteModel, bytes_of
    >>> parts = list(stream(ByteModel("GRU", width=4, hidden=8), bytes_of("to be or not"), chunk=5))
    >>> [tuple(logits.shape) for logits, _ in parts]
    [(1, 5, 256), (1, 5, 256), (1, 1, 256)]
    """
    if tokens.dim() != 2 or tokens.shape[1] < 2:
        raise ValueError(f"a text to stream has two tokens or more, [B, T]; got shape {tuple(tokens.shape)}")
    if chunk < 1:
        raise ValueError(f"a chunk has at least one token, got {chunk}")
    if check:
        check_streaming(module, tokens, chunk)
    return _chunks(module, tokens, chunk)


def _chunks(module: nn.Module, tokens: torch.Tensor, chunk: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    length = tokens.shape[1] - 1
    whole = chunk >= length
    advance, carried = _whole(module) if whole else _advance(module), None
    _forget(module)
    for start in range(0, length, chunk):
        part = tokens[:, start : min(start + chunk, length)]
        logits, carried = _run(module, advance, part, start, carried)
        if not logits.isfinite().all():
            raise Diverged(
                f"{type(module).__name__} diverged: its logits in {_tokens(part, start)} are NaN or infinite"
            )
        yield logits, tokens[:, start + 1 : start + 1 + part.shape[1]]


def check_streaming(module: nn.Module, tokens: torch.Tensor, chunk: int) -> None:
    """Raises CannotStream where chunks give other logits than one run, or positions end before the text does.

    Two chunks of at most 64 tokens are compared; where the model sees a window of its past, chunks of this size, to the
    end of the first one behind the window.
    """
    _check_kind(module)
    check_positions(module, tokens[:, :-1])
    length = tokens.shape[1] - 1
    if chunk >= length:
        return
    window = max((w for w in _windows(module) if w < length), default=0)
    size = chunk if window else min(chunk, SHORT)
    some = tokens[:, : min(length, max(window + size, 2 * size, 16)) + 1]
    whole = next(_chunks(module, some, some.shape[1]))[0]
    try:
        parts = torch.cat([logits for logits, _ in _chunks(module, some, size)], 1)
    except Diverged:
        raise
    except CannotStream as why:
        raise CannotStream(f"{why}; a chunk of {length} or more runs the text whole") from why
    error = ((parts - whole).abs().max() / whole.abs().max()).item()
    if not error <= _tolerance(module, whole):
        raise CannotStream(
            f"the cache of {type(module).__name__} cannot be continued: in chunks of {size} tokens its logits differ "
            f"from those of one run by {error:.1e} of the largest; a chunk of {length} or more runs the text whole"
        )


def _tolerance(module: nn.Module, logits: torch.Tensor) -> float:
    """By the coarsest weights: the logits of many models in half precision are cast to float32."""
    dtypes = {x.dtype for x in (logits, *module.parameters()) if x.is_floating_point()}
    return HALF if max(torch.finfo(dtype).eps for dtype in dtypes) > torch.finfo(torch.float32).eps else TOLERANCE


def _tokens(part: torch.Tensor, start: int) -> str:
    return f"tokens {start}..{start + part.shape[1] - 1}"


def _run(module: nn.Module, advance: Advance, tokens: torch.Tensor, start: int, carried: Any) -> tuple:
    try:
        with torch.no_grad():
            return advance(tokens, start, carried)
    except CannotStream:
        raise
    except Exception as error:
        where = f"{type(module).__name__} fails on {_tokens(tokens, start)}"
        raise CannotStream(f"{where}: {type(error).__name__}: {error}") from error


def _check_kind(module: nn.Module) -> None:
    config = getattr(module, "config", None)
    if getattr(config, "is_encoder_decoder", False):
        raise CannotStream(
            f"{type(module).__name__} has an encoder, which reads all of a text before the decoder begins: it does not "
            "stream; a decoder alone does"
        )


def check_positions(module: nn.Module, tokens: torch.Tensor) -> None:
    """Raises CannotStream where the model has learned a vector per position, and fewer than there are tokens.

    Raises ValueError for a token that is not in its vocabulary.
    """
    check_tokens(module, tokens)
    last = tokens.shape[1] - 1
    if "position_ids" not in _parameters(module) or _takes_position(module, tokens, last):
        return
    if _takes_position(module, tokens, 0):  # else it is something else, which the run itself will tell
        known = known_positions(module) or "fewer"
        raise CannotStream(
            f"{type(module).__name__} has learned {known} positions, and is to read {last + 1} tokens: give a shorter "
            "length"
        )


def _takes_position(module: nn.Module, tokens: torch.Tensor, position: int) -> bool:
    try:
        with torch.no_grad():
            first = tokens[:, :1]
            module(input_ids=first, position_ids=torch.full_like(first, position), use_cache=False)
    except IndexError:
        return False
    return True


def known_positions(module: nn.Module) -> int | None:
    """The length that a transformers model was made for, where its configuration has one."""
    config = getattr(module, "config", None)
    found = [getattr(config, name, None) for name in ("n_positions", "max_position_embeddings")]
    return next((n for n in found if isinstance(n, int) and n > 0), None)


def _windows(module: nn.Module) -> list[int]:
    config = getattr(module, "config", None)
    configs = [config, getattr(config, "text_config", None)]
    found = [getattr(c, name, None) for c in configs for name in WINDOWS]
    return [w for w in found if isinstance(w, int)]


def _forget(module: nn.Module) -> None:
    for part in module.modules():
        for name in KEPT:
            if isinstance(getattr(part, name, None), torch.Tensor):
                setattr(part, name, None)


def _parameters(module: nn.Module) -> set[str]:
    """What forward takes by name, and what it hands on to the model inside (Granite's takes its cache as a keyword)."""
    found = inspect.signature(module.forward).parameters
    inner = getattr(module, "base_model", module)
    if inner is not module and any(p.kind is p.VAR_KEYWORD for p in found.values()):
        return {*found, *inspect.signature(inner.forward).parameters}
    return set(found)


def _logits(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output.logits


def _whole(module: nn.Module) -> Advance:
    """One run from the start, without a cache."""
    parameters = _parameters(module)

    def run(tokens: torch.Tensor, start: int, carried: Any) -> tuple[torch.Tensor, Any]:
        more: dict[str, Any] = {"use_cache": False} if "use_cache" in parameters else {}
        if "position_ids" in parameters:
            more["position_ids"] = _positions(tokens, start)
        return _logits(module(tokens, **more)), None

    return run


def _positions(tokens: torch.Tensor, start: int) -> torch.Tensor:
    return torch.arange(start, start + tokens.shape[1], device=tokens.device).expand(tokens.shape)


def _advance(module: nn.Module) -> Advance:
    """How this model runs on from what it carried."""
    if callable(getattr(module, "advance", None)):
        return lambda tokens, start, carried: module.advance(tokens, carried)  # type: ignore[operator]
    parameters, cache = _parameters(module), cache_keyword(module)
    if cache is None or "use_cache" not in parameters:
        raise CannotStream(
            f"the forward of {type(module).__name__} takes no cache ({', '.join(CARRIED)}), so nothing carries over "
            "from chunk to chunk"
        )

    def run(tokens: torch.Tensor, start: int, carried: Any) -> tuple[torch.Tensor, Any]:
        more = {"position_ids": _positions(tokens, start)} if "position_ids" in parameters else {}
        if carried is None and cache in ("cache", "past_key_values"):
            carried = _new_cache(module)
        output = module(input_ids=tokens, use_cache=True, **{cache: carried}, **more)
        after = getattr(output, cache, None)
        return output.logits, carried if after is None else after  # RecurrentGemma changes the cache, and returns none

    return run


def cache_keyword(module: nn.Module) -> str | None:
    """The keyword by which a forward takes what the one before it carried, and the name that its output has for it."""
    parameters = _parameters(module)
    return next((name for name in CARRIED if name in parameters), None)


def _new_cache(module: nn.Module) -> Any:
    """The cache that generate() would make; None where the model makes its own."""
    if not getattr(module, "_supports_default_dynamic_cache", lambda: False)():
        return None
    from transformers import DynamicCache

    return DynamicCache(config=module.config)  # type: ignore[arg-type]
