"""`dsf check` on trained models: for each layer the verdict of its family, and that of its actual weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from .cli_check import picture
from .cli_opened import Converted, check_source, converted
from .cli_output import fill, fits, print_json, table, tracked, wrapped


def check_models(
    sources: Sequence[str], text: Path | None, length: int | None, dtype: str, layers: str | None, asked: Any,
    plot: Path | None, as_json: bool,
) -> bool:  # fmt: skip
    """One table of the layers of all models, then each family's verdicts; did every check pass?"""
    for source in sources:
        check_source(source)
    found: list[tuple[Converted, list[Any], list[str]]] = []
    known: dict[str, tuple] = {}
    for source in sources:
        one = converted(source, text, length, 512, dtype, layers)
        many = one.conversion.layers.items()
        rows, pictures = [], []
        for path, layer in tracked(many, f"{source}: eigenvalues and verdicts", len(many)):
            rows.append(_row(one, path, layer, asked, known))
            pictures += [picture(layer, plot, f"{one.name}.{path}".rstrip("."))] if plot else []
        found.append((one, rows, pictures))
    if as_json:
        print_json({"models": [_document(*each) for each in found]})
    else:
        _print(found, asked)
    return all(row.held for _, rows, _ in found for row in rows)


def _row(one: Converted, path: str, layer: Any, asked: Any, known: dict[str, tuple]) -> Any:
    """What is found of a layer; known: the verdicts of families that were judged already."""
    from dsf_analysis.check_text import LayerCheck
    from dsf_analysis.findings import layer_finding, verdict_findings
    from dsf_analysis.on_text import on_text
    from dsf_analysis.subjects import subject_of

    from .json_architectures import architecture_to_json

    subject_of(layer)  # which checks its domains: a verdict known already speaks of this layer too
    family = json.dumps(architecture_to_json(layer.architecture), sort_keys=True)
    if family not in known:
        known[family] = verdict_findings(layer, asked, layer.architecture.title)
    weights, title = on_text(layer), layer.architecture.title
    return LayerCheck(one.name, path, title, layer_finding(layer), weights, known[family], one.token)


def _document(one: Converted, rows: list[Any], pictures: list[str]) -> dict[str, Any]:
    layers = {row.path: row.to_dict() for row in rows}
    drawn = {"pictures": pictures} if pictures else {}
    return {"model": one.source, "text": one.text, "layers": layers, "unconverted": one.unconverted, **drawn}


def _print(found: list[tuple[Converted, list[Any], list[str]]], asked: Any) -> None:
    """A table where it fits the terminal, else a card per layer; then each family once."""
    from dsf_analysis.check_text import cells, closing_words, header, lines

    names = [language.title for language in asked.every]
    sections = [(fill(one.title, most=160), [cells(row) for row in rows]) for one, rows, _ in found]
    wide = table(header(names), sections)
    if fits(wide):
        typer.echo("\n".join(wide))
    else:
        for i, (one, rows, _) in enumerate(found):
            typer.echo("\n" * bool(i) + fill(one.title) + "\n")
            typer.echo("\n\n".join("\n".join(fill(line, " " * 15) for line in lines(row)) for row in rows))
    every = [row for _, rows, _ in found for row in rows]
    typer.echo("")
    for one, _, _ in found:
        for path, why in one.unconverted.items():
            typer.echo(fill(f"not converted: {f'{one.name}: ' * (len(found) > 1)}{path}: {why}", "  "))
    if every:
        typer.echo(fill(closing_words(every)))
    families: dict[tuple[str, str], list[str]] = {}
    for row in every:
        families.setdefault((row.title, row.family), []).append(f"{f'{row.model}: ' * (len(found) > 1)}{row.path}")
    for (title, words), paths in families.items():
        typer.echo(wrapped(f"\n{title} ({', '.join(paths)})\n{words}"))
    files = [file for _, _, pictures in found for file in pictures]
    if files:
        typer.echo("\n" + fill(f"Drawn in {', '.join(files)}", "  "))
