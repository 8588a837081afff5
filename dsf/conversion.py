"""`dsf.convert`: finds the recurrences of a trained module, writes each as a system, and proves it by re-simulation."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from .converted_layer import ConvertedLayer
from .recording import Call, ConversionError, record

# Beyond the rounding of the dtype over thousands of steps; a wrong gate or term gives errors of 1e-2 and more.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}

_REGISTRY: dict[str, tuple[Callable[[Call], Iterable[ConvertedLayer]], Callable[[Call], None] | None]] = {}


def converter(*classes: type[nn.Module] | str, check: Callable[[Call], None] | None = None) -> Callable:
    """Registers a function that turns a recorded call of a module of these classes into its ConvertedLayers.

    A class of a package that should not be imported for this is given by its full name, "package.module.Class".
    check: runs before each call (whose output is still None), to refuse with ConversionError what cannot be converted.
    A subclass with a `forward` of its own needs its own converter.

    >>> class Leaky(nn.Module):  # y_t = y_{t-1} / 2 + x_t, as an architecture of the library
    ...     def forward(self, x):
    ...         return torch.stack([sum(0.5 ** (t - s) * x[:, s] for s in range(t + 1)) for t in range(x.shape[1])], 1)
    >>> @converter(Leaky)
    ... def leaky(call):
    ...     from dsf import architecture_named
    ...     def encode(x):
    ...         ones = torch.ones_like(x[:, :, :1, None])
    ...         return dict(q=ones, k=ones, log_gamma=torch.tensor([0.5]).log()), x[:, :, None]
    ...     x, arch = call.arguments["x"], architecture_named("retnet")
    ...     yield ConvertedLayer(call.name("leak"), arch, encode, x, call.output, layout="BTF", state_size=1)
    >>> convert(nn.Sequential(Leaky()), torch.randn(2, 9, 3))
    Conversion of Sequential, 1 layer
      layer   architecture  state  steps  error
      0.leak  RetNet        1      9      ...
    """

    def register(convert_call: Callable[[Call], Iterable[ConvertedLayer]]) -> Callable:
        for cls in classes:
            _REGISTRY[cls if isinstance(cls, str) else _full_name(cls)] = (convert_call, check)
        return convert_call

    return register


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


@cache
def _import_converters() -> None:
    from . import converters

    for found in pkgutil.iter_modules(converters.__path__):
        importlib.import_module(f"{converters.__name__}.{found.name}")


def converter_of(module: nn.Module) -> tuple[Callable, Callable | None] | None:
    """The converter of a module and its check, or None."""
    _import_converters()
    for cls in type(module).__mro__:
        found = _REGISTRY.get(_full_name(cls))
        if found:
            return found if type(module).forward is cls.forward else None
    return None


@dataclass(frozen=True, eq=False)
class Conversion:
    """The recurrences of a module: `.layers` path -> ConvertedLayer, `.errors` path -> error at conversion.

    Paths are the module's, with the layer and the direction: "rnn.layer0", "rnn.layer0.reverse". The module itself has
    the path "", so its layers are "layer0", ...; a submodule called several times has "rnn[0].layer0", "rnn[1].layer0".
    `.unconverted` path -> sentence: what looks recurrent and was not converted, why, and how to go on.
    """

    title: str
    layers: Mapping[str, ConvertedLayer]
    errors: Mapping[str, float]
    unconverted: Mapping[str, str]

    def verify(self) -> dict[str, float]:
        """Re-simulates every layer against the module's own tensors: {path: max relative error}."""
        return {path: layer.verify() for path, layer in self.layers.items()}

    def __repr__(self) -> str:
        rows = [("layer", "architecture", "state", "steps", "error")]
        for path, layer in self.layers.items():
            state = f"{layer.state_size}" + " from the end" * layer.reverse
            rows.append((path, layer.architecture.title, state, str(layer.length), f"{self.errors[path]:.1e}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        count = f"{len(self.layers)} layer" + "s" * (len(self.layers) != 1)
        missing = ["not converted:"] * bool(self.unconverted)
        missing += [f"  {path or '(the module itself)'}: {why}" for path, why in self.unconverted.items()]
        return "\n".join([f"Conversion of {self.title}, {count}", *lines, *missing])


def convert(module: nn.Module, example_inputs: Any, *, tolerance: float | None = None) -> Conversion:
    """Writes every recurrence of a module as x_t = A_t x_{t-1} + B_t u_t, y_t = C_t x_t + D_t u_t, and verifies it.

    The module runs once on the inputs, without gradients and in the mode (train or eval) that it is in; what each
    recurrent submodule reads and returns is recorded, converted, re-simulated and compared.

    Args:
        module: an nn.Module: torch.nn.RNN, LSTM or GRU, or a model that calls some.
        example_inputs: what the module is called on: a tensor, a tuple of arguments, or a dict of keyword arguments.
        tolerance: the largest allowed max |error| / max |output|; default 1e-10 in float64, 1e-4 in float32.

    Returns a Conversion. Raises TypeError for what is no nn.Module, and ValueError (ConversionError) where the module
    fails on the inputs, holds NaN, has nothing to convert, or is not reproduced within the tolerance.

    >>> import torch
    >>> convert(torch.nn.GRU(3, 8, num_layers=2), torch.randn(10, 4, 3)).layers.keys()
    dict_keys(['layer0', 'layer1'])
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"convert takes an nn.Module and inputs to call it on, got {type(module).__name__}")
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance is a relative error, such as 1e-6, got {tolerance}")
    known = {path: c for path, m in module.named_modules() if (c := converter_of(m)) is not None}
    unconverted = _unconverted(module, known.keys())
    if not known:
        found = "".join(f"\n  {path or '(the module itself)'}: {why}" for path, why in unconverted.items())
        kinds = ", ".join(name.rpartition(".")[2] for name in _REGISTRY)
        raise ConversionError(f"{type(module).__name__} holds nothing that dsf converts (it knows {kinds}).{found}")
    calls = record(module, example_inputs, {path: check for path, (_, check) in known.items()})
    for path in known.keys() - {call.path for call in calls}:
        unconverted[path] = f"{type(module.get_submodule(path)).__name__} was not called on these inputs; give others"
    if not calls:
        raise ConversionError(f"none of {', '.join(sorted(unconverted))} was called on these inputs; give others")
    layers: dict[str, ConvertedLayer] = {}
    errors: dict[str, float] = {}
    with torch.no_grad():
        while calls:
            call = calls.pop(0)  # and with it the recorded tensors that no layer keeps
            for layer in known[call.path][0](call):
                layers[layer.path], errors[layer.path] = layer, layer.verify()
                _refuse_above(tolerance, layer, errors[layer.path])
    frozen = MappingProxyType(layers), MappingProxyType(errors), MappingProxyType(unconverted)
    return Conversion(type(module).__name__, *frozen)


def _refuse_above(tolerance: float | None, layer: ConvertedLayer, error: float) -> None:
    allowed = TOLERANCES.get(layer.output.dtype, 1e-4) if tolerance is None else tolerance
    if not error <= allowed:  # also refuses NaN
        rounding = " On a GPU, cuDNN may round to TF32: torch.backends.cudnn.allow_tf32 = False." * layer.output.is_cuda
        raise ConversionError(
            f"{layer.path} is not reproduced: relative error {error:.1e}, allowed {allowed:.1e}. Is the module "
            f"modified (hooks, pruning, quantisation), or does it diverge?{rounding} tolerance=... allows more"
        )


_ADVICE = {
    nn.RNNCellBase: "runs one step at a time: use the nn.RNN, nn.LSTM or nn.GRU with its weights "
    "(weight_ih -> weight_ih_l0 ...), or dsf.linearize(step, x0, u)",
    nn.MultiheadAttention: "is softmax attention: pass its q, k and values to "
    "dsf.architecture_named('softmax_attention')",
    nn.RNNBase: "has a forward of its own: register a converter for it, @dsf.conversion.converter(Class)",
}
_NAMES = re.compile("RNN|LSTM|GRU|SSM|RWKV|LRU|Recurrent|Mamba|Attention|Retention|DeltaNet")


def _unconverted(module: nn.Module, known: Iterable[str]) -> dict[str, str]:
    """What looks recurrent by class or name, has no converter, and does not merely contain what is listed or known."""
    found: dict[str, str] = {}
    for path, part in reversed(list(module.named_modules())):  # the innermost first
        advice = next((text for cls, text in _ADVICE.items() if isinstance(part, cls)), None)
        if advice is None and _NAMES.search(type(part).__name__):
            advice = "looks recurrent by its name: register a converter for it, @dsf.conversion.converter(Class)"
        if advice and not any(_inside(other, path) for other in (*known, *found)):
            found[path] = f"{type(part).__name__} {advice}"
    return dict(reversed(found.items()))


def _inside(path: str, outer: str) -> bool:
    return path == outer or outer == "" or path.startswith(outer + ".")
