"""transformers checkpoints: a folder, a safetensors file, or an id of the hub; never a pickle, never remote code."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .checkpoint_files import CONFIG, PICKLES, CheckpointError, LeftOut, file_names, read_config, weight_files
from .extras import required

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "spiece.model")
WANTED = ["*.json", "*.safetensors", "*.model", "*.txt"]  # of a repository: nothing that can run
DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")


def local_folder(source: str) -> Path:
    """The folder of a checkpoint: itself, that of a .safetensors file, or the hub's, downloaded or from its cache.

    Raises FileNotFoundError where it is neither here nor to be had; ValueError for a pickle.
    """
    path = Path(source)
    if source and path.is_dir():
        return path
    if path.suffix in PICKLES:
        raise ValueError(f"{source} is a pickle, which can run code, and is not opened: save it as safetensors")
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise FileNotFoundError(f"{source} does not exist")
        if not (path.parent / CONFIG).is_file():
            raise FileNotFoundError(f"{source} needs its {CONFIG} beside it: weights alone do not say of which model")
        if path.name not in (names := file_names(path.parent)):
            raise ValueError(f"the model of {path.parent} is read from {', '.join(names)}, not from {path.name}")
        return path.parent
    if not source or path.exists() or source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise FileNotFoundError(f"{source} is no folder, no .safetensors file and no id of the hub (owner/name)")
    return _from_hub(source)


def _from_hub(source: str) -> Path:
    hub = required("huggingface_hub", "hf")
    try:  # a copy that is whole is taken as it is: the same model with a network and without
        folder = Path(hub.snapshot_download(source, allow_patterns=WANTED, local_files_only=True))
        weight_files(folder)
        return folder
    except Exception:  # not in the cache, or not all of it; what the hub raises differs by version
        pass
    no_folder = f"{source} is no folder here, and is not in the hub's cache"
    try:
        folder = Path(hub.snapshot_download(source, allow_patterns=WANTED, ignore_patterns=["*/*", "consolidated*"]))
    except (hub.errors.RepositoryNotFoundError, hub.errors.HFValidationError):  # also where access is not granted
        raise FileNotFoundError(f"{no_folder}; nor does the hub have it, or not for you (`hf auth login`)") from None
    except Exception as error:
        why = "HF_HUB_OFFLINE is set" if hub.constants.HF_HUB_OFFLINE else first_line(error)
        raise FileNotFoundError(
            f"{no_folder}; it cannot be downloaded ({why}): where there is a network, run `hf download {source} "
            "--local-dir FOLDER`, and give FOLDER"
        ) from None
    if not any(folder.glob("*.safetensors")):
        raise ValueError(f"{source} has no safetensors: pickles, which can run code, are neither fetched nor opened")
    return folder


def model_class(config: dict[str, Any], folder: Path) -> Any:
    """The class of transformers that config.json names, or the automatic one that goes with its model_type.

    Raises ValueError where there is none, where it is remote code, and for an adapter of another model.
    """
    transformers = required("transformers", "hf")
    kind = config.get("model_type")
    known = isinstance(kind, str) and kind in transformers.CONFIG_MAPPING
    if config.get("auto_map") and not known:
        raise ValueError(
            f"{folder} needs code of its own (auto_map), which dsf does not run: load the model yourself, where you "
            "trust it, and call dsf.convert(model, inputs)"
        )
    if not known:
        raise ValueError(
            f"{folder / CONFIG} has model_type {kind!r}, which transformers {transformers.__version__} does not know"
        )
    for key, value in _entries(config):
        if key.endswith("_implementation") and ("/" in str(value) or "flash" in str(value)):
            raise ValueError(f"{folder / CONFIG} asks for {value}, code that dsf does not fetch: take out its {key}")
    if (folder / "adapter_config.json").is_file():
        raise ValueError(f"{folder} is an adapter of another model: save the two merged (peft: merge_and_unload)")
    own, names = transformers.CONFIG_MAPPING[kind], config.get("architectures")
    for name in names if isinstance(names, list) else [names]:
        cls = getattr(transformers, name, None) if isinstance(name, str) else None
        if isinstance(cls, type) and issubclass(cls, transformers.PreTrainedModel) and cls.config_class is own:
            return cls
    if own in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        return transformers.AutoModelForCausalLM
    to_text = own in transformers.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING
    return transformers.AutoModelForSeq2SeqLM if to_text else transformers.AutoModel


def settings_of(folder: Path) -> Any:
    """config.json as transformers reads it, defaults filled in."""
    auto = required("transformers", "hf").AutoConfig
    return auto.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)


def built(cls: Any, settings: Any, dtype: torch.dtype | None = None) -> Any:
    """A model of a class that `model_class` gave, with the weights of its initialisation."""
    return cls.from_config(settings, dtype=dtype) if hasattr(cls, "from_config") else cls(settings)


def _entries(config: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value, those of nested configurations too."""
    for key, value in config.items() if isinstance(config, dict) else ():
        yield key, value
        yield from _entries(value)


def dtype_of(name: str) -> torch.dtype | None:
    """The dtype of this name, None for "auto". Raises ValueError for another name than DTYPES has."""
    if name not in DTYPES:
        raise ValueError(f"dtype is one of {', '.join(DTYPES)}, got {name!r}")
    return None if name == "auto" else getattr(torch, name)


def load(folder: Path, dtype: str = "auto") -> nn.Module:
    """The whole model, in eval mode on the CPU. dtype: "auto" (as it is stored), "float32", ...

    Raises what `weight_files` and `model_class` raise, and ValueError where weights and config.json do not agree.
    """
    wanted = dtype_of(dtype) or "auto"
    cls = model_class(read_config(folder), folder)
    files = weight_files(folder)
    options = dict(local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True)
    with quiet():
        try:
            model, info = cls.from_pretrained(str(folder), dtype=wanted, **options)
        except Exception as error:
            if "ignore_mismatched_sizes" in str(error):  # the report, with the names, went to the log
                where = _other_shapes(cls, folder, files)
                raise CheckpointError(f"the weights of {folder} do not belong to its {CONFIG} ({where})") from None
            raise ValueError(f"{folder} does not load: {type(error).__name__}: {first_line(error)}") from None
    check_names(model, folder, {k.replace("_keys", ""): info.get(k) or () for k in ("missing_keys", "mismatched_keys")})
    check_unread(model, folder, info.get("unexpected_keys") or ())
    return model.eval()


def check_names(model: nn.Module, folder: Path, wrong: Mapping[str, Collection[Any]]) -> None:
    """Raises CheckpointError where names of weights are listed under what is wrong with them."""
    if any(wrong.values()):
        said = "; ".join(f"{k}: {', '.join(sorted(map(str, v))[:3])}" for k, v in wrong.items() if v)
        raise CheckpointError(f"the weights of {folder} do not belong to its {CONFIG} ({said})")


def check_unread(model: nn.Module, folder: Path, names: Collection[str]) -> None:
    """Warns (LeftOut) of tensors that the model does not read; raises CheckpointError where they belong to its layers.

    Those of a layer that the model has, and of one more layer of the same kind, say that config.json describes another
    model. Others stand beside it: heads of other tasks, layers that predict further tokens.
    """
    if not names:
        return
    stacks = {_bare(model, p): len(part) for p, part in model.named_modules() if isinstance(part, nn.ModuleList)}
    kinds = {name for path in model.state_dict() if (found := _of_layer(model, path, stacks)) for name in found[2:]}
    more: dict[tuple[str, int], set[str]] = {}  # layers beyond those of the model -> names in them
    for name in names:
        if found := _of_layer(model, name, stacks):
            stack, number, rest = found
            if number < stacks[stack]:
                check_names(model, folder, {"unexpected": sorted(names, key=lambda other: other != name)})
            more.setdefault((stack, number), set()).add(rest)
    if any(rest <= kinds for rest in more.values()):
        check_names(model, folder, {"unexpected": names})
    some = ", ".join(sorted(names)[:3]) + ", ..." * (len(names) > 3)
    warnings.warn(f"{folder}: {type(model).__name__} reads {len(names)} of its tensors not ({some})", LeftOut, 3)


def _bare(model: nn.Module, name: str) -> str:
    """Without the prefix that files may leave out."""
    return name.removeprefix(f"{getattr(model, 'base_model_prefix', '')}.")


def _of_layer(model: nn.Module, name: str, stacks: Collection[str]) -> tuple[str, int, str] | None:
    """The stack, number and rest of the name of a layer's tensor, by the outermost stack; else None."""
    bare = _bare(model, name)
    for found in re.finditer(r"\.(\d+)\.", bare):
        if bare[: found.start()] in stacks:
            return bare[: found.start()], int(found[1]), bare[found.end() :]
    return None


def _other_shapes(cls: Any, folder: Path, files: dict[str, Path]) -> str:
    """The first weight whose shape in the files is not that of the model, and both shapes."""
    from safetensors import safe_open

    with quiet(), torch.device("meta"):
        wanted = built(cls, settings_of(folder)).state_dict()
    for name in sorted(wanted.keys() & files.keys()):
        with safe_open(files[name], "pt") as tensors:
            found = tuple(tensors.get_slice(name).get_shape())
        if found != tuple(wanted[name].shape):
            return f"{name} has shape {found}, not {tuple(wanted[name].shape)}"
    return "of other shapes"


def tokenizer_of(folder: Path) -> Any:
    """The tokenizer of the folder; None where it has none, and text is read as bytes. ValueError: it does not load."""
    found = [name for name in TOKENIZERS if (folder / name).is_file()]
    if not found:
        return None
    transformers = required("transformers", "hf")
    try:
        with quiet():
            return transformers.AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
    except Exception as error:
        why = "it needs code of its own" if "trust_remote_code" in str(error) else first_line(error)
        raise ValueError(
            f"the tokenizer of {folder} does not load ({why}): mend it, or take {', '.join(found)} away and text is "
            "read as bytes"
        ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' warnings and progress bars, which would stand between those of a command."""
    logging = required("transformers.utils.logging", "hf")
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def first_line(error: Exception) -> str:
    """And the second, where the first only announces it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])
