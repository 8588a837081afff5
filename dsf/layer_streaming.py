"""A transformers model whose decoder layers are in memory one at a time: read before their turn, forgotten after it.

The model is built with its parameters on the meta device. What stands outside the stack of layers (embeddings, norms,
the head) is read at once; each layer's weights are read from the safetensors files when its forward begins and are let
go when it ends. After the last layer that is wanted the run stops.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .checkpoint_files import CheckpointError, read_config, weight_files
from .pretrained import built, check_names, check_unread, dtype_of, first_line, model_class, quiet, settings_of
from .recording import StopForward


def parse_layers(text: str | Sequence[int], count: int) -> list[int]:
    """ "0-3" or "0,2,5" as layer numbers below `count`. Raises ValueError for others.

    >>> parse_layers("0-2,5", 8)
    [0, 1, 2, 5]
    """
    numbers: list[int] = []
    out_of_range = ValueError(f"this model has the layers 0..{count - 1}, got {text!r}")
    for part in text.split(",") if isinstance(text, str) else map(str, text):
        found = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not found or int(found[2] or found[1]) < int(found[1]):
            raise ValueError(f"layers are numbers and ranges, as in 0-3 or 0,2,5; got {text!r}")
        first, last = int(found[1]), int(found[2] or found[1])
        if last >= count:
            raise out_of_range
        numbers += range(first, last + 1)
    if not numbers:
        raise out_of_range
    return sorted(dict.fromkeys(numbers))


def stack_of(module: nn.Module) -> tuple[str, nn.ModuleList]:
    """The stack of decoder layers: the module list that holds most parameters. ValueError where there is none."""
    lists = [(path, m) for path, m in module.named_modules() if isinstance(m, nn.ModuleList) and len(m)]
    if not lists:
        raise ValueError(f"{type(module).__name__} has no stack of layers: open it whole, without --layers")
    return max(lists, key=lambda found: sum(p.numel() for p in found[1].parameters()))


def load_in_layers(folder: Path, layers: str | Sequence[int], dtype: str = "auto") -> tuple[nn.Module, tuple[str, ...]]:
    """The model, and the paths of the wanted layers. Raises what `pretrained.load` raises."""
    wanted_dtype, config = dtype_of(dtype), read_config(folder)
    cls, files = model_class(config, folder), weight_files(folder)
    if config.get("quantization_config"):
        raise ValueError(f"the weights of {folder} are quantised: open it whole, without --layers")
    with quiet():
        try:
            settings = settings_of(folder)
            stored = wanted_dtype or settings.dtype or _first_dtype(files)
            with _parameters_on_meta(stored):
                model = built(cls, settings, stored).eval()
        except Exception as error:
            raise ValueError(f"{folder} does not load: {type(error).__name__}: {first_line(error)}") from None
    stack, parts = stack_of(model)
    wanted = parse_layers(layers, len(parts))
    if shared := _shared(model, stack):
        raise ValueError(f"layers of {type(model).__name__} share weights ({shared}): open it whole, without --layers")
    reader = _Reader(model, folder, files, stack, stored)
    reader.read("")
    model.tie_weights()
    for i, part in enumerate(parts):
        path = f"{stack}.{i}"
        part.register_forward_pre_hook(reader.reading(path))
        part.register_forward_hook(reader.forgetting(stop=i == wanted[-1]), always_call=True)
    return model, tuple(f"{stack}.{i}" for i in wanted)


class _Reader:
    """Reads the tensors of a checkpoint into a part of a model, renamed and merged as transformers does."""

    def __init__(self, model: Any, folder: Path, files: Mapping[str, Path], stack: str, dtype: torch.dtype):
        self.model, self.folder, self.files, self.stack, self.dtype = model, folder, files, stack, dtype
        self.groups: dict[str, list[str]] = {}  # path of a layer, "" of what is outside -> names in the files
        loading, mapping = _transformers_loading(), self._mapping()
        renaming = [m for m in mapping if isinstance(m, loading.WeightRenaming)]
        merging = [m for m in mapping if isinstance(m, loading.WeightConverter)]
        names, prefix = model.state_dict(), model.base_model_prefix
        layers = {f"{stack}.{i}" for i in range(len(model.get_submodule(stack)))}
        for name in files:
            renamed, _ = loading.rename_source_key(name, renaming, merging, prefix, names)
            if renamed not in names and name in names:  # as transformers does
                renamed, _ = loading.rename_source_key(name, [], [], prefix, names)
            inside = re.match(re.escape(stack) + r"\.\d+(?=\.)", renamed)
            self.groups.setdefault(inside[0] if inside and inside[0] in layers else "", []).append(name)

    def _mapping(self) -> list[Any]:
        from transformers.conversion_mapping import get_model_conversion_mapping

        return get_model_conversion_mapping(self.model)

    def read(self, path: str) -> None:
        """Reads the layer of this path; "": all that is outside the stack."""
        from safetensors import safe_open
        from transformers.modeling_utils import LoadStateDictConfig

        tensors = {}
        for name in self.groups.get(path, ()):
            with safe_open(self.files[name], "pt") as file:
                tensors[name] = file.get_tensor(name)
            if not _finite(tensors[name]):
                where = f"{name} in {self.files[name]}"
                raise CheckpointError(f"{where} holds NaN or infinity: it diverged, or it is damaged")
        plan = self.model._get_dtype_plan(self.dtype)  # what a model keeps in float32
        config = LoadStateDictConfig(weight_mapping=self._mapping(), dtype=self.dtype, dtype_plan=plan)
        with quiet():
            info, _ = _transformers_loading().convert_and_load_state_dict_in_model(self.model, tensors, config)
        self.model._adjust_missing_and_unexpected_keys(info)
        missing = {k for k in info.missing_keys if self._belongs(k, path)}
        found = {"missing": missing, "mismatched": info.mismatched_keys, "not converted": info.conversion_errors}
        check_names(self.model, self.folder, found)
        check_unread(self.model, self.folder, info.unexpected_keys)

    def _belongs(self, name: str, path: str) -> bool:
        """Is it a weight of that part, which nothing else gives?"""
        if name in (getattr(self.model, "all_tied_weights_keys", None) or ()):
            return False
        inside = name.startswith(self.stack + ".")
        return name.startswith(path + ".") if path else not inside

    def reading(self, path: str) -> Callable:
        def hook(*_: Any) -> None:
            self.read(path)

        return hook

    def forgetting(self, stop: bool) -> Callable:
        def hook(part: nn.Module, _: Any, output: Any) -> None:
            for name, p in list(part.named_parameters()):
                owner, _dot, leaf = name.rpartition(".")
                setattr(part.get_submodule(owner), leaf, nn.Parameter(p.to("meta"), requires_grad=False))
            if stop and output is not None:  # None: the layer raised, and its error is the one to tell
                raise StopForward

        return hook


def _shared(model: Any, stack: str) -> str | None:
    """A weight of a layer that is one of another layer or of the outside too: the files hold it under one name only."""

    def layer(name: str) -> str:
        found = re.match(re.escape(stack) + r"\.\d+\.", name)
        return found[0] if found else ""

    tied = getattr(model, "all_tied_weights_keys", None) or {}
    return next((name for name, other in tied.items() if layer(name) != layer(other)), None)


def _finite(x: torch.Tensor) -> bool:
    """By the extremes, which NaN overrides: unlike x.isfinite() this takes no memory."""
    return not (x.is_floating_point() and x.numel()) or bool(torch.stack(x.aminmax()).isfinite().all())


def _first_dtype(files: Mapping[str, Path]) -> torch.dtype:
    """Of the first floating-point tensor, which transformers goes by where config.json does not say."""
    from safetensors import safe_open

    known = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
    for name, path in files.items():
        with safe_open(path, "pt") as file:
            if (dtype := known.get(file.get_slice(name).get_dtype())) is not None:
                return dtype
    return torch.float32


def _transformers_loading() -> Any:
    """transformers' own loading of checkpoints, of which this is a part; it is no public interface."""
    from transformers import core_model_loading

    return core_model_loading


@contextmanager
def _parameters_on_meta(dtype: torch.dtype) -> Iterator[None]:
    """While the block runs, parameters are made without memory and buffers as they are."""
    register, before = nn.Module.register_parameter, torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # raises for what is no floating-point dtype

    def on_meta(self: nn.Module, name: str, p: nn.Parameter | None) -> None:
        register(self, name, p if p is None else nn.Parameter(p.to("meta"), requires_grad=False))

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
        torch.set_default_dtype(before)
