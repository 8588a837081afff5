"""The command `dsf`: list and show architectures, check what they can compute, convert trained models.

Results go to stdout, progress and errors (one line) to stderr. Exit status: 0 done, 1 a check failed, 2 wrong usage.
"""

from __future__ import annotations

import json
import math
import textwrap
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(
    help="Every sequence model as x_t = A_t x_{t-1} + B_t u_t, y_t = C_t x_t + D_t u_t.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain usage errors, in two lines
)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Text = Annotated[Path | None, typer.Option("--text", help="A file to run on; default: a file of the standard library.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="Another domain of a scalar or vector: beta=0,2.")]
MODEL = "A model: a folder with config.json and model.safetensors."
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}


def _version(wanted: bool) -> None:
    if wanted:
        import dsf

        typer.echo(f"dsf {dsf.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Every sequence model as x_t = A_t x_{t-1} + B_t u_t, y_t = C_t x_t + D_t u_t."""


@app.command("list")
def list_architectures(as_json: Json = False) -> None:
    """List every architecture: its structure, and of what its transition is a function."""
    import dsf
    from dsf.printing import structure

    keys = ("name", "title", "year", "A", "dependence", "cite")
    rows = []
    for name, a in dsf.architectures().items():
        bounds = a.bounds()
        rows.append((name, a.title, a.year, structure(bounds.A), bounds.dependence()["A"], a.cite))
    if as_json:
        return _print_json([dict(zip(keys, row, strict=True)) for row in rows])
    _print_table(("name", "title", "year", "structure of A", "A depends on", "cite"), rows)
    typer.echo("Next: dsf show NAME, dsf check NAME")


@app.command()
def show(
    arch: Annotated[str, typer.Argument(metavar="ARCH", help="An architecture, such as deltanet (dsf list).")],
    latex: Annotated[bool, typer.Option("--latex", help="Print LaTeX.")] = False,
    as_json: Json = False,
) -> None:
    """Show an architecture: its equations at any n, its signals with their domains, its matrices at n = 2."""
    from dsf.matrix_form import matrices
    from dsf.printing import architecture_latex, equations

    a = _architecture(arch)
    found = matrices(a)
    if as_json:
        bounds = a.bounds()
        return _print_json(
            {
                **{"name": a.name, "title": a.title, "year": a.year, "cite": a.cite},
                **{"equations": list(equations(a)), "latex": architecture_latex(a)},
                **{"signals": {k: repr(d) for k, d in a.signals.items()}, "dependence": bounds.dependence()},
                **{"n": 2, "matrices": {k: [[str(e) for e in row] for row in M.tolist()] for k, M in found.items()}},
            }
        )
    import sympy as sp

    if latex:
        return typer.echo("\n".join([architecture_latex(a), *(f"${k} = {sp.latex(M)}$" for k, M in found.items())]))
    typer.echo(repr(a))
    typer.echo("at n = 2:")
    for k, M in found.items():
        typer.echo(f"{k} =\n{sp.pretty(M, use_unicode=False, wrap_line=False)}")
    typer.echo(f"Next: dsf check {a.name}")


@app.command()
def check(
    what: Annotated[str, typer.Argument(metavar="ARCH|MODEL", help="An architecture, or a model's folder.")],
    domains: Sets = None,
    text: Text = None,
    length: Annotated[int, typer.Option(min=1, help="Tokens of the text that a model runs on.")] = 512,
    as_json: Json = False,
) -> None:
    """Check what an architecture (or each layer of a model) can do: its eigenvalues, and parity, with theorems."""
    import dsf
    from dsf_analysis.findings import architecture_findings, layer_findings

    if not what or what in dsf.architectures() or not _is_path(what):
        a = _architecture(what, "There is no such folder either. ")
        for assignment in domains or ():
            a = _with_domain(a, assignment)
        changed = {name: repr(a.signals[name]) for name in (d.partition("=")[0] for d in domains or ())}
        title = a.title + "".join(f", {name}: {domain}" for name, domain in changed.items())
        subject, found = {"architecture": a.name, "domains": changed}, {title: architecture_findings(a)}
    elif domains:
        _fail("--set changes a domain of an architecture; a model's domains are those of its architectures")
    else:
        conversion, source = _conversion(what, text, length)
        subject, found = {"model": what, "text": source}, {}
        for path, layer in conversion.layers.items():
            _progress(f"{path}: eigenvalues at some steps, and parity")
            found[path] = layer_findings(layer)
    if as_json:
        parts = [{f.name: f.to_dict() for f in both} for both in found.values()]
        _print_json(subject | ({"layers": dict(zip(found, parts, strict=True))} if "model" in subject else parts[0]))
    else:
        typer.echo("\n\n".join("\n".join([title, *map(str, both)]) for title, both in found.items()))
    raise typer.Exit(int(any(f.held is False for both in found.values() for f in both)))


@app.command()
def convert(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL)],
    text: Text = None,
    length: Annotated[int, typer.Option(min=1, help="Tokens of the text to run on.")] = 2048,
    as_json: Json = False,
) -> None:
    """Convert a trained model into A, B, C, D, prove that the layers are reproduced, and say what they are."""
    from dsf_analysis.report import closing_words, layer_report

    conversion, source = _conversion(model, text, length)
    rows = []
    for path, layer in conversion.layers.items():
        _progress(f"{path}: eigenvalues at some steps, parity, and the control")
        rows.append(layer_report(layer))
    if as_json:
        layers, missing = [row.to_dict() for row in rows], dict(conversion.unconverted)
        return _print_json({"model": model, "text": source, "layers": layers, "unconverted": missing})
    typer.echo(f"{model} on {source}")
    _print_table(rows[0].columns(), [row.cells() for row in rows])
    for path, why in conversion.unconverted.items():
        typer.echo(f"not converted: {path}: {why}")
    typer.echo(textwrap.fill(closing_words(rows), 100))
    typer.echo(f"Next: dsf check {model}")


# ------------------------------------------------------------------------------------------------------------- parts


def _architecture(name: str, besides: str = "") -> Any:
    import dsf

    if not name:
        _fail("the name is empty; `dsf list` shows all architectures")
    try:
        return dsf.architecture_named(name)
    except KeyError as error:
        _fail(f"{error.args[0].partition(' dsf.')[0]} {besides}`dsf list` shows all of them")


def _with_domain(a: Any, assignment: str) -> Any:
    """`beta=0,2` as a domain of the same kind on [0, 2]."""
    name, _, ends = assignment.partition("=")
    if name not in a.signals:
        _fail(f"{a.name} has the signals {', '.join(a.signals)}, not {name!r}")
    domain = a.signals[name]
    if domain.kind not in ("scalar", "vector") or domain.unit or domain.ball or domain.value:
        _fail(f"--set changes scalars and vectors; {name} of {a.name} is: {domain}")
    try:
        lo, hi = map(float, ends.replace("oo", "inf").split(","))
        return a.with_domain(**{name: domain(lo, hi)})
    except ValueError:
        _fail(f"--set takes two ends, lo <= hi, as in {name}=0,2 or {name}=-oo,0; got {assignment!r}")


def _is_path(what: str) -> bool:
    return Path(what).exists() or "/" in what or "\\" in what


def _conversion(model: str, text: Path | None, length: int) -> tuple[Any, str]:
    """The model of a folder, converted on a text, and the text in words."""
    import dsf
    from dsf.checkpoints import bytes_of, load_checkpoint

    if Path(model).is_file() and Path(model).suffix in PICKLES:
        _fail(f"{model} is a pickle, which can run code, and is not opened: save it as safetensors in a folder")
    if not Path(model).exists() and model in dsf.architectures():
        _fail(f"{model} is an architecture, and a model's folder is needed here; try dsf show {model}")
    if text is not None and not text.is_file():
        _fail(f"{text} is not a file: --text takes a file to run the model on")
    file = text or _default_text()
    where = str(text) if text else "/".join(file.parts[-2:]) + " of the standard library"
    try:
        module, _ = load_checkpoint(model)
        with file.open("rb") as stream:
            tokens = bytes_of(stream.read(length))
        _progress(f"running {type(module).__name__} on {tokens.shape[1]} bytes, and each of its layers again")
        return dsf.convert(module, tokens), f"the first {tokens.shape[1]} bytes of {where}"
    except (OSError, ValueError) as error:
        _fail(str(error))


def _default_text() -> Path:
    """A file that is in every Python, and in a package: the shipped models were trained on top-level modules alone."""
    import json.decoder

    return Path(json.decoder.__file__)


def _progress(what: str) -> None:
    typer.echo(f"dsf: {what} ...", err=True)


def _fail(message: str) -> NoReturn:
    typer.echo(f"dsf: {'; '.join(line.strip() for line in message.splitlines())}", err=True)
    raise typer.Exit(2)


def _print_json(document: Any) -> None:
    typer.echo(json.dumps(_finite(document), indent=2, allow_nan=False))


def _finite(x: Any) -> Any:
    """JSON has no infinity: null."""
    if isinstance(x, dict):
        return {k: _finite(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [_finite(v) for v in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


def _print_table(header: tuple[str, ...], rows: list[tuple]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    console = console if console.is_terminal else Console(highlight=False, markup=False, width=160)
    table = Table(*header, box=box.SIMPLE)
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    console.print(table)


def main() -> None:
    """The entry point of the command."""
    app(prog_name="dsf")
