"""What can be converted, and by whom: a function of `steps` per class of module, or per function that a mixer calls."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from torch import nn

from .cores import Steps
from .recording import Call, Declined, bound, signature_of

Check = Callable[[Call], None]
Parts = Callable[[Call], Iterable[tuple[str, Call, Callable[[Call], Steps]]]]


@dataclass(frozen=True)
class Converter:
    """steps: call -> generator of its cores (see dsf.cores), which returns what the call returns.

    check refuses a call before it runs: with Declined this call, with ConversionError the whole conversion. parts
    splits a call into calls of one core each, with the steps of each (default: the call itself). parameters: the
    names that the forward or function may have, "?" behind those that it may lack. alone(function, arguments) runs
    the function itself, sparing memory. carried(module): what the module keeps from call to call, added to the
    arguments. families: what it is tested on, for `dsf convert --supported`. stage: it stands around a recurrence
    where its module has another one.
    """

    names: tuple[str, ...]
    steps: Callable[[Call], Steps]
    check: Check | None = None
    parts: Parts | None = None
    parameters: str = ""
    families: tuple[str, ...] = ()
    alone: Callable[[Callable, dict[str, Any]], Any] | None = None
    carried: Callable[[nn.Module], dict[str, Any]] | None = None
    stage: bool = False

    def arguments(self, module: nn.Module, forward: Callable, args: tuple, kwargs: dict) -> dict[str, Any]:
        """The arguments of a call of a module by name, and what it carries."""
        return bound(forward, args, kwargs) | (self.carried(module) if self.carried else {})

    def refuse_unknown(self, function: Callable, where: str) -> None:
        """Declined where the function is not the one that this converter was written for."""
        if not self.parameters:
            return
        parameters = signature_of(function).parameters.values()
        changes = _changes(self.parameters, tuple(p.name for p in parameters if p.kind not in VARIABLE))
        if changes:
            name = getattr(function, "__name__", "its function")
            raise Declined(
                f"{name} of {where} {', '.join(changes)}: it is not the function that dsf was written for, and is not "
                "guessed at; use the version of its package that dsf's extra names, or mixers={Class: function}"
            )


VARIABLE = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


@lru_cache(maxsize=256)
def _changes(expected: str, found: tuple[str, ...]) -> tuple[str, ...]:
    """What a function with these parameters lacks, and what it has that is not expected."""
    known = expected.replace("?", "").split()
    required = {name for name in expected.split() if not name.endswith("?")}
    lacking, new = sorted(required - set(found)), sorted(set(found) - set(known))
    return (*(f"lacks {name}" for name in lacking), *(f"has the new parameter {name}" for name in new))


_CLASSES: dict[str, Converter] = {}  # full name of a class -> its converter
_FUNCTIONS: dict[str, Converter] = {}  # name of a function in a mixer's file -> its converter


def converter(*classes: type[nn.Module] | str, **options: Any) -> Callable:
    """Registers the `steps` of every module of these classes: call.arguments are those of its forward.

    A class of a package that should not be imported for this is given by its full name, "package.module.Class".
    Options: check, parts, parameters, carried, families (see Converter). A subclass with a `forward` of its own needs
    its own.

    >>> import dsf, torch
    >>> class Leaky(torch.nn.Module):  # y_t = y_{t-1} / 2 + x_t, as an architecture of the library
    ...     def forward(self, x):
    ...         return torch.stack([sum(0.5 ** (t - s) * x[:, s] for s in range(t + 1)) for t in range(x.shape[1])], 1)
    >>> @converter(Leaky)
    ... def leaky(call):
    ...     x = call.arguments["x"]
    ...     ones = torch.ones_like(x[:, :, :1, None])
    ...     signals = dict(q=ones, k=ones, log_gamma=torch.tensor([0.5]).log())
    ...     y, state = yield dsf.Core(dsf.architecture_named("retnet"), signals, x[:, :, None])
    ...     return y[:, :, 0]
    >>> dsf.convert(torch.nn.Sequential(Leaky()), torch.randn(2, 9, 3))
    Conversion of Sequential, 1 layer
      layer  architecture  state  steps  error
      0      RetNet        1      9      ...
    """

    def register(steps: Callable[[Call], Steps]) -> Callable:
        names = tuple(cls if isinstance(cls, str) else full_name(cls) for cls in classes)
        found = Converter(names, steps, **options)
        _CLASSES.update(dict.fromkeys(names, found))
        return steps

    return register


def tap(*functions: str, **options: Any) -> Callable:
    """Registers the `steps` of every function of these names that a mixer finds in its own file.

    call.arguments are the function's, by name, call.module is the mixer. Options as in Converter.
    """

    def register(steps: Callable[[Call], Steps]) -> Callable:
        _FUNCTIONS.update(dict.fromkeys(functions, Converter(functions, steps, **options)))
        return steps

    return register


def full_name(cls: type) -> str:
    """ "package.module.Class"."""
    return f"{cls.__module__}.{cls.__qualname__}"


@cache
def _import_converters() -> None:
    from . import converters

    for found in pkgutil.iter_modules(converters.__path__):
        importlib.import_module(f"{converters.__name__}.{found.name}")


def class_converters() -> dict[str, Converter]:
    """Full name of a class -> its converter."""
    _import_converters()
    return _CLASSES


def taps() -> dict[str, Converter]:
    """Name of a function -> its converter."""
    _import_converters()
    return _FUNCTIONS


def converter_of(module: nn.Module, mixers: dict[type, Converter] | None = None) -> Converter | None:
    """The converter of a module's class, or None. mixers: the caller's own, which go first."""
    known = class_converters()
    for cls in type(module).__mro__:
        found = (mixers or {}).get(cls) or known.get(full_name(cls))
        if found:
            return found if type(module).forward is cls.forward else None
    return None
