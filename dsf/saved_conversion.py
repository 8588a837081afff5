"""Conversions in folders: conversion.json and tensors.safetensors, read without ever unpickling.

A saved layer is its core: the architecture with the domains that it has in that model, signals, drive, initial state,
and the output as dsf computed it when it was saved. What the module itself returned is not kept; its error against that
is. A layer from the end of the sequence is saved in the order in which it runs.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import math
import os
import pkgutil
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from .converted_layer import ConvertedLayer
from .cores import Core, Steps, simulated
from .definition import Architecture, architectures
from .domains import Domain
from .edits import DRIVE, Change, Edit
from .recording import Call
from .sets import Interval, Polar, Rectangle, Set
from .transforms import normalised
from .validation import check_drive, check_state
from .values import DEPENDENCE

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
)  # fields that JSON holds as they are


@dataclass(frozen=True, eq=False, repr=False)
class LoadedLayer(ConvertedLayer):
    """A layer of a folder: `output` is what dsf computed when it was saved, and `simulate` takes the drive.

    of_module: the dtype that the module ran in. edits: those that were made, by their text; the core has them already.
    """

    of_module: torch.dtype = torch.float32

    @property
    def dtype(self) -> torch.dtype:
        """The coarsest floating dtype of what the module read and returned."""
        return self.of_module


def save(conversion: Conversion, folder: str | Path) -> None:
    """Writes conversion.json and tensors.safetensors into a folder, which is made if need be.

    Files of these two names are replaced, when both are whole. Raises ValueError for an architecture that could not be
    found again by its name.
    """
    from safetensors.torch import save_file

    tensors = _Tensors()
    with torch.no_grad():
        layers = [_row(str(i), path, layer, tensors) for i, (path, layer) in enumerate(conversion.layers.items())]
    for row in layers:
        row["error"] = _end(conversion.errors[row["path"]])
    document = {"format": FORMAT, "versions": _versions(), "title": conversion.title, "layers": layers}
    document["unconverted"] = dict(conversion.unconverted)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as new:
        text, weights = Path(new, TEXT), Path(new, TENSORS)
        text.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        save_file(tensors.kept, weights, metadata={"format": FORMAT})
        shutil.copymode(text, weights)  # save_file makes it private
        os.replace(weights, folder / TENSORS)
        os.replace(text, folder / TEXT)


def load_conversion(folder: str | Path) -> Conversion:
    """The conversion of a folder written by `conversion.save(folder)`.

    Its layers have architecture, signals, drive, state and system as they were. `.verify()` re-simulates them and
    compares with the output that dsf had when it was saved; the errors against the module's own tensors, of when it was
    converted, are in `.errors`. There is no model to put back. An architecture of one's own has to be defined before.

    Raises FileNotFoundError where a file is missing, ValueError for another format, a damaged file, tensors that do not
    fit their architecture, or an architecture that is not defined here.

    >>> import dsf, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     dsf.convert(torch.nn.GRU(3, 8), torch.randn(10, 4, 3)).save(folder)
    ...     conversion = dsf.load_conversion(folder)
    >>> conversion.layers["layer0"].architecture.name, conversion.verify()
    ('gru', {'layer0': 0.0})
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
            raise ValueError(f"its format is {found!r}, and this version of dsf reads {FORMAT!r}")
        tensors = load_file(folder / TENSORS)
        rows = document["layers"]
        layers = {row["path"]: _named(row, partial(_layer, row, tensors)) for row in rows}
        if len(layers) < len(rows):
            raise ValueError("two layers have one path")
        errors = {row["path"]: _number(row["error"]) for row in rows}
        unconverted = {str(path): str(why) for path, why in document["unconverted"].items()}
        maps = MappingProxyType(layers), MappingProxyType(errors), MappingProxyType(unconverted)
        return Conversion(str(document["title"]), *maps)
    except KeyError as error:
        what = f"it lacks {error}"
    except SafetensorError as error:
        what = f"{TENSORS} is damaged ({error})"
    except json.JSONDecodeError as error:
        what = f"{TEXT} is no JSON ({error})"
    except (ValueError, TypeError, AttributeError, RuntimeError, ArithmeticError, IndexError, AssertionError) as error:
        what = str(error)
    raise ValueError(f"{folder} does not load: {what}")


# ------------------------------------------------------------------------------------------------------------ layers


def _row(prefix: str, path: str, layer: ConvertedLayer, tensors: _Tensors) -> dict[str, Any]:
    """One layer in JSON, its tensors by their names."""
    core = layer.core
    y, _ = simulated(core)
    keep = partial(_keep, tensors)
    return {
        **{
            "path": path,
            "part": core.part,
            "architecture": _named({"path": path}, partial(_written, core.architecture)),
        },
        **{"edits": [str(edit) for edit in layer.edits], "stages": list(layer.stages)},
        **{"dtype": str(layer.dtype).removeprefix("torch."), "length": layer.length, "heads": core.drive.shape[2]},
        **{"state_size": layer.state_size, "from_the_end": core.from_the_end},
        "signals": {name: keep(f"{prefix}.{name}", x) for name, x in core.signals.items()},
        **{"drive": keep(f"{prefix}.drive u", core.drive), "state": keep(f"{prefix}.state x", core.state)},
        **{"valid": keep(f"{prefix}.valid tokens", core.valid), "y": keep(f"{prefix}.output y", y)},
    }


def _layer(row: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> LoadedLayer:
    found = partial(_found, tensors)
    signals = {name: found(x) for name, x in row["signals"].items()}
    drive, state, valid, y = (found(row[name]) for name in ("drive", "state", "valid", "y"))
    architecture = _architecture(row["architecture"])
    core = Core(architecture, signals, drive, state, row["part"], valid, _bool(row["from_the_end"]))
    system = core.system
    check_drive(system, drive)
    check_state(system, drive, state)
    if y.shape[:3] != drive.shape[:3]:
        raise ValueError(f"the output {tuple(y.shape)} is not of the drive {tuple(drive.shape)}")
    if valid is not None and (valid.dtype != torch.bool or valid.shape != drive.shape[:2]):
        raise ValueError(f"valid should be bool {tuple(drive.shape[:2])}, got {valid.dtype} {tuple(valid.shape)}")
    dtype = getattr(torch, row["dtype"], None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{row['dtype']!r} is no dtype")
    edits = tuple(_made(text, core) for text in row["edits"])
    call = Call(row["path"], None, {"drive": drive}, y)
    layer = LoadedLayer(row["path"], call, partial(_steps, core), tuple(map(str, row["stages"])), edits, dtype)
    sizes = dict(length=layer.length, heads=drive.shape[2], state_size=layer.state_size)
    if wrong := [f"{name} {size}, and the file says {row[name]}" for name, size in sizes.items() if size != row[name]]:
        raise ValueError(f"its tensors have {wrong[0]}")
    return layer


def _steps(core: Core, call: Call) -> Steps:
    """The steps of a loaded layer: its core on the drive of the call, and its output."""
    y, _ = yield replace(core, drive=call.arguments["drive"])
    return y


def _made(text: str, core: Core) -> Edit:
    """An edit of which the core has the result: what it did stays, by its text."""
    signal, equals, change = text.partition(" = ")
    if not equals or signal not in (*core.signals, DRIVE):
        raise ValueError(f"{text!r} is no edit of {core.architecture.name}")
    return Edit(signal, Change(change, lambda x, _: x, lambda d: d))


def _named(row: Mapping[str, Any], make: Callable[[], Any]) -> Any:
    """What `make` returns; what it raises names the layer."""
    try:
        return make()
    except KeyError as error:
        raise ValueError(f"layer {row['path']!r} lacks {error}") from None
    except (ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"layer {row['path']!r}: {error}") from None


def _versions() -> dict[str, str | None]:
    from . import __version__

    try:
        transformers = importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError:
        transformers = None
    return {"dsf": __version__, "torch": str(torch.__version__), "transformers": transformers}


# ----------------------------------------------------------------------------------------------------------- tensors


class _Tensors:
    """What goes into the file: each tensor once, without the axes along which it repeats itself."""

    def __init__(self):
        self.kept: dict[str, torch.Tensor] = {}
        self._names: dict[tuple, tuple[str, torch.Tensor]] = {}  # and the tensor itself: its address stays its own

    def name(self, name: str, x: torch.Tensor) -> str:
        """The name under which x, or a tensor of the same memory, is kept."""
        key = (x.data_ptr(), x.device, x.dtype, x.shape, x.stride())
        if not x.numel() or key not in self._names:
            whole = torch.view_as_real(x) if x.is_complex() else x
            self.kept[name] = whole.detach().clone(memory_format=torch.contiguous_format).cpu()
            self._names[key] = name, x
        return self._names[key][0]


def _keep(tensors: _Tensors, name: str, x: Any) -> Any:
    """A tensor by its name and shape; None, or a tuple of tensors, as such."""
    if x is None:
        return None
    if isinstance(x, tuple):
        return [_keep(tensors, f"{name} {i}", part) for i, part in enumerate(x)]
    x = x.detach().resolve_conj().resolve_neg()
    once = x[
        tuple(slice(0, 1) if size and not step else slice(None) for size, step in zip(x.shape, x.stride(), strict=True))
    ]
    kept = {"tensor": tensors.name(name, once), "shape": list(x.shape)}
    return kept | {"complex": True} if x.is_complex() else kept


def _found(tensors: Mapping[str, torch.Tensor], row: Any) -> Any:
    if row is None:
        return None
    if isinstance(row, list):
        return tuple(_found(tensors, part) for part in row)
    x = tensors[row["tensor"]]
    return (torch.view_as_complex(x) if row.get("complex") else x).expand(row["shape"])


# ----------------------------------------------------------------------------------------------------- architectures


def _written(a: Architecture) -> dict[str, Any]:
    """By its name, or by how a converter makes it; and its domains."""
    made = getattr(a.body, "rebuild", None)
    known = architectures().get(a.name)
    if made is None and known is None:
        raise ValueError(f"{a.title} is not registered, and could not be found again: leave out register=False")
    if made is None and known is not None and known.body is not a.body:
        raise ValueError(
            f"{a.title} is not the architecture that is registered as {a.name!r}: give it a name of its own"
        )
    row: dict[str, Any] = {"name": a.name, "title": a.title, "made_by": None}
    if made is not None:
        row["made_by"] = [made[0], {name: _value_to_json(x) for name, x in made[1].items()}]
    row["wrappers"] = [_wrapper_to_json(wrap, a) for wrap in a.wrappers]
    own = _base(row)
    row["domains"] = {name: _domain_to_json(d, own.signals[name]) for name, d in a.signals.items()}
    return row


def _architecture(row: Mapping[str, Any]) -> Architecture:
    a = _base(row)
    if a.signals.keys() != row["domains"].keys():
        theirs = ", ".join(row["domains"])
        raise ValueError(f"{a.name} has the signals {', '.join(a.signals)} here, and {theirs} in the file")
    domains = {name: _domain_of_json(d, a.signals[name], name) for name, d in row["domains"].items()}
    wrappers = tuple(partial(normalised, floor=_floor(wrap)) for wrap in row["wrappers"])
    signals = MappingProxyType({name: domains[name] for name in a.signals})
    return replace(a, title=str(row["title"]), signals=signals, wrappers=wrappers)


def _base(row: Mapping[str, Any]) -> Architecture:
    """The architecture before its domains: the one of that name, or what a factory of dsf makes."""
    name, made = row["name"], row["made_by"]
    if made is None:
        if name not in architectures():
            raise ValueError(
                f"the architecture {name!r} is not defined here: define it by that name (import the file that does), "
                "then load"
            )
        return architectures()[name]
    home, arguments = made
    if not isinstance(home, str) or home.partition(":")[0] not in _homes():
        raise ValueError(f"an architecture is to be made by {home!r}, which is none of dsf's converters")
    module, _, factory = home.partition(":")
    found = getattr(importlib.import_module(module), factory, None)
    if callable(found) and getattr(found, "__module__", None) == module and not isinstance(found, Architecture):
        found = found(**{name: _value_of_json(x) for name, x in arguments.items()})
    if not isinstance(found, Architecture) or found.name != name:
        raise ValueError(f"{home!r} does not make the architecture {name!r}: the file is of another version of dsf")
    return found


def _homes() -> set[str]:
    """Modules of dsf that make architectures: a file names one of these, and nothing else is imported."""
    from . import converters

    return {"dsf.attention", *(f"dsf.converters.{found.name}" for found in pkgutil.iter_modules(converters.__path__))}


def _wrapper_to_json(wrap: Any, a: Architecture) -> dict[str, Any]:
    if not (
        isinstance(wrap, partial) and wrap.func is normalised and not wrap.args and wrap.keywords.keys() == {"floor"}
    ):
        raise ValueError(f"{a.title} is wrapped by a function that has no name in dsf: write it in the body instead")
    return {"normalised": _value_to_json(wrap.keywords["floor"])}


def _floor(row: Mapping[str, Any]) -> float | None:
    return None if row["normalised"] is None else _number(row["normalised"])


# --------------------------------------------------------------------------------------------------- domains and sets


def _domain_to_json(d: Domain, own: Domain) -> dict[str, Any]:
    """own: the architecture's; what it prescribes is found there again."""
    if d.value or own.value:
        if d != own:
            raise ValueError(
                f"a signal that is a {d} is not what its architecture prescribes, and JSON does not hold it"
            )
        return {"kind": d.kind, "fixed": True}
    plain = {name: getattr(d, name) for name in _PLAIN}
    return plain | {"set": _set_to_json(d.set), "spectrum": _set_to_json(d.spectrum)}


def _domain_of_json(row: Mapping[str, Any], own: Domain, name: str = "a signal") -> Domain:
    if row["kind"] != own.kind or _bool(row.get("fixed", False)) != bool(own.value):
        raise ValueError(f"{name} is a {own} here, and a {'fixed ' * bool(row.get('fixed'))}{row['kind']} in the file")
    if own.value:
        return own
    for field in _PLAIN:
        known = row[field] in DEPENDENCE if field == "dependence" else type(row[field]) is type(getattr(own, field))
        if not known:
            raise ValueError(f"{field} of {name} is {row[field]!r}")
    plain = {field: row[field] for field in _PLAIN}
    return Domain(**plain, set=_set_of_json(row["set"]), spectrum=_set_of_json(row["spectrum"]))


def _set_to_json(s: Set) -> dict[str, Any]:
    if isinstance(s, Interval):
        return {"interval": [_end(s.lo), _end(s.hi)]}
    if isinstance(s, Polar):
        return {"polar": [_set_to_json(s.r), _set_to_json(s.theta)]}
    assert isinstance(s, Rectangle)
    return {"rectangle": [_set_to_json(s.re), _set_to_json(s.im)]}


def _set_of_json(row: Mapping[str, Any]) -> Any:
    ((kind, (one, other)),) = row.items()
    if kind == "interval":
        return Interval(_number(one), _number(other))
    sides = _set_of_json(one), _set_of_json(other)
    if kind not in ("polar", "rectangle") or not all(isinstance(side, Interval) for side in sides):
        raise ValueError(f"{kind!r} is no set of two intervals")
    return (Polar if kind == "polar" else Rectangle)(*sides)


def _end(x: float) -> float | str:
    """JSON has no infinity: "oo"."""
    return x if math.isfinite(x) else "oo" if x > 0 else "-oo"


def _number(x: Any) -> float:
    if x in ("oo", "-oo"):
        return math.inf if x == "oo" else -math.inf
    if isinstance(x, bool) or not isinstance(x, (int, float)) or not math.isfinite(x):
        raise ValueError(f"{x!r} is no number")
    return float(x)


def _value_to_json(x: Any) -> Any:
    """Arguments of a factory: numbers, words, None, and lists of them."""
    if isinstance(x, (list, tuple)):
        return [_value_to_json(part) for part in x]
    return _end(x) if isinstance(x, float) else x


def _value_of_json(x: Any) -> Any:
    if isinstance(x, list):
        return [_value_of_json(part) for part in x]
    return _number(x) if x in ("oo", "-oo") else x


def _bool(x: Any) -> bool:
    if not isinstance(x, bool):
        raise ValueError(f"{x!r} is neither true nor false")
    return x
