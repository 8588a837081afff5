"""What the commands print: tables and JSON on stdout; progress, and errors of one line, on stderr."""

from __future__ import annotations

import json
import math
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

GAP = "  "
NARROW = 60  # columns that a text needs to be read
LONGEST = 800  # letters of an error: other packages list all that they know


def fail(message: str) -> NoReturn:
    """One line on stderr, exit status 2."""
    line = "; ".join(line.strip() for line in str(message).splitlines() if line.strip())
    typer.echo(f"dsf: {line if len(line) <= LONGEST else line[:LONGEST] + ' ...'}", err=True)
    raise typer.Exit(2)


def width() -> int | None:
    """Columns of the terminal; None where stdout is none, and nothing needs to fit."""
    return max(shutil.get_terminal_size().columns, NARROW) if sys.stdout.isatty() else None


def fill(text: str, indent: str = "", most: int = 100) -> str:
    """Lines of at most so many columns, and of the terminal's; continued with an indent. A long word stays whole."""
    columns = min(width() or most, most)
    return textwrap.fill(text, columns, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def wrapped(text: str) -> str:
    """Lines that a terminal would break, continued with an indent; elsewhere they stay as they are."""
    if width() is None:
        return text
    return "\n".join(fill(line, " " * 14, most=160) if line.strip() else line for line in text.splitlines())


def table(header: Sequence[str], sections: Iterable[tuple[str, Sequence[Sequence[Any]]]]) -> list[str]:
    """Lines of a table: a header of one or more lines, then sections, each under its title (none where it is empty)."""
    sections = [(title, [["" if x is None else str(x) for x in row] for row in rows]) for title, rows in sections]
    heads = [name.split("\n") for name in header]
    deep = max(map(len, heads))
    top = [[""] * (deep - len(head)) + head for head in heads]
    lines = list(zip(*top, strict=True))
    every = [*lines, *(row for _, rows in sections for row in rows)]
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]

    def line(row: Sequence[str]) -> str:
        return GAP.join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()

    found = [*map(line, lines), GAP.join("-" * w for w in widths)]
    for title, rows in sections:
        found += ["", title] * bool(title) + [line(row) for row in rows]
    return found


def fits(lines: Iterable[str]) -> bool:
    """Does the terminal hold these lines without wrapping them?"""
    columns = width()
    return columns is None or max(len(part) for line in lines for part in line.split("\n")) <= columns


def print_json(document: Any) -> None:
    """One document, in which infinity and NaN are null."""
    typer.echo(json.dumps(_finite(document), indent=2, allow_nan=False))


def _finite(x: Any) -> Any:
    if isinstance(x, dict):
        return {k: _finite(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [_finite(v) for v in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


@contextmanager
def working(what: str, line: bool = True) -> Iterator[None]:
    """Says on stderr what is under way: a spinner on a terminal, elsewhere a line (or nothing)."""
    if not sys.stderr.isatty():
        if line:
            typer.echo(f"dsf: {what} ...", err=True)
        yield
        return
    from rich.console import Console

    with Console(stderr=True, highlight=False).status(f"dsf: {what} ...", spinner="line"):
        yield


def tracked(items: Iterable[Any], what: str, total: int, step: Any = lambda item: 1) -> Iterator[Any]:
    """The items, with a progress bar on stderr; a line where stderr is no terminal. step(item): how far it was."""
    if not sys.stderr.isatty():
        typer.echo(f"dsf: {what} ...", err=True)
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    words = TextColumn("dsf: {task.description}", markup=False)
    columns = words, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        for item in items:
            yield item
            bar.advance(task, step(item))
