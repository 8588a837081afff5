"""`dsf language`: what a regular language takes, as text, as JSON, and as a picture."""

from __future__ import annotations

from pathlib import Path

import typer

from .cli_output import print_json, wrapped


def print_language(accepted: str, plot: Path | None, as_json: bool) -> None:
    """All that is known of it; and the picture, which is drawn first, for it may be refused."""
    from dsf_analysis.languages.description import lines, to_dict
    from dsf_analysis.languages.sources import language

    found = language(accepted)
    if plot is not None:
        from dsf_analysis.languages.drawing import plot_automaton

        plot_automaton(found, plot)
    if as_json:
        return print_json(to_dict(found) | ({"plot": str(plot)} if plot else {}))
    typer.echo(wrapped("\n".join(lines(found))))
    if plot is not None:
        typer.echo(f"Drawn in {plot}")
