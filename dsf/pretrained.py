"""transformers checkpoints: a folder, a safetensors file, or an id of the hub; never a pickle, never remote code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .extras import required

CONFIG, INDEX, WEIGHTS = "config.json", "model.safetensors.index.json", "model.safetensors"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "spiece.model")
WANTED = ["*.json", "*.safetensors", "*.model", "*.txt"]  # of a repository: nothing that can run


def local_folder(source: str) -> Path:
    """The folder of a checkpoint: itself, that of a .safetensors file, or the hub's, downloaded or from its cache.

    Raises FileNotFoundError where it is neither here nor to be had; ValueError for a pickle.
    """
    path = Path(source)
    if path.is_dir():
        return path
    if path.suffix in PICKLES:
        raise ValueError(f"{source} is a pickle, which can run code, and is not opened: save it as safetensors")
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise FileNotFoundError(f"{source} does not exist")
        if not (path.parent / CONFIG).is_file():
            raise FileNotFoundError(f"{source} needs its {CONFIG} beside it: weights alone do not say of which model")
        return path.parent
    if path.exists() or source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise FileNotFoundError(f"{source} is no folder, no .safetensors file and no id of the hub (owner/name)")
    return _from_hub(source)


def _from_hub(source: str) -> Path:
    hub = required("huggingface_hub", "hf")
    try:
        return Path(hub.snapshot_download(source, allow_patterns=WANTED))
    except Exception as error:  # the hub's, requests' and the operating system's own, which differ by version
        raise FileNotFoundError(
            f"{source} is not in the hub's cache and cannot be downloaded ({type(error).__name__}): without a network, "
            f"run `hf download {source}` elsewhere and give the folder"
        ) from None


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a transformers model. Raises FileNotFoundError or ValueError, saying what is wrong with it."""
    file = folder / CONFIG
    if not file.is_file():
        raise FileNotFoundError(f"{folder} has no {CONFIG}: copy the whole folder of the model")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not UTF-8
        raise ValueError(f"{file} is not JSON ({error})") from None
    if not isinstance(config, dict):
        raise ValueError(f"{file} should hold an object, got {type(config).__name__}")
    return config


def weight_files(folder: Path) -> dict[str, Path]:
    """Name of a tensor -> the file that holds it. Every file is opened, and its header read.

    Raises FileNotFoundError for missing files, ValueError for pickles alone and for files that cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    if (folder / INDEX).is_file():
        names = sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
    else:
        names = sorted(file.name for file in folder.glob("*.safetensors"))
    if not names:
        pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
        if pickles:
            raise ValueError(
                f"{folder} holds its weights as {', '.join(pickles)} only: pickles can run code and are not opened. "
                "Convert them where you trust them: model.save_pretrained(folder)"
            )
        raise FileNotFoundError(f"{folder} has no {WEIGHTS}: copy the whole folder of the model")
    found: dict[str, Path] = {}
    for name in names:
        file = folder / name
        if not file.is_file():
            raise FileNotFoundError(f"{folder} has no {name}, which its index names: copy it there")
        try:
            with safe_open(file, "pt") as tensors:
                found |= dict.fromkeys(tensors.keys(), file)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file} cannot be read ({error}): it is damaged, or cut off; copy it again") from None
    return found


def model_class(config: dict[str, Any], folder: Path) -> Any:
    """The class of transformers that config.json names. Raises ValueError where there is none, or it is remote code."""
    transformers = required("transformers", "hf")
    kind = config.get("model_type")
    if config.get("auto_map") and kind not in transformers.CONFIG_MAPPING:
        raise ValueError(
            f"{folder} needs code of its own (auto_map), which dsf does not run: load the model yourself, where you "
            "trust it, and call dsf.convert(model, inputs)"
        )
    if kind not in transformers.CONFIG_MAPPING:
        raise ValueError(
            f"{folder / CONFIG} has model_type {kind!r}, which transformers {transformers.__version__} does not know"
        )
    for name in config.get("architectures") or ():
        if (cls := getattr(transformers, name, None)) is not None:
            return cls
    return transformers.AutoModelForCausalLM


def load(folder: Path, dtype: str = "auto") -> nn.Module:
    """The whole model, in eval mode on the CPU. dtype: "auto" (as it is stored), "float32", ...

    Raises what `weight_files` and `model_class` raise, and ValueError where weights and config.json do not agree.
    """
    config = read_config(folder)
    cls = model_class(config, folder)
    weight_files(folder)
    wanted = "auto" if dtype == "auto" else getattr(torch, dtype)
    options = dict(local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True)
    with quiet():
        try:
            model, info = cls.from_pretrained(str(folder), dtype=wanted, **options)
        except Exception as error:
            raise ValueError(f"{folder} does not load: {type(error).__name__}: {_first_line(error)}") from None
    wrong = {k: sorted(map(str, info.get(k) or ())) for k in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    if any(wrong.values()):
        said = "; ".join(f"{k.replace('_keys', '')}: {', '.join(v[:3])}" for k, v in wrong.items() if v)
        raise ValueError(f"the weights of {folder} do not belong to its {CONFIG} ({said})")
    return model.eval()


def tokenizer_of(folder: Path) -> Any:
    """The tokenizer of the folder; None where it has none, and text is read as bytes."""
    if not any((folder / name).is_file() for name in TOKENIZERS):
        return None
    transformers = required("transformers", "hf")
    with quiet():
        return transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)


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


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), "")
