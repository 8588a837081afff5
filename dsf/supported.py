"""What `dsf.convert` knows, read off the registry of converters: for the command line and the documentation."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path

from .converter_registry import class_converters, taps


@dataclass(frozen=True)
class Supported:
    """One file of converters: what it is about, the families that it is tested on, and what it takes hold of."""

    file: str
    what: str
    families: tuple[str, ...]
    modules: tuple[str, ...]  # full names of classes
    functions: tuple[str, ...]  # names, in the file of whatever module calls them


def supported() -> list[Supported]:
    """A row per file, in alphabetical order.

    >>> [row.functions for row in supported() if row.file.endswith("mamba2.py")]
    [('mamba2_chunk_scan', 'mamba2_selective_state_update')]
    """
    rows: dict[str, dict[str, dict[str, None]]] = {}
    words: dict[str, str] = {}
    for kind, known in (("modules", class_converters()), ("functions", taps())):
        for name, found in known.items():
            home = inspect.getmodule(found.steps)
            file = _short(getattr(home, "__file__", None) or "?")
            words[file] = (inspect.getdoc(home) or found.steps.__name__).strip().splitlines()[0]
            row = rows.setdefault(file, {"families": {}, "modules": {}, "functions": {}})
            row[kind][name] = None
            row["families"] |= dict.fromkeys(found.families)
    return [Supported(file, words[file], *(tuple(part) for part in rows[file].values())) for file in sorted(rows)]


def markdown_table() -> str:
    """The library's own rows as a table of Markdown, for docs/converters.md."""
    lines = ["| what | tested on | taken hold of at | file |", "|---|---|---|---|"]
    for row in supported():
        if not row.file.startswith("dsf/converters/"):
            continue  # registered by somebody else
        held = [f"`{name.rpartition('.')[2]}`" for name in row.modules] + [f"`{name}()`" for name in row.functions]
        lines.append(f"| {row.what.rstrip('.')} | {', '.join(row.families)} | {', '.join(held)} | `{row.file}` |")
    return "\n".join(lines)


def _short(file: str) -> str:
    """A file of the library from its folder on."""
    top = Path(__file__).parent.parent
    return Path(file).relative_to(top).as_posix() if Path(file).is_relative_to(top) else file
