"""`dsf check` on architectures, on all of them, and on saved verdicts; `dsf theorems`."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from .cli_output import fail, fill, fits, print_json, table, tracked, working, wrapped

MARKS = (
    "yes: some weights of it recognise the language at every length, and were run; no: none do; ?: undecided; *: by a "
    "derivation of this library, docs/theorems.md; FAILED: a check did not pass."
)


def asked_of(languages: Sequence[str], depth: int | None, precision: str) -> Any:
    """The question, its languages read: names, regular expressions, JSON files of automata."""
    from dsf_analysis.findings import Asked
    from dsf_analysis.languages.sources import language
    from dsf_analysis.questions import REGIMES

    if precision not in REGIMES:
        fail(f"--precision is one of {', '.join(REGIMES)}, got {precision!r}")
    return Asked(tuple(language(text) for text in languages), depth, precision)


def check_architecture(
    a: Any, title: str, about: dict[str, Any], asked: Any, save: Path | None, plot: Path | None, as_json: bool
) -> bool:
    """Eigenvalues and verdicts of an architecture, or of a system of a file; did every check pass?"""
    from dsf.system import System
    from dsf_analysis.findings import architecture_findings, system_findings
    from dsf_analysis.saved_verdicts import save_verdict

    if save is not None and len(asked.every) > 2:
        fail("--save writes one verdict: give one --language, or none for parity")
    bare = isinstance(a, System)
    with working(f"{title}: eigenvalues and {len(asked.every)} languages", line=False):
        spectrum, *verdicts = system_findings(a, asked) if bare else architecture_findings(a, asked)
    verdict = verdicts[-1].verdict
    if save is not None and verdict is not None:
        save_verdict(verdict, save)
    pictures = [picture(a, plot, title if bare else a.name)] if plot else []
    if as_json:
        parity, *others = verdicts
        found = {"spectrum": spectrum.to_dict(), "parity": parity.to_dict()}
        found |= {"languages": {f.name: f.to_dict() for f in others}} if others else {}
        print_json(about | found | ({"pictures": pictures} if plot else {}))
    else:
        typer.echo(wrapped("\n".join([title, str(spectrum), *map(str, verdicts)])))
        for file in pictures:
            typer.echo(f"Drawn in {file}")
        if save is not None:
            typer.echo(f"Saved in {save}; next: dsf check {save}")
    return all(f.held is not False for f in (spectrum, *verdicts))


def check_saved(file: Path, as_json: bool) -> bool:
    """Does the certificate of a saved verdict hold?"""
    from dsf_analysis.saved_verdicts import load_verdict

    if not file.is_file():
        fail(f"{file} is not a file: give a verdict that dsf check ARCH --save wrote")
    verdict = load_verdict(file)
    held = verdict.check()
    kind = type(verdict.certificate).__name__
    if as_json:
        print_json({"file": str(file)} | verdict.to_dict() | {"check": held, "checked": f"{kind}.check()"})
    else:
        typer.echo(wrapped(f"{verdict}\n  check       {'passed' if held else 'FAILED'}: {kind}.check()"))
    return held


def check_all(asked: Any, csv_file: Path | None, as_json: bool) -> bool:
    """The matrix of all architectures and languages; did every check pass?"""
    import dsf
    from dsf_analysis.languages.sources import language
    from dsf_analysis.matrix import TASKS, matrix, processors

    if csv_file is not None and not csv_file.parent.is_dir():
        fail(f"--csv: {csv_file.parent} is not a folder")
    languages = asked.languages or tuple(map(language, TASKS))
    names = list(dsf.architectures())
    rows = matrix(names, languages, asked.layers, asked.precision, min(processors(), 4))
    what = f"{len(names)} architectures, {len(languages)} languages"
    done = dict(tracked(rows, what, len(names)))
    found = {name: done[name] for name in names}
    if csv_file is not None:
        _write_csv(csv_file, found)
    if as_json:
        verdicts = {name: [cell.to_dict() for cell in cells] for name, cells in found.items()}
        print_json({"layers": asked.layers, "precision": asked.precision, "architectures": verdicts})
    else:
        typer.echo("\n".join(_matrix(found, asked)))
    return all(cell.check is not False for cells in found.values() for cell in cells)


def _matrix(found: dict[str, tuple], asked: Any) -> Iterator[str]:
    """Lines: a table where it fits, else what is known of each architecture; and what the marks mean."""
    cells = next(iter(found.values()))
    heads = [_in_short_lines(cell.language) for cell in cells]
    lines = table(["", *heads], [("", [(name, *(c.mark for c in row)) for name, row in found.items()])])
    if fits(lines):
        yield from lines
    else:
        for name, row in found.items():
            marks = dict.fromkeys(c.mark for c in row)
            said = (f"{mark}: {', '.join(c.language for c in row if c.mark == mark)}" for mark in marks)
            yield fill(f"{name}  {'; '.join(said)}", "  ")
    every = [cell for row in found.values() for cell in row]
    passed, decided = sum(c.check is True for c in every), sum(c.answer is not None for c in every)
    depth = f"at most {asked.layers} layers" if asked.layers else "any number of layers"
    yield ""
    yield fill(f"{MARKS} For {depth}, in the regime of precision {asked.precision!r}.")
    yield fill(f"{decided} of {len(every)} are decided, and {passed} certificates passed when they were checked again.")
    yield "Next: dsf check NAME --language L, dsf theorems"


def _in_short_lines(name: str, most: int = 10) -> str:
    """A language above a narrow column: its words one below the other, long ones broken."""
    words = re.sub(r"(?<=\w{3}-)(?=\w{3})", " ", name).split()
    parts = [word[i : i + most] for word in words for i in range(0, len(word), most)]
    return "\n".join(parts if len(parts) <= 4 else [*parts[:3], "..."])


def _write_csv(file: Path, found: dict[str, tuple]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("architecture", "language", "answer", "theorem", "own", "regimes", "layers", "check"))
        for name, cells in found.items():
            for c in cells:
                by = (c.theorem.cite, c.theorem.own) if c.theorem else ("", "")
                writer.writerow((name, c.language, c.answer, *by, " ".join(c.regimes), c.layers, c.check))


def picture(x: Any, folder: Path, name: str) -> str:
    """The file into which the spectrum of x was drawn."""
    from dsf_analysis.spectrum_plot import plot_spectrum

    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{re.sub(r'[^0-9A-Za-z._-]+', '_', name)}.png"
    plot_spectrum(x, file)
    return str(file)


def print_theorems(as_json: bool) -> None:
    """The rules in their order, and every theorem that they name."""
    from dsf_analysis.recognition import RECOGNITION
    from dsf_analysis.theorems import THEOREMS

    if as_json:
        rules = [
            {"name": r.name, "condition": r.condition, "answer": r.answer, "theorem": r.theorem and r.theorem.cite}
            for r in RECOGNITION.rules
        ]
        theorems = [{"cite": t.cite, "statement": t.statement, "own": t.own} for t in THEOREMS]
        return print_json({"tables": {RECOGNITION.title: rules}, "theorems": theorems})
    typer.echo(wrapped(f"{RECOGNITION.title}: the first rule that matches decides"))
    for number, r in enumerate(RECOGNITION.rules, 1):
        by = f"  [{r.theorem.cite}]" if r.theorem else ""
        typer.echo(fill(f"{number:2d}  {r.name}: {r.answer} if {r.condition}{by}", " " * 4))
    typer.echo("\nTheorems")
    for t in THEOREMS:
        mark = "own derivation, proof in docs/theorems.md; " if t.own else ""
        typer.echo(fill(f"  {t.cite}: {mark}{t.statement}", " " * 4))
