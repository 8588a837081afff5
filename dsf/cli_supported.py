"""`dsf convert --supported`: what the converters know, read off their registry."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import typer

from .cli_output import fill, print_json


def supported() -> list[dict[str, Any]]:
    """Every file of converters: what it intercepts, for which families, and its first line."""
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
