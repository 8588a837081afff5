"""`dsf convert` on trained models: each layer reported."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from .cli_opened import Converted, check_source, converted
from .cli_output import fail, fill, fits, print_json, table, tracked


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
        check_source(source)
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
