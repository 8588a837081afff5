"""One way to open a model for the command line: a folder of dsf's own format, a transformers checkpoint, a hub id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .checkpoints import bytes_of, load_checkpoint
from .layer_streaming import load_in_layers
from .pretrained import dtype_of, load, local_folder, read_config, tokenizer_of

SHOWN = 12  # letters of a token


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """A model in eval mode on the CPU, with what it takes to run it on a text.

    unit: of what it reads, "bytes" or "tokens". wanted: the paths of the layers that `layers` asked for; None: all.
    """

    name: str
    kind: str  # "byte model" | "transformers"
    module: nn.Module
    tokenizer: Any = None
    wanted: tuple[str, ...] | None = None

    @property
    def unit(self) -> str:
        return "bytes" if self.tokenizer is None else "tokens"

    @property
    def parameters(self) -> int:
        """How many parameters there are, also where they are not in memory."""
        return sum(p.numel() for p in self.module.parameters())

    def encode(self, text: str | bytes | Path, length: int | None = None) -> torch.Tensor:
        """The first `length` tokens of a text, int64 [1, T]. Raises ValueError where it is empty."""
        if self.tokenizer is None:
            return bytes_of(text)[:, :length]
        data = text.read_bytes() if isinstance(text, Path) else text
        words = data.decode("utf-8", errors="replace") if isinstance(data, bytes) else data
        ids = self.tokenizer(words, add_special_tokens=True)["input_ids"][:length]
        if not ids:
            raise ValueError("the text is empty: give at least one token")
        return torch.tensor([ids])

    def shown(self, token: int) -> str:
        """A token as Python writes it, cut after a few letters: 'e', '\\n', b'\\xe9'."""
        if self.tokenizer is None:
            return repr(chr(token)) if token < 128 else repr(bytes([token]))
        word = self.tokenizer.decode([token])
        return repr(word if len(word) <= SHOWN else word[:SHOWN] + "...")

    def inputs(self, tokens: torch.Tensor) -> Any:
        """What the module is called on, for tokens [B, T]."""
        if self.kind == "byte model":
            return tokens
        both = {"decoder_input_ids": tokens} if getattr(self.module.config, "is_encoder_decoder", False) else {}
        return {"input_ids": tokens, **both, "use_cache": False}

    def wants(self, path: str) -> bool:
        """Is a module of this path one of the wanted layers, or inside one?"""
        return self.wanted is None or any(path == layer or path.startswith(layer + ".") for layer in self.wanted)


def open_model(source: str | Path, dtype: str = "auto", layers: str | Sequence[int] | None = None) -> OpenedModel:
    """Opens a model without running anything of it: JSON and safetensors are read, nothing else.

    source: a folder written by save_checkpoint; a transformers folder (sharded or not, any dtype); a .safetensors file
    with its config.json; an id of the hub, "owner/name". dtype: "auto" as stored, or as pretrained.DTYPES has them.
    layers: "0-3", "0,2" or numbers: the decoder layers are read one by one as they run, and the run stops after the
    last of these, so that the model need not fit in memory; `wants` tells which modules to look at.

    Raises FileNotFoundError for what is not there, ValueError for pickles, remote code, damaged files, weights that do
    not belong to their config.json, and ImportError where transformers is not installed.

    >>> opened = open_model("examples/models/byte_lstm")
    >>> opened.kind, opened.unit, opened.encode("import os").shape
    ('byte model', 'bytes', torch.Size([1, 9]))
    """
    folder = local_folder(str(source))
    config = read_config(folder)
    if "format" in config or "model_type" not in config:
        if layers is not None:
            raise ValueError(f"{source} is a byte model, small enough to open whole: leave out --layers")
        module, _ = load_checkpoint(folder)
        return OpenedModel(str(source), "byte model", module.to(dtype_of(dtype)))
    tokenizer = tokenizer_of(folder)
    if layers is None:
        return OpenedModel(str(source), "transformers", load(folder, dtype), tokenizer)
    module, wanted = load_in_layers(folder, layers, dtype)
    return OpenedModel(str(source), "transformers", module, tokenizer, wanted)
