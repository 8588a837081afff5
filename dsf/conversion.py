"""`dsf.convert`: finds the recurrences of a trained module, writes each as a system, and proves it by re-simulation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from .converted_layer import ConvertedLayer
from .converter_registry import Converter, converter_of, taps
from .edits import Change, Edit, change_of
from .example_inputs import check_inputs, check_padding
from .interception import places
from .own_mixers import own_mixers
from .recording import Call, ConversionError, Recorder, numbered, record
from .substitution import INTO, Substitution, substituted
from .unknown_mixers import unknown_mixers

# Beyond the rounding of the dtype over thousands of steps; a wrong gate or term gives errors of 1e-2 and more.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


@dataclass(frozen=True, eq=False)
class Conversion:
    """The recurrences of a module: `.layers` path -> ConvertedLayer, `.errors` path -> error at conversion.

    Paths are the module's, with the layer and the direction where a module holds several: "rnn.layer0",
    "rnn.layer0.reverse". The module itself has the path "", so its layers are "layer0", ...; a submodule with several
    calls has "rnn[0].layer0", "rnn[1].layer0". `.unconverted` path -> sentence: what looks recurrent and was not
    converted, why, and how to go on.
    """

    title: str
    layers: Mapping[str, ConvertedLayer]
    errors: Mapping[str, float]
    unconverted: Mapping[str, str]
    original: nn.Module | None = field(repr=False, default=None)
    mixers: Mapping[str, Converter | None] = field(repr=False, default_factory=dict)  # path -> who converts its forward

    def verify(self) -> dict[str, float]:
        """Re-simulates every layer against the module's own tensors: {path: max relative error}."""
        return {path: layer.verify() for path, layer in self.layers.items()}

    def module(self, method: str = "auto") -> nn.Module:
        """The model itself, with every converted mixer run by `dsf.simulate`; it shares its weights with the original.

        Same class, same arguments, generate() and caches included; gradients flow. method: a backend of `dsf.simulate`.

        >>> import dsf, torch
        >>> lstm, x = torch.nn.LSTM(3, 5), torch.randn(20, 2, 3)
        >>> model = dsf.convert(lstm, x).module()
        >>> torch.allclose(model(x)[0], lstm(x)[0], atol=1e-6)
        True
        """
        if self.original is None:
            raise ValueError(
                "this conversion was loaded from a folder, without the model's code: convert the model again"
            )
        if any(p.device.type == "meta" for p in self.original.parameters()):
            raise ValueError("this model was read layer by layer, and its weights are not in memory: open it whole")
        edits = {path: layer.edits for path, layer in self.layers.items()}
        several = frozenset(layer.call.path for layer in self.layers.values() if layer.call.several)
        stages = frozenset(layer.call.path for layer in self.layers.values() if _is_stage(layer.call))
        return substituted(self.original, Substitution(edits, self.mixers, several, stages, method))

    def edit(self, path: str, **signals: Any) -> Conversion:
        """The same conversion with one layer changed; `.module()` of it shows the effect.

        signals: by name ("drive" is u), a change from dsf.edits (clamp, scale, constant, drop, mute), a number, a
        tensor, or a function of the signal. The layer's architecture gets the changed domains, so verdicts follow;
        after a function of the caller's, of which nothing is known, the domain is the widest.

        Raises KeyError for an unknown path, ValueError for an unknown signal or a change that does not fit it.

        >>> import dsf, torch
        >>> from dsf.edits import clamp
        >>> conversion = dsf.convert(torch.nn.GRU(3, 8), torch.randn(10, 4, 3))
        >>> conversion.edit("layer0", z=clamp(0, 1)).layers["layer0"].edits[0].signal
        'z'
        """
        if path not in self.layers:
            raise KeyError(f"no layer is called {path!r}; the layers are {', '.join(self.layers)}")
        layer = self.layers[path]
        edits = tuple(Edit(name, _change(name, value)) for name, value in signals.items())
        changed = replace(layer, edits=(*layer.edits, *edits))
        _ = changed.architecture  # tells a wrong edit here, and not when the model runs
        return replace(self, layers=MappingProxyType({**self.layers, path: changed}))

    def save(self, folder: str | Path) -> None:
        """Writes the layers into a folder (JSON and safetensors), from which `dsf.load_conversion` reads them."""
        from .saved_conversion import save

        try:
            save(self, folder)
        except OSError as error:
            raise type(error)(f"{folder} cannot be written: {error.strerror or error}") from error

    def __repr__(self) -> str:
        rows = [("layer", "architecture", "state", "steps", "error")]
        for path, layer in self.layers.items():
            state = f"{layer.state_size}" + " from the end" * layer.from_the_end
            title = layer.architecture.title + "".join(f", {edit}" for edit in layer.edits)
            rows.append((path, title, state, str(layer.length), f"{self.errors[path]:.1e}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        count = f"{len(self.layers)} layer" + "s" * (len(self.layers) != 1)
        missing = ["not converted:"] * bool(self.unconverted)
        missing += [f"  {path or '(the module itself)'}: {why}" for path, why in self.unconverted.items()]
        return "\n".join([f"Conversion of {self.title}, {count}", *lines, *missing])


def convert(
    module: nn.Module,
    example_inputs: Any,
    *,
    tolerance: float | None = None,
    mixers: Mapping[type[nn.Module], Callable] | None = None,
    only: Callable[[str], bool] = lambda path: True,
) -> Conversion:
    """Writes every recurrence of a module as x_t = A_t x_{t-1} + B_t u_t, y_t = C_t x_t + D_t u_t, and verifies it.

    The module runs once on the inputs, without gradients and in the mode (train or eval) that it is in; what each
    recurrence reads and returns is recorded, converted, re-simulated and compared. A transformers model runs with eager
    attention and without a cache, unless the inputs bring one.

    Args:
        module: an nn.Module: torch.nn.RNN, LSTM, GRU, MultiheadAttention, a transformers model, or one that calls some.
        example_inputs: what the module is called on: a tensor, a tuple of arguments, or a dict of keyword arguments.
        tolerance: the largest allowed max |error| / max |output|; default 1e-10 in float64, 1e-4 in float32, 2e-2 in
            float16 and 1e-1 in bfloat16.
        mixers: for classes of your own, class -> function of a module of it and its arguments, which returns
            (architecture, signals, drive); the output y [B, T, H, p] is reshaped to the module's. A fourth entry, a
            function of y, says otherwise what the module returns.
        only: which modules, by path, are converted.

    Returns a Conversion. Raises TypeError for what is no nn.Module, and ValueError (ConversionError) where the module
    fails on the inputs, holds NaN, has nothing to convert, or is not reproduced within the tolerance.

    >>> import torch
    >>> convert(torch.nn.GRU(3, 8, num_layers=2), torch.randn(10, 4, 3)).layers.keys()
    dict_keys(['layer0', 'layer1'])
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"convert takes an nn.Module and inputs to call it on, got {type(module).__name__}")
    if any(hasattr(part, INTO) for part in module.modules()):
        raise ConversionError(
            f"the mixers of this {type(module).__name__} are already run by dsf: convert the original, not what "
            "conversion.module() returned"
        )
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance is a relative error, such as 1e-6, got {tolerance}")
    check_inputs(module, example_inputs)
    own = own_mixers(module, mixers or {})
    known = {path: c for path, m in module.named_modules() if only(path) and (c := converter_of(m, own)) is not None}
    recorder = Recorder(module, known, taps())
    try:
        with plain(module):
            check_padding(module, example_inputs)
            calls = record(recorder, example_inputs)
    except ConversionError as error:
        if known or places(module.modules(), taps()):
            raise
        raise _nothing(module, unknown_mixers(module, (), recorder.mixing), f"; and {error}") from error
    calls = [call for call in calls if only(call.path) and not (_is_stage(call) and call.path in recorder.declined)]
    calls = _without_stages(calls)
    told = [*known, *recorder.declined, *(call.path for call in calls)]
    unconverted = unknown_mixers(module, told, recorder.mixing) | recorder.declined
    unconverted = {path: why for path, why in unconverted.items() if only(path)}
    for path in known.keys() - {call.path for call in calls} - recorder.declined.keys():
        unconverted[path] = f"{type(module.get_submodule(path)).__name__} was not called on these inputs; give others"
    if not calls:
        raise _nothing(module, unconverted)
    layers: dict[str, ConvertedLayer] = {}
    errors: dict[str, float] = {}
    with torch.no_grad():
        while calls:
            call = calls.pop(0)  # and with it the recorded tensors that no layer keeps
            for layer in _layers_of(call, known.get(call.path)):
                layers[layer.path], errors[layer.path] = layer, layer.verify()
                _refuse_above(tolerance, layer, errors[layer.path])
    frozen = MappingProxyType(layers), MappingProxyType(errors), MappingProxyType(unconverted)
    return Conversion(type(module).__name__, *frozen, module, {p: known.get(p) for p in _paths(layers)})


def _change(signal: str, value: Any) -> Change:
    try:
        return change_of(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"the edit of {signal}: {error}") from None


def _nothing(module: nn.Module, unconverted: Mapping[str, str], failure: str = "") -> ConversionError:
    found = "".join(f"\n  {path or '(the module itself)'}: {why}" for path, why in unconverted.items())
    return ConversionError(
        f"{type(module).__name__} holds nothing that dsf converts on these inputs (`dsf convert --supported` lists "
        f"what it knows; mixers={{Class: function}} adds your own){failure}.{found}"
    )


def _layers_of(call: Call, known: Converter | None) -> Iterator[ConvertedLayer]:
    """The layers of one recorded call."""
    stages = tuple(name for name, _ in call.module.named_children())
    if known is None:
        assert call.function is not None
        yield ConvertedLayer(call.name(), call, taps()[call.function].steps, stages)
    elif known.parts is None:
        yield ConvertedLayer(call.name(), call, known.steps, stages)
    else:
        for part, alone, steps in known.parts(call):
            yield ConvertedLayer(call.name(part), alone, steps, stages)


@contextmanager
def plain(module: nn.Module) -> Iterator[None]:
    """While the block runs, a transformers model takes eager attention, and makes no cache of its own."""
    configs = {id(c): c for part in module.modules() if (c := getattr(part, "config", None)) is not None}.values()
    wanted = {"_attn_implementation": "eager", "use_cache": False}
    before = [(c, k, getattr(c, k)) for c in configs for k in wanted if getattr(c, k, None) is not None]
    try:
        for config, key, _ in before:
            setattr(config, key, wanted[key])
        yield
    finally:
        for config, key, value in before:
            setattr(config, key, value)


def _without_stages(calls: list[Call]) -> list[Call]:
    """The calls without those that stand around another recurrence of their module."""
    with_core = {call.path for call in calls if not _is_stage(call)}
    return numbered([call for call in calls if not (_is_stage(call) and call.path in with_core)])


def _is_stage(call: Call) -> bool:
    return call.function is not None and taps()[call.function].stage


def _paths(layers: Mapping[str, ConvertedLayer]) -> dict[str, None]:
    """Paths of the modules that hold layers."""
    return dict.fromkeys(layer.call.path for layer in layers.values())


def allowed_error(layer: ConvertedLayer) -> float:
    """The relative error within which a layer counts as reproduced, unless the caller names another."""
    dtype = layer.dtype
    if layer.call.function is not None and dtype == torch.float64:
        dtype = torch.float32  # functions of transformers cast to float32 inside, whatever the model is in
    return TOLERANCES.get(dtype, 1e-4)


def _refuse_above(tolerance: float | None, layer: ConvertedLayer, error: float) -> None:
    allowed = allowed_error(layer) if tolerance is None else tolerance
    if not error <= allowed:  # also refuses NaN
        rounding = " On a GPU, cuDNN may round to TF32: torch.backends.cudnn.allow_tf32 = False." * layer.drive.is_cuda
        raise ConversionError(
            f"{layer.path} is not reproduced: relative error {error:.1e}, allowed {allowed:.1e}. Is the module "
            f"modified (hooks, pruning, quantisation), or does it diverge?{rounding} tolerance=... allows more"
        )
