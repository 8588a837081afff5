"""One run of a module on example inputs, and copies of what its recurrent submodules read and returned."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence


class ConversionError(ValueError):
    """A module, or its inputs, cannot be converted; the message says why and what to do."""


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a submodule: its arguments by name and its output (None before the call), as copies.

    `number` counts the calls of the submodule, `several` says that there are more than one.
    """

    path: str
    module: Any
    arguments: Mapping[str, Any]
    output: Any = None
    number: int = 0
    several: bool = False

    def name(self, part: str) -> str:
        """The path of a part of this call: "rnn.layer0", of the module itself "layer0"."""
        path = f"{self.path}[{self.number}]" if self.several else self.path
        return ".".join(filter(None, (path, part)))

    @property
    def where(self) -> str:
        """The submodule in an error: its path and class."""
        return f"{self.path or 'the module'} ({type(self.module).__name__})"


def record(module: nn.Module, example_inputs: Any, checks: Mapping[str, Callable[[Call], None] | None]) -> list[Call]:
    """Runs the module once, without gradients, and records every call of the submodules at the paths in `checks`.

    Raises ConversionError where a check refuses a call, or where the module fails on the inputs.
    """
    calls: list[Call] = []
    handles: list[Any] = []
    try:
        for path, check in checks.items():
            part = module.get_submodule(path)
            if check is not None:
                handles.append(part.register_forward_pre_hook(_checking(path, check), with_kwargs=True))
            handles.append(part.register_forward_hook(_recording(path, calls), with_kwargs=True))
        args, kwargs = _arguments(example_inputs)
        with torch.no_grad():
            module(*args, **kwargs)
    except ConversionError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise ConversionError(f"{type(module).__name__} fails on the example inputs: {what}") from error
    finally:
        for handle in handles:
            handle.remove()
    totals: dict[str, int] = {}
    for i, call in enumerate(calls):
        calls[i] = replace(call, number=totals.setdefault(call.path, 0))
        totals[call.path] += 1
    return [replace(call, several=totals[call.path] > 1) for call in calls]


def _arguments(example_inputs: Any) -> tuple[tuple, dict]:
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, tuple) and not isinstance(example_inputs, PackedSequence):
        return example_inputs, {}
    return (example_inputs,), {}


def _checking(path: str, check: Callable[[Call], None]) -> Callable:
    def hook(module, args, kwargs):
        check(Call(path, module, _bound(module, args, kwargs)))

    return hook


def _recording(path: str, calls: list[Call]) -> Callable:
    def hook(module, args, kwargs, output):
        # copies: the model may go on to change these tensors in place (x += residual, ReLU(inplace=True))
        calls.append(Call(path, module, _copied(_bound(module, args, kwargs)), _copied(output)))

    return hook


def _bound(module: nn.Module, args: tuple, kwargs: dict) -> dict[str, Any]:
    return dict(inspect.signature(module.forward).bind(*args, **kwargs).arguments)


def _copied(x: Any) -> Any:
    if isinstance(x, torch.Tensor):
        return x.detach().clone()
    if isinstance(x, dict):
        return {k: _copied(v) for k, v in x.items()}
    return type(x)(map(_copied, x)) if type(x) in (tuple, list) else x
