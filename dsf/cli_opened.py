"""Models on the command line: opened, quietly, and converted on the beginning of a text."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from .checkpoint_files import LeftOut
from .cli_output import fail, working

PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}
DTYPES = ("auto", "float32", "bfloat16", "float64")
BYTES_PER_TOKEN = 16  # that are read of a file, to begin with


@dataclass(frozen=True)
class Converted:
    """A model of the command line, opened and converted on the beginning of a text."""

    source: str
    opened: Any
    conversion: Any
    text: str  # in words: the first 512 bytes of FILE
    tokens: Any  # [1, T]

    def token(self, place: int) -> str:
        """A token of the text and its place: 'e' (17); of longer ones the beginning."""
        if not 0 <= place < self.tokens.shape[1]:
            return f"step {place}"  # it reads something else than one token at a time
        return f"{self.opened.shown(int(self.tokens[0, place]))} ({place})"

    @property
    def name(self) -> str:
        """The model in a table of several."""
        return Path(self.source).name

    @property
    def unconverted(self) -> dict[str, str]:
        """Path -> why, of the layers that were asked for."""
        return {path: why for path, why in self.conversion.unconverted.items() if self.opened.wants(path)}

    @property
    def title(self) -> str:
        """The model in words."""
        size = f"{self.opened.parameters:,} parameters"
        return f"{self.source} ({type(self.opened.module).__name__}, {size}) on {self.text}"


@contextmanager
def quiet() -> Iterator[None]:
    """Neither warnings nor progress bars of torch and transformers, which would stand between ours; dsf's own stay."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with warnings.catch_warnings(), ExitStack() as after:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", LeftOut)
        warnings.showwarning = lambda message, *_: typer.echo(f"dsf: {message}", err=True)
        if "transformers" in sys.modules:  # it has read the environment
            from dsf import pretrained

            after.enter_context(pretrained.quiet())
        yield


def check_source(source: str) -> None:
    """Fails where there is no such model, before anything long begins; what is in the hub is fetched."""
    import dsf
    from dsf.pretrained import local_folder

    if Path(source).is_file() and Path(source).suffix in PICKLES:
        fail(f"{source} is a pickle, which can run code, and is not opened: save it as safetensors in a folder")
    if not Path(source).exists() and source in dsf.architectures():
        fail(f"{source} is an architecture, and a model's folder is needed here; try dsf show {source}")
    local_folder(source)


def opened_model(source: str, dtype: str = "auto", layers: str | None = None) -> Any:
    """The model of a folder, by dsf.opened_models."""
    from dsf import opened_models

    check_source(source)
    if dtype not in DTYPES:
        fail(f"--dtype is one of {', '.join(DTYPES)}, got {dtype!r}")
    with working(f"opening {source}", line=False):
        return opened_models.open_model(source, dtype=dtype, layers=layers)


def encoded(opened: Any, text: Path | None, length: int | None) -> tuple[Any, str]:
    """The first `length` tokens [1, T] of a file (default: one of the standard library), and in words."""
    if text is not None and not text.is_file():
        fail(f"{text} is not a file: give a file to run the model on")
    file = text or _default_text()
    where = str(text) if text else "/".join(file.parts[-2:]) + " of the standard library"
    size, whole = (length or 0) * (1 if opened.unit == "bytes" else BYTES_PER_TOKEN), file.stat().st_size
    while True:
        with file.open("rb") as stream:
            data = stream.read(size if length else -1)
        if not data:
            fail(f"{where}: the text is empty: give at least one byte")
        tokens = opened.encode(data, length)
        if length is None or tokens.shape[1] >= length or size >= whole:
            count = f"first {tokens.shape[1]:,}" if length else f"{tokens.shape[1]:,}"
            return tokens, f"the {count} {opened.unit} of {where}"
        size *= 4


def converted(
    source: str, text: Path | None, length: int | None, default: int, dtype: str = "auto", layers: str | None = None
) -> Converted:
    """The model converted on a text: on `length` tokens, or on the default, or on as many as it has positions."""
    import dsf
    from dsf.streaming import check_positions, known_positions

    opened = opened_model(source, dtype, layers)
    if length is None:
        length = min(default, known_positions(opened.module) or default)
    tokens, words = encoded(opened, text, length)
    if layers is None:
        check_positions(opened.module, tokens)
    name = type(opened.module).__name__
    with working(f"running {name} on {tokens.shape[1]:,} {opened.unit}, and each of its layers again"):
        conversion = dsf.convert(opened.module, opened.inputs(tokens), only=opened.wants)
    return Converted(source, opened, conversion, words, tokens)


def _default_text() -> Path:
    """A file that is in every Python, and in a package: the shipped models were trained on top-level modules alone."""
    import json.decoder

    return Path(json.decoder.__file__)
