"""Folders of small byte-level models: config.json and model.safetensors, read without ever unpickling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

BYTE_MODEL = "dsf-byte-model/1"
KNOWN_FORMATS = (BYTE_MODEL,)
CELLS = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}

_CONFIG, _WEIGHTS, _CARD = "config.json", "model.safetensors", "README.md"
_SIZES = ("width", "hidden", "layers")
_PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}
_DTYPES = (torch.float32, torch.float64)


class ByteModel(nn.Module):
    """A language model over bytes: Embedding(256, width) -> LSTM, GRU or RNN -> Linear(hidden, 256).

    Args:
        cell: "LSTM", "GRU" or "RNN" (tanh).
        width: size of the embedding of a byte.
        hidden: size of the recurrent state, the same in each layer.
        layers: number of recurrent layers.

    Raises ValueError for another cell, or a size that is not an integer in 1..65536.

    >>> model = ByteModel("GRU", width=8, hidden=16)
    >>> model(bytes_of("import os")).shape
    torch.Size([1, 9, 256])
    """

    def __init__(self, cell: str = "LSTM", width: int = 48, hidden: int = 160, layers: int = 1):
        super().__init__()
        if not isinstance(cell, str) or cell not in CELLS:
            raise ValueError(f"cell should be one of {', '.join(CELLS)}, got {cell!r}")
        for name, size in zip(_SIZES, (width, hidden, layers), strict=True):
            if type(size) is not int or not 1 <= size <= 65536:
                raise ValueError(f"{name} should be an integer in 1..65536, got {size!r}")
        self.config = {"format": BYTE_MODEL, "cell": cell, "width": width, "hidden": hidden, "layers": layers}
        self.embedding = nn.Embedding(256, width)
        self.recurrent = CELLS[cell](width, hidden, num_layers=layers, batch_first=True)
        self.readout = nn.Linear(hidden, 256)

    def forward(self, tokens: torch.Tensor, state: Any = None) -> torch.Tensor:
        """Logits [B, T, 256] of the byte after each of tokens [B, T] (int64, 0..255), from `state` (default: zero)."""
        return self.advance(tokens, state)[0]

    def advance(self, tokens: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
        """Logits [B, T, 256] and the final state, from which the next chunk of the same text starts."""
        if tokens.dim() != 2 or tokens.dtype != torch.int64:
            raise ValueError(f"tokens should be int64 [B, T], got {tokens.dtype} of shape {tuple(tokens.shape)}")
        y, state = self.recurrent(self.embedding(tokens), state)
        return self.readout(y), state


def bytes_of(text: str | bytes | Path) -> torch.Tensor:
    """The bytes of a text (str, in UTF-8), of bytes, or of the file at a Path, as int64 [1, T]; T = 0 is a ValueError.

    >>> bytes_of("dsf")
    tensor([[100, 115, 102]])
    """
    data = text.read_bytes() if isinstance(text, Path) else text.encode() if isinstance(text, str) else bytes(text)
    if not data:
        raise ValueError("the text is empty: give at least one byte")
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).long()[None]


def save_checkpoint(model: ByteModel, folder: str | Path, card: str) -> None:
    """Writes config.json, model.safetensors and the model card README.md into a folder, which is made if need be.

    Args:
        model: a ByteModel in float32 or float64, whose weights are finite.
        folder: where to; files of these three names are replaced.
        card: the model card, Markdown: what the model is, its data, its measured quality, how to make it again.

    Raises TypeError for another module; ValueError for weights that load_checkpoint would refuse, or an empty card.
    """
    from safetensors.torch import save

    if not isinstance(model, ByteModel):
        raise TypeError(f"save_checkpoint writes a ByteModel, got {type(model).__name__}")
    if not card.strip():
        raise ValueError("the card is empty: say what the model is and what it was trained on")
    # Recurrent layers on a GPU are views of one buffer, which safetensors refuses: hence the copies.
    weights = {name: w.detach().cpu().clone().contiguous() for name, w in model.state_dict().items()}
    _check_weights(weights, model.config, "the model")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _WEIGHTS).write_bytes(save(weights, metadata={"format": "pt"}))  # save_file would make it private
    (folder / _CONFIG).write_text(json.dumps(model.config, indent=2) + "\n", encoding="utf-8")
    (folder / _CARD).write_text(card, encoding="utf-8")


def load_checkpoint(folder: str | Path) -> tuple[ByteModel, dict[str, Any]]:
    """The model of a folder written by save_checkpoint, in eval mode on the CPU, and its config.

    Only JSON and safetensors are read. Pickled weights (pytorch_model.bin, *.pt, *.pkl ...) can run code when they
    are opened; they never are.

    Raises FileNotFoundError where the folder or one of its files is missing; ValueError for a format that is not
    known, pickled weights alone, a corrupt file, or weights whose names, shapes, dtype or values are wrong.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_checkpoint(ByteModel("RNN", width=4, hidden=8), folder, card="# A model for a doctest")
    ...     model, config = load_checkpoint(folder)
    >>> config["cell"], config["hidden"]
    ('RNN', 8)
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: give one that holds {_CONFIG} and {_WEIGHTS}")
    weights_file = folder / _WEIGHTS
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLES)
    if pickles and not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"{folder} holds its weights as {', '.join(pickles)} only: pickles can run code and are not opened. "
            f"Convert them where you trust them (safetensors.torch.save_file) to {_WEIGHTS}"
        )
    config = _read_config(folder / _CONFIG)
    try:
        with torch.device("meta"):  # sizes only: a wrong config neither fills the memory nor draws random numbers
            model = ByteModel(**{key: value for key, value in config.items() if key != "format"})
    except ValueError as error:
        raise ValueError(f"{folder / _CONFIG}: {error}") from None
    if not weights_file.is_file():
        raise FileNotFoundError(f"{folder} has no {_WEIGHTS}: copy it there, or train again")
    try:
        weights = load_file(weights_file)
    except (SafetensorError, KeyError) as error:  # KeyError: a dtype that this torch does not have
        raise ValueError(f"{weights_file} cannot be read ({error}): copy it again, or train again") from None
    _check_weights(weights, config, str(weights_file))
    model.load_state_dict(weights, assign=True)
    return model.eval(), config


def _read_config(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(f"{file.parent} has no {file.name}: copy the whole folder, or write it: {_EXAMPLE}")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not UTF-8
        raise ValueError(f"{file} is not JSON ({error}): it should read like {_EXAMPLE}") from None
    found = config.get("format") if isinstance(config, dict) else None
    if found not in KNOWN_FORMATS:
        kind = config.get("model_type") if isinstance(config, dict) else None
        of = f" (its model_type is {kind!r})" if kind else ""
        raise ValueError(f"{file} has format {found!r}{of}; the formats known are: {', '.join(KNOWN_FORMATS)}")
    keys = {"format", "cell", *_SIZES}
    if config.keys() != keys:
        missing, unknown = sorted(keys - config.keys()), sorted(config.keys() - keys)
        raise ValueError(f"{file} lacks {missing} and has unknown {unknown}: it should read like {_EXAMPLE}")
    return config


def _check_weights(weights: dict[str, torch.Tensor], config: dict[str, Any], source: str) -> None:
    """Names, shapes, one dtype of _DTYPES, finite values: whatever fails, no model comes out of it."""
    with torch.device("meta"):
        wanted = ByteModel(**{key: value for key, value in config.items() if key != "format"}).state_dict()
    missing, unknown = sorted(wanted.keys() - weights.keys()), sorted(weights.keys() - wanted.keys())
    if missing or unknown:
        raise ValueError(f"{source} lacks {missing} and has unknown {unknown}: it does not belong to config {config}")
    for name, weight in weights.items():
        if weight.shape != wanted[name].shape:
            shapes = f"{tuple(weight.shape)}, but {_CONFIG} asks for {tuple(wanted[name].shape)}"
            raise ValueError(f"{source}: {name} has shape {shapes}: one of the two files belongs to another model")
        if weight.dtype not in _DTYPES or weight.dtype != weights["readout.bias"].dtype:
            raise ValueError(f"{source}: {name} is {weight.dtype}: all weights should be float32, or all float64")
        if not weight.isfinite().all():
            raise ValueError(f"{source}: {name} has NaN or infinite values: the training diverged; train again")


_EXAMPLE = json.dumps({"format": BYTE_MODEL, "cell": "LSTM", "width": 48, "hidden": 160, "layers": 1})
