"""`dsf convert` and `dsf check` on trained models: opened, run on a text, converted, and each layer reported."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from .cli_output import fail, fill, fits, print_json, table, tracked, working, wrapped

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
    """Neither warnings nor progress bars of torch and transformers, which would stand between ours."""
    import os
    import warnings

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if "transformers" in sys.modules:  # it has read the environment
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def opened_model(source: str, dtype: str = "auto", layers: str | None = None) -> Any:
    """The model of a folder, by dsf.opened_models; a mistake in its name is told here."""
    import dsf
    from dsf import opened_models

    if dtype not in DTYPES:
        fail(f"--dtype is one of {', '.join(DTYPES)}, got {dtype!r}")
    if Path(source).is_file() and Path(source).suffix in PICKLES:
        fail(f"{source} is a pickle, which can run code, and is not opened: save it as safetensors in a folder")
    if not Path(source).exists() and source in dsf.architectures():
        fail(f"{source} is an architecture, and a model's folder is needed here; try dsf show {source}")
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
    return Converted(source, opened, conversion, words)


def convert_models(
    models: Sequence[str], text: Path | None, length: int | None, dtype: str, layers: str | None,
    save: Path | None, csv_file: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """One table of the layers of all models, and what it means."""
    from dsf_analysis.report import layer_report

    found = []
    if csv_file is not None and not csv_file.parent.is_dir():
        fail(f"--csv: {csv_file.parent} is not a folder")
    for source in models:
        one = converted(source, text, length, 2048, dtype, layers)
        many = one.conversion.layers.values()
        what = f"{source}: eigenvalues at some steps, parity, and the control"
        rows = [layer_report(layer, model=one.name) for layer in tracked(many, what, len(many))]
        if save is not None:
            one.conversion.save(save if len(models) == 1 else save / one.name)
        found.append((one, rows))
        one = many = None  # the recorded tensors of a model are not needed for the next
    if csv_file is not None:
        _write_csv(csv_file, [row for _, rows in found for row in rows])
    if as_json:
        return print_json({"models": [_document(one, rows) for one, rows in found]})
    for line in _report(found):
        typer.echo(line)
    if save is not None:
        typer.echo(f"Saved in {save}")
    typer.echo(f"Next: dsf check {models[0]}")


def _document(one: Converted, rows: list) -> dict[str, Any]:
    about = {"model": one.source, "class": type(one.opened.module).__name__, "parameters": one.opened.parameters}
    layers = [row.to_dict() for row in rows]
    return about | {"text": one.text, "layers": layers, "unconverted": one.unconverted}


def _report(found: list[tuple[Converted, list]]) -> Iterator[str]:
    """Lines: a table where it fits the terminal, else a card per layer."""
    from dsf_analysis.report_text import cells, closing_words, header, lines

    every = [row for _, rows in found for row in rows]
    several = len(found) > 1
    yield from [] if several else [fill(found[0][0].title), ""]
    titles = ["" if not several else fill(one.title, most=160) for one, _ in found]
    wide = table(header(), [(t, [cells(row) for row in rows]) for t, (_, rows) in zip(titles, found, strict=True)])
    if fits(wide):
        yield from wide
    else:
        for i, (one, rows) in enumerate(found):
            yield from [""] * bool(i) + [fill(one.title), ""] if several else []
            yield "\n\n".join("\n".join(fill(line, " " * 15) for line in lines(row)) for row in rows)
    yield ""
    for one, _ in found:
        for path, why in one.unconverted.items():
            yield fill(f"not converted: {f'{one.name}: ' * several}{path}: {why}", "  ")
    yield fill(closing_words(every))


def _write_csv(file: Path, rows: list) -> None:
    from dsf_analysis.report_text import csv_row

    plain = [csv_row(row) for row in rows]
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(plain[0]))
        writer.writeheader()
        writer.writerows(plain)


def check_model(
    source: str, text: Path | None, length: int | None, dtype: str, layers: str | None, as_json: bool
) -> bool:
    """Eigenvalues and parity of every layer; did every check pass?"""
    from dsf_analysis.findings import layer_findings

    one = converted(source, text, length, 512, dtype, layers)
    many = one.conversion.layers
    found = {p: layer_findings(x) for p, x in tracked(many.items(), f"{source}: eigenvalues and parity", len(many))}
    if as_json:
        parts = {path: {f.name: f.to_dict() for f in both} for path, both in found.items()}
        print_json({"model": source, "text": one.text, "layers": parts, "unconverted": one.unconverted})
    else:
        typer.echo(fill(one.title))
        said: dict[str, str] = {}  # a verdict in words -> the layer it was printed for
        for path, (spectrum, verdict) in found.items():
            words = str(verdict)
            words = f"parity: as in {said[words]}" if words in said else words
            said.setdefault(words, path)
            typer.echo(wrapped(f"\n{path}\n{spectrum}\n{words}"))
        for path, why in one.unconverted.items():
            typer.echo("\n" + fill(f"not converted: {path}: {why}", "  "))
    return all(f.held is not False for both in found.values() for f in both)


def supported() -> list[dict[str, Any]]:
    """Every file of converters: what it intercepts, for which families, and its first line."""
    import inspect

    from dsf.converter_registry import class_converters, taps

    files: dict[str, dict[str, Any]] = {}
    for kind, known in (("modules", class_converters()), ("functions", taps())):
        for name, found in known.items():
            home = inspect.getmodule(found.steps)
            words = (inspect.getdoc(home) or "").strip().splitlines() or [found.steps.__name__]
            file = _short(getattr(home, "__file__", None) or "?")
            empty = {"file": file, "what": words[0], "families": [], "modules": [], "functions": []}
            row = files.setdefault(file, empty)
            row[kind].append(name)
            row["families"] += [family for family in found.families if family not in row["families"]]
    return sorted(files.values(), key=lambda row: row["file"])


def _short(file: str) -> str:
    """A file of the library from its folder on."""
    top = Path(__file__).parent.parent
    return Path(file).relative_to(top).as_posix() if Path(file).is_relative_to(top) else file


OTHERS = (
    "Functions are intercepted by name in the file of whatever module calls them, so other families that call them "
    "convert too. Your own: mixers={Class: function}, or @dsf.converter(Class)."
)


def print_supported(as_json: bool) -> None:
    """The list, as text or JSON."""
    rows = supported()
    if as_json:
        return print_json(rows)
    for row in rows:
        typer.echo(fill(row["what"], "  "))
        typer.echo(fill(f"  families     {', '.join(row['families']) or '-'}", " " * 15))
        for kind in ("modules", "functions"):
            if row[kind]:
                typer.echo(fill(f"  {kind:11s}  {', '.join(row[kind])}", " " * 15))
        typer.echo(f"  file         {row['file']}\n")
    typer.echo(fill(OTHERS))


def _default_text() -> Path:
    """A file that is in every Python, and in a package: the shipped models were trained on top-level modules alone."""
    import json.decoder

    return Path(json.decoder.__file__)
