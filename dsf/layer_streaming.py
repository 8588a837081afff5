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

from .pretrained import model_class, quiet, read_config, weight_files
from .recording import StopForward


def parse_layers(text: str | Sequence[int], count: int) -> list[int]:
    """ "0-3" or "0,2,5" as layer numbers below `count`. Raises ValueError for others.

    >>> parse_layers("0-2,5", 8)
    [0, 1, 2, 5]
    """
    numbers: list[int] = []
    for part in text.split(",") if isinstance(text, str) else map(str, text):
        found = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not found:
            raise ValueError(f"layers are numbers and ranges, as in 0-3 or 0,2,5; got {text!r}")
        first, last = int(found[1]), int(found[2] or found[1])
        numbers += range(first, last + 1)
    numbers = sorted(dict.fromkeys(numbers))
    if not numbers or numbers[-1] >= count:
        raise ValueError(f"this model has the layers 0..{count - 1}, got {text!r}")
    return numbers


def stack_of(module: nn.Module) -> tuple[str, nn.ModuleList]:
    """The stack of decoder layers: the module list that holds most parameters. ValueError where there is none."""
    lists = [(path, m) for path, m in module.named_modules() if isinstance(m, nn.ModuleList) and len(m)]
    if not lists:
        raise ValueError(f"{type(module).__name__} has no stack of layers: open it whole, without --layers")
    return max(lists, key=lambda found: sum(p.numel() for p in found[1].parameters()))


def load_in_layers(folder: Path, layers: str | Sequence[int], dtype: str = "auto") -> tuple[nn.Module, tuple[str, ...]]:
    """The model, and the paths of the wanted layers. Raises what `pretrained.load` raises."""
    import transformers

    config = read_config(folder)
    cls, files = model_class(config, folder), weight_files(folder)
    with quiet():
        settings = transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        stored: Any = getattr(torch, dtype) if dtype != "auto" else settings.dtype or torch.float32
        with _parameters_on_meta(stored):
            model = (cls.from_config if cls is transformers.AutoModelForCausalLM else cls)(settings)
    model = model.eval()
    stack, parts = stack_of(model)
    wanted = parse_layers(layers, len(parts))
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
        names = model.state_dict()
        for name in files:
            renamed, _ = loading.rename_source_key(name, renaming, merging, model.base_model_prefix, names)
            inside = re.match(re.escape(stack) + r"\.\d+(?=\.)", renamed)
            self.groups.setdefault(inside[0] if inside else "", []).append(name)

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
        config = LoadStateDictConfig(weight_mapping=self._mapping(), dtype=self.dtype)
        with quiet():
            info, _ = _transformers_loading().convert_and_load_state_dict_in_model(self.model, tensors, config)
        ignored = "|".join(getattr(self.model, "_keys_to_ignore_on_load_unexpected", None) or ["$^"])
        unexpected = [k for k in info.unexpected_keys if not re.search(ignored, k)]
        missing = [k for k in info.missing_keys if self._belongs(k, path)]
        if unexpected or missing or info.mismatched_keys or info.conversion_errors:
            odd = ", ".join(
                sorted(map(str, [*missing, *unexpected, *info.mismatched_keys, *info.conversion_errors]))[:3]
            )
            raise ValueError(f"the weights of {self.folder} do not belong to its config.json ({odd})")

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
        def hook(part: nn.Module, *_: Any) -> None:
            for name, p in list(part.named_parameters()):
                owner, _dot, leaf = name.rpartition(".")
                setattr(part.get_submodule(owner), leaf, nn.Parameter(p.to("meta"), requires_grad=False))
            if stop:
                raise StopForward

        return hook


def _transformers_loading() -> Any:
    """transformers' own loading of checkpoints, of which this is a part; it is no public interface."""
    from transformers import core_model_loading

    return core_model_loading


@contextmanager
def _parameters_on_meta(dtype: torch.dtype) -> Iterator[None]:
    """While the block runs, parameters are made without memory and buffers as they are."""
    register, before = nn.Module.register_parameter, torch.get_default_dtype()

    def on_meta(self: nn.Module, name: str, p: nn.Parameter | None) -> None:
        register(self, name, p if p is None else nn.Parameter(p.to("meta"), requires_grad=False))

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign]
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
        torch.set_default_dtype(before)
