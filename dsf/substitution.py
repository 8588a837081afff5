"""The model itself again, with the recurrences of its converted layers run by `dsf.simulate`.

The copy shares weights and buffers with the original. Each converted mixer is of a class made here: a subclass of its
own class whose `forward` hands its recurrence (or, where the whole forward is written by a converter, itself) to dsf.
Everything else, generate() and caches too, is the model's own code.
"""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from .attention_masks import Sight
from .converted_layer import edited
from .converter_registry import Converter, taps
from .cores import Core, execute, simulated
from .interception import intercepted, places, shared_places, untouched
from .recording import Call, Declined, bound

INTO = "_dsf_substitution"
FUSED = ("transformers.modeling_utils:ALL_ATTENTION_FUNCTIONS._global_mapping", "sdpa")  # needs no T x T mask


@dataclass
class Substitution:
    """Which layers of one model dsf runs, how, and how many calls each path has had in the present run of the model.

    layers: path of a converted layer -> its edits. mixers: path of a module -> its converter, None where its functions
    are tapped. several: paths of modules with more than one call in a run. stages: of those whose layer is a stage of
    other mixers (a short convolution alone).
    """

    layers: Mapping[str, tuple]
    mixers: Mapping[str, Converter | None]
    several: frozenset[str]
    stages: frozenset[str]
    method: str = "auto"
    counts: dict[str, int] = field(default_factory=dict)

    def next_call(self, call: Call) -> Call:
        """The call with its number in the present run."""
        number = self.counts.get(call.path, 0)
        self.counts[call.path] = number + 1
        return replace(call, number=number, several=call.path in self.several)

    def run(self, call: Call) -> Callable[[Core], tuple[torch.Tensor, Any]]:
        """Runs the cores of a call, with the edits of their layers."""

        def run(core: Core) -> tuple[torch.Tensor, Any]:
            return simulated(edited(core, self.layers.get(call.name(core.part), ())), self.method)

        return run


def substituted(module: nn.Module, substitution: Substitution) -> nn.Module:
    """A copy of the module that shares its tensors, with the mixers of the substitution run by dsf."""
    shared = {id(t): t for t in (*module.parameters(), *module.buffers())}
    model = copy.deepcopy(module, shared)
    choose = getattr(model, "set_attn_implementation", None)
    if choose is not None and getattr(model.config, "_attn_implementation", None) != FUSED[1]:
        choose("eager")  # the one whose attention is a function in the model's own file
    for path, converter in substitution.mixers.items():
        mixer = model.get_submodule(path)
        setattr(mixer, INTO, (substitution, path, converter))
        mixer.__class__ = _executing(type(mixer))
        mixer.register_forward_pre_hook(_no_fast_path)
    model.register_forward_pre_hook(functools.partial(_restart, substitution))
    return model


def _no_fast_path(*_: Any) -> None:
    """Does nothing: torch's encoder layer calls its attention only where some module in it has a hook."""


def _restart(substitution: Substitution, *_: Any) -> None:
    substitution.counts.clear()


@functools.cache
def _executing(cls: type[nn.Module]) -> type[nn.Module]:
    """A subclass whose forward is run by dsf."""

    @functools.wraps(cls.forward)
    def forward(self, *args, **kwargs):
        substitution, path, converter = getattr(self, INTO)
        own = types.MethodType(cls.forward, self)
        if converter is None:
            outer = Call(path, self, {}, outer=bound(own, args, kwargs))
            taken = [*places([self], taps()), *shared_places(FUSED)]
            with intercepted(taken, functools.partial(_tapped, substitution, outer)):
                return own(*args, **kwargs)
        call = Call(path, self, converter.arguments(self, own, args, kwargs))
        if not _takes(converter, own, call):
            return own(*args, **kwargs)
        call = substitution.next_call(call)
        return execute(converter.steps(call), substitution.run(call))

    return type(cls.__name__, (cls,), {"forward": forward, "__module__": cls.__module__, "__doc__": cls.__doc__})


def _takes(converter: Converter, function: Callable, call: Call) -> bool:
    """Is this a call that the converter writes? If not, the model's own code runs."""
    try:
        converter.refuse_unknown(function, call.where)
        if converter.check is not None:
            converter.check(call)
    except Declined:
        return False
    return True


def _tapped(substitution: Substitution, outer: Call, name: str, function: Callable, args: tuple, kwargs: dict) -> Any:
    """A function of a mixer, called by it, run by dsf."""
    arguments = bound(function, args, kwargs)
    if name == FUSED[1]:
        name = "eager_attention_forward"  # the same attention
        arguments["attention_mask"] = _said(arguments)
    found = taps()[name]
    call = replace(outer, arguments=arguments, function=name)
    with untouched():
        if found.stage and call.path not in substitution.stages:
            return function(*args, **kwargs)
        if not _takes(found, function, call):
            return function(*args, **kwargs)
        call = substitution.next_call(call)
        if call.name() not in substitution.layers:
            return function(*args, **kwargs)
        return _contiguous(execute(found.steps(call), substitution.run(call)))


def _said(arguments: dict[str, Any]) -> Any:
    """The mask of a call of torch's attention, where None means that a causal module sees all that is behind."""
    mask, queries, keys = arguments["attention_mask"], arguments["query"].shape[2], arguments["key"].shape[2]
    causal = arguments.get("is_causal")
    causal = getattr(arguments["module"], "is_causal", True) if causal is None else causal
    return Sight() if mask is None and causal and queries == keys else mask


def _contiguous(x: Any) -> Any:
    """As the functions themselves return it: some mixers take a view of it."""
    if isinstance(x, (tuple, list)):
        return type(x)(map(_contiguous, x))
    return x.contiguous() if isinstance(x, torch.Tensor) else x
