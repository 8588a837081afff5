"""Conversions in folders: conversion.json and tensors.safetensors, read without ever unpickling.

A saved layer is its core: the architecture with the domains that it has in that model, signals, drive, initial state, and
the output as dsf computed it when it was saved. What the module itself returned is not kept; its error against that is.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from .converted_layer import ConvertedLayer
from .cores import Core, Steps, simulated
from .definition import Architecture, architectures
from .domains import Domain
from .recording import Call
from .sets import Interval, Polar, Rectangle, Set

if TYPE_CHECKING:
    from .conversion import Conversion

FORMAT = "dsf-conversion/1"
TEXT, TENSORS = "conversion.json", "tensors.safetensors"
_PLAIN = (
    "kind",
    "unit",
    "ball",
    "const",
    "groups",
    "steps",
    "first",
    "dependence",
)  # fields of a domain that JSON holds
_OWN = ("dsf.converters.", "dsf.attention:")  # where a saved architecture may be rebuilt from: never from a file's word


def save(conversion: Conversion, folder: str | Path) -> None:
    """Writes conversion.json and tensors.safetensors into a folder, which is made if need be.

    Raises ValueError for an architecture that has no name to be found again by.
    """
    from safetensors.torch import save as in_bytes

    layers, tensors = [], {}
    with torch.no_grad():
        for i, (path, layer) in enumerate(conversion.layers.items()):
            core = layer.core
            y, _ = simulated(core)
            state = core.state if isinstance(core.state, tuple) else () if core.state is None else (core.state,)
            parts = {f"signal {k}": s for k, s in core.signals.items()} | {"drive": core.drive, "y": y}
            parts |= {f"state {j}": part for j, part in enumerate(state)}
            parts |= {} if core.valid is None else {"valid": core.valid}
            tensors |= {f"{i} {name}": x.detach().cpu().contiguous() for name, x in parts.items()}
            layers.append(
                {
                    **{"path": path, "architecture": _written(layer.architecture), "error": conversion.errors[path]},
                    **{"state": "tuple" if isinstance(core.state, tuple) else "tensor" if state else None},
                    **{"stages": list(layer.stages), "edits": [str(edit) for edit in layer.edits]},
                    "from_the_end": core.from_the_end,
                }
            )
    document = {"format": FORMAT, "versions": _versions(), "title": conversion.title, "layers": layers}
    document["unconverted"] = dict(conversion.unconverted)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # tensors that share memory (expanded, or views of one) are copied: safetensors refuses them
    (folder / TENSORS).write_bytes(in_bytes({name: x.clone() for name, x in tensors.items()}))
    (folder / TEXT).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def load_conversion(folder: str | Path) -> Conversion:
    """The conversion of a folder written by `conversion.save(folder)`.

    Its layers have architecture, signals, drive, state and system as they were; verify() re-simulates them and compares
    with the saved output; `.errors` are those against the module, when it was converted. It has no model to put back.

    Raises FileNotFoundError where a file is missing, ValueError for another format, a damaged file, tensors that do not fit
    their architecture, or an architecture that is not defined here.

    >>> import dsf, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     dsf.convert(torch.nn.GRU(3, 8), torch.randn(10, 4, 3)).save(folder)
    ...     dsf.load_conversion(folder).layers["layer0"].architecture.name
    'gru'
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from .conversion import Conversion

    folder = Path(folder)
    for name in (TEXT, TENSORS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}: give a folder that conversion.save(folder) wrote")
    try:
        document = json.loads((folder / TEXT).read_text(encoding="utf-8"))
        found = document.get("format") if isinstance(document, dict) else None
        if found != FORMAT:
            raise ValueError(f"its format is {found!r}, and this version reads {FORMAT!r}")
        tensors = load_file(folder / TENSORS)
        layers = [_layer(i, row, tensors) for i, row in enumerate(document["layers"])]
        errors = {row["path"]: float(row["error"]) for row in document["layers"]}
        title, unconverted = str(document["title"]), dict(document["unconverted"])
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        what = f"{type(error).__name__}: {error}" if isinstance(error, (KeyError, SafetensorError)) else error
        raise ValueError(f"{folder} does not load: {what}") from None
    by_path = {layer.path: layer for layer in layers}
    return Conversion(title, *map(MappingProxyType, (by_path, errors, unconverted)))


def _layer(i: int, row: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> ConvertedLayer:
    mine = {name.partition(" ")[2]: x for name, x in tensors.items() if name.startswith(f"{i} ")}
    signals = {name.removeprefix("signal "): x for name, x in mine.items() if name.startswith("signal ")}
    parts = tuple(mine[name] for name in sorted(name for name in mine if name.startswith("state ")))
    state = None if row["state"] is None else parts if row["state"] == "tuple" else parts[0]
    core = Core(
        _architecture(row["architecture"]),
        *(signals, mine["drive"], state),
        valid=mine.get("valid"),
        from_the_end=bool(row["from_the_end"]),
    )
    _ = core.system  # tells signals that do not fit here, and not when somebody looks
    stages = (*map(str, row["stages"]), *(f"edited: {edit}" for edit in row["edits"]))
    return ConvertedLayer(str(row["path"]), Call(str(row["path"]), None, {"core": core}, mine["y"]), _saved, stages)


def _saved(call: Call) -> Steps:
    """The steps of a loaded layer: its core as it is, and its output."""
    y, _ = yield call.arguments["core"]
    return y


def _versions() -> dict[str, str]:
    from . import __version__

    found = {"dsf": __version__, "torch": str(torch.__version__)}
    try:
        return found | {"transformers": str(importlib.import_module("transformers").__version__)}
    except ImportError:
        return found


# ----------------------------------------------------------------------------------------------------- architectures


def _written(a: Architecture) -> dict[str, Any]:
    """By its name, or by how a converter makes it; and its domains."""
    made = getattr(a.body, "rebuild", None)
    if made is None and (a.name not in architectures() or architectures()[a.name].body is not a.body):
        home = f"{a.body.__module__}:{a.name}"
        if not home.startswith(_OWN):
            raise ValueError(f"{a.title} is not registered, and could not be found again: leave out register=False")
        made = home, None
    if a.wrappers:
        raise ValueError(f"{a.title} is wrapped (.normalised()): write normalised(...) in its body instead")
    domains = {name: _domain_to_json(d) for name, d in a.signals.items()}
    return {"name": a.name, "made_by": None if made is None else list(made), "domains": domains}


def _architecture(row: Mapping[str, Any]) -> Architecture:
    if row["made_by"] is None:
        if row["name"] not in architectures():
            raise ValueError(f"the architecture {row['name']!r} is not defined here: define it before, by that name")
        a = architectures()[row["name"]]
    else:
        home, arguments = row["made_by"]
        if not str(home).startswith(_OWN):
            raise ValueError(f"an architecture is to be made by {home!r}, which is no part of dsf")
        module, _, name = str(home).partition(":")
        a = getattr(importlib.import_module(module), name)
        a = a if arguments is None else a(**arguments)
    if a.signals.keys() != row["domains"].keys():
        theirs = ", ".join(row["domains"])
        raise ValueError(f"{a.name} has the signals {', '.join(a.signals)} here, and {theirs} in the file")
    domains = {name: _domain_of_json(d, a.signals[name]) for name, d in row["domains"].items()}
    return replace(a, signals=MappingProxyType(domains))


def _domain_to_json(d: Domain) -> dict[str, Any]:
    if d.value:
        return {"kind": d.kind, "fixed": True}
    return {name: getattr(d, name) for name in _PLAIN} | {
        "set": _set_to_json(d.set),
        "spectrum": _set_to_json(d.spectrum),
    }


def _domain_of_json(row: Mapping[str, Any], own: Domain) -> Domain:
    if row.get("fixed"):
        return own
    plain = {name: type(getattr(own, name))(row[name]) for name in _PLAIN}
    return Domain(**plain, set=_set_of_json(row["set"]), spectrum=_set_of_json(row["spectrum"]))


def _set_to_json(s: Set) -> dict[str, Any]:
    """JSON has no infinity: "oo"."""
    if isinstance(s, Interval):
        return {"interval": [_end(s.lo), _end(s.hi)]}
    if isinstance(s, Polar):
        return {"polar": [_set_to_json(s.r), _set_to_json(s.theta)]}
    assert isinstance(s, Rectangle)
    return {"rectangle": [_set_to_json(s.re), _set_to_json(s.im)]}


def _set_of_json(row: Mapping[str, Any]) -> Any:
    (kind, parts), *_ = row.items()
    if kind == "interval":
        lo, hi = (float(str(end).replace("oo", "inf")) for end in parts)
        return Interval(lo, hi)
    return {"polar": Polar, "rectangle": Rectangle}[kind](*map(_set_of_json, parts))


def _end(x: float) -> float | str:
    return x if math.isfinite(x) else "oo" if x > 0 else "-oo"
