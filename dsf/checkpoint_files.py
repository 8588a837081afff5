"""The files of a transformers checkpoint: its config.json, and which safetensors files hold which tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CONFIG, INDEX, WEIGHTS = "config.json", "model.safetensors.index.json", "model.safetensors"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


class CheckpointError(ValueError):
    """Weights that cannot be taken as those of their model; the message says which, and what to do."""


class LeftOut(UserWarning):
    """Tensors of a checkpoint that its model does not read."""


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


def file_names(folder: Path) -> list[str]:
    """The files that transformers reads the weights from, and no other: what config.json names, WEIGHTS, the shards."""
    named = read_config(folder).get("transformers_weights")
    first = str(named) if named else next((name for name in (WEIGHTS, INDEX) if (folder / name).is_file()), None)
    if first is not None and first.endswith(".json"):
        try:
            names = {str(name) for name in json.loads((folder / first).read_text("utf-8"))["weight_map"].values()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"{folder / first} is no index of shards ({type(error).__name__}: {error})") from None
    else:
        names = {first} if first else set()
    if odd := sorted(name for name in names if not name.endswith(".safetensors")):
        raise ValueError(f"{folder} has its weights in {', '.join(odd[:3])}: only .safetensors files are opened")
    if names:
        return sorted(names)
    others = sorted(file.name for file in folder.glob("*.safetensors"))
    if others:
        raise ValueError(
            f"{folder} has {', '.join(others[:3])}, but no {WEIGHTS}, and no {INDEX}: rename it, or copy it"
        )
    if pickles := sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES):
        raise ValueError(
            f"{folder} holds its weights as {', '.join(pickles)} only: pickles can run code and are not opened. "
            "Convert them where you trust them: model.save_pretrained(folder)"
        )
    raise FileNotFoundError(f"{folder} has no {WEIGHTS}: copy the whole folder of the model")


def weight_files(folder: Path) -> dict[str, Path]:
    """Name of a tensor -> the file that holds it. Every file is opened, and its header read.

    Raises FileNotFoundError for missing files, ValueError for pickles alone and for files that cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    found: dict[str, Path] = {}
    for name in file_names(folder):
        file = folder / name
        if not file.is_file():
            raise FileNotFoundError(f"{folder} has no {name}, which its index names: copy it there")
        try:
            with safe_open(file, "pt") as tensors:
                found |= dict.fromkeys(tensors.keys(), file)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file} cannot be read ({error}): it is damaged, or cut off; copy it again") from None
    return found
