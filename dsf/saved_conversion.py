"""Conversions in folders: conversion.json and tensors.safetensors, read without ever unpickling.

A saved layer is its core: the architecture with the domains that it has in that model, signals, drive, initial state,
and the output as dsf computed it when it was saved. What the module itself returned is not kept; its error against that
is. A layer from the end of the sequence is saved in the order in which it runs.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
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
from .edits import DRIVE, Change, Edit
from .json_architectures import architecture_of_json, architecture_to_json, boolean, number, number_to_json
from .recording import Call
from .validation import check_drive, check_state

if TYPE_CHECKING:
    from .conversion import Conversion

FORMAT = "dsf-conversion/1"
TEXT, TENSORS = "conversion.json", "tensors.safetensors"


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
    found again by its name, and where a file stands in the folder's place.
    """
    from safetensors.torch import save_file

    if Path(folder).is_file():
        raise ValueError(f"{folder} is a file: name a folder to save into")
    tensors = _Tensors()
    with torch.no_grad():
        layers = [_row(str(i), path, layer, tensors) for i, (path, layer) in enumerate(conversion.layers.items())]
    for row in layers:
        row["error"] = number_to_json(conversion.errors[row["path"]])
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
        errors = {row["path"]: number(row["error"]) for row in rows}
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
            "architecture": _named({"path": path}, partial(architecture_to_json, core.architecture)),
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
    architecture = architecture_of_json(row["architecture"])
    core = Core(architecture, signals, drive, state, row["part"], valid, boolean(row["from_the_end"]))
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
