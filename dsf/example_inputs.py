"""What a model is called on, looked at before it runs: a wrong input gets a sentence, not an IndexError."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .recording import ConversionError, arguments_of


def check_inputs(module: nn.Module, example_inputs: Any) -> None:
    """Raises ConversionError for weights that are not finite, and for tokens that a language model cannot read."""
    name = type(module).__name__
    for path, weight in module.named_parameters():
        if weight.device.type != "meta" and not torch.isfinite(weight).all():
            owner, _, leaf = path.rpartition(".")
            where = f"{owner or 'the module'} ({type(module.get_submodule(owner)).__name__})"
            raise ConversionError(f"{leaf} of {where} holds NaN or infinity: it diverged, or its file is damaged")
    args, kwargs = arguments_of(example_inputs)
    for what, x in (*kwargs.items(), *(("the input", x) for x in args[:1])):
        if isinstance(x, torch.Tensor) and x.is_floating_point() and x.device.type != "meta" and x.isnan().any():
            raise ConversionError(f"{what} of the module ({name}) holds NaN: give other inputs")
    check_tokens(module, kwargs.get("input_ids", args[0] if args else None))


def check_tokens(module: nn.Module, tokens: Any) -> None:
    """Raises ConversionError for what a language model cannot read as tokens; of other modules it knows nothing."""
    embedding, name = _token_embedding(module), type(module).__name__
    if embedding is None or tokens is None:
        return
    if not isinstance(tokens, torch.Tensor):
        raise ConversionError(f"{name} takes token ids, a tensor [B, T] of int64, got {type(tokens).__name__}")
    if tokens.dtype not in (torch.int64, torch.int32):
        raise ConversionError(f"{name} takes token ids, int64 [B, T], got {tokens.dtype}; .long() makes them")
    if tokens.dim() != 2 or 0 in tokens.shape:
        raise ConversionError(f"{name} takes token ids [B, T], one or more, got shape {tuple(tokens.shape)}")
    weight = embedding.weight
    if tokens.device != weight.device and weight.device.type != "meta":
        raise ConversionError(
            f"the token ids are on {tokens.device}, {name} on {weight.device}; move one with .to(...)"
        )
    if tokens.device.type != "meta" and not 0 <= int(tokens.min()) <= int(tokens.max()) < weight.shape[0]:
        raise ConversionError(
            f"token ids should be in 0..{weight.shape[0] - 1}, the vocabulary of {name}; got "
            f"{int(tokens.min())}..{int(tokens.max())}"
        )


def _token_embedding(module: nn.Module) -> nn.Embedding | None:
    """The embedding of a transformers language model; None of other modules, whose inputs are their own affair."""
    try:
        found = module.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        return None
    return found if isinstance(found, nn.Embedding) else None


def check_padding(module: nn.Module, example_inputs: Any) -> None:
    """Raises ConversionError where the model reads tokens that its attention_mask marks as padding.

    The model runs on two fillings of the padding: what it gives for the other tokens must not change.
    """
    args, kwargs = arguments_of(example_inputs)
    mask, tokens = kwargs.get("attention_mask"), kwargs.get("input_ids", args[0] if args else None)
    if not isinstance(mask, torch.Tensor) or not isinstance(tokens, torch.Tensor) or _token_embedding(module) is None:
        return
    if mask.shape != tokens.shape:
        raise ConversionError(
            f"attention_mask should be [B, T] = {tuple(tokens.shape)}, as the tokens, got {tuple(mask.shape)}"
        )
    real = mask.bool()
    if real.all():
        return
    if not real.any(1).all():
        raise ConversionError("a row of attention_mask has no token at all: leave that row out")
    fillings = [torch.where(real, tokens, other) for other in (0, 1)]
    with torch.no_grad():
        one, other = (_first_tensor(module(**{**kwargs, "input_ids": filling}))[real] for filling in fillings)
    if (one - other).abs().max() > 1e-3 * one.abs().max():
        raise ConversionError(
            f"{type(module).__name__} reads the tokens that attention_mask marks as padding: give rows of one length, "
            "or one row at a time"
        )


def _first_tensor(output: Any) -> torch.Tensor:
    return (
        output if isinstance(output, torch.Tensor) else next(x for x in output.values() if isinstance(x, torch.Tensor))
    )
