"""`dsf convert --supported`: what the converters know, read off their registry."""

from __future__ import annotations

from dataclasses import asdict

import typer

from .cli_output import fill, print_json

OTHERS = (
    "Functions are intercepted by name in the file of whatever module calls them, so other families that call them "
    "convert too. Your own: mixers={Class: function}, or @dsf.converter(Class)."
)


def print_supported(as_json: bool) -> None:
    """The list, as text or JSON."""
    from .supported import supported

    rows = supported()
    if as_json:
        return print_json([asdict(row) for row in rows])
    for row in rows:
        typer.echo(fill(row.what, "  "))
        typer.echo(fill(f"  families     {', '.join(row.families) or '-'}", " " * 15))
        for kind, names in (("modules", row.modules), ("functions", row.functions)):
            if names:
                typer.echo(fill(f"  {kind:11s}  {', '.join(names)}", " " * 15))
        typer.echo(f"  file         {row.file}\n")
    typer.echo(fill(OTHERS))
