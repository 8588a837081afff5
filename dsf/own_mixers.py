"""Mixers of the caller's own: `dsf.convert(module, inputs, mixers={MyMixer: function})`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from .converter_registry import Converter
from .cores import Core, Steps
from .definition import Architecture
from .recording import Call, ConversionError

EXPECTED = "(architecture, signals, drive), or with a fourth entry, a function of y: what the module returns"


def own_mixers(module: nn.Module, mixers: Mapping[type[nn.Module], Callable]) -> dict[type, Converter]:
    """A converter for each class. Raises TypeError for what is no class of modules, ValueError for an absent one."""
    if not isinstance(mixers, Mapping) or not all(isinstance(cls, type) for cls in mixers):
        raise TypeError("mixers maps classes to functions, as in mixers={MyMixer: signals_of}")
    for cls, function in mixers.items():
        if not issubclass(cls, nn.Module) or not callable(function):
            raise TypeError(f"mixers maps classes of modules to functions, got {cls.__name__}: {function!r}")
        if not any(isinstance(part, cls) for part in module.modules()):
            raise ConversionError(f"mixers names {cls.__name__}, and {type(module).__name__} holds none")
    return {cls: Converter((cls.__name__,), _steps(cls, function)) for cls, function in mixers.items()}


def _steps(cls: type[nn.Module], function: Callable) -> Callable[[Call], Steps]:
    def steps(call: Call) -> Steps:
        try:
            found = function(call.module, **call.arguments)
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise ConversionError(
                f"the function of mixers={{{cls.__name__}: ...}} fails on {call.where}: {what}"
            ) from error
        architecture, signals, drive, finish = _checked(found, cls)
        y, _ = yield Core(architecture, signals, drive)
        return finish(y) if finish else _reshaped(y, call, cls)

    return steps


def _checked(found: Any, cls: type) -> tuple[Architecture, dict, torch.Tensor, Callable | None]:
    right = isinstance(found, tuple) and len(found) in (3, 4) and isinstance(found[0], Architecture)
    if not right or not isinstance(found[1], Mapping) or not isinstance(found[2], torch.Tensor):
        raise ConversionError(
            f"the function of mixers={{{cls.__name__}: ...}} should return {EXPECTED}; got {_kind(found)}"
        )
    return found if len(found) == 4 else (*found, None)


def _kind(x: Any) -> str:
    return f"({', '.join(type(part).__name__ for part in x)})" if isinstance(x, tuple) else type(x).__name__


def _reshaped(y: torch.Tensor, call: Call, cls: type) -> torch.Tensor:
    """y [B, T, H, p] with heads and channels in one axis, as the module's first tensor has its axes."""
    like = next(x for x in call.arguments.values() if isinstance(x, torch.Tensor))
    if y.numel() % like[..., 0].numel():
        raise ConversionError(
            f"y of {cls.__name__} is {tuple(y.shape)}, which does not fit its input {tuple(like.shape)}: give a "
            "fourth entry, a function of y"
        )
    return y.reshape(*like.shape[:-1], -1)
