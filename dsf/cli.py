"""The command `dsf`: list and show architectures, check what they can compute, convert and run trained models.

Results go to stdout, progress and errors (one line) to stderr. Exit status: 0 done, 1 a check failed, 2 wrong usage.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .cli_files import from_file, names_a_file
from .cli_output import fail, fits, print_json, table


class Commands(TyperGroup):
    """The commands, in the order in which they are written; what they raise is told in one line."""

    def invoke(self, ctx: Any) -> Any:
        from .cli_opened import quiet

        try:
            with quiet():
                return super().invoke(ctx)
        except BrokenPipeError:  # | head
            raise
        except (OSError, ValueError, ImportError) as error:
            if os.environ.get("DSF_TRACEBACK"):
                raise
            fail(str(error) or type(error).__name__)
        except Exception as error:
            if os.environ.get("DSF_TRACEBACK") or type(error).__module__.startswith(("typer", "click")):
                raise
            fail(f"{type(error).__name__}: {error} (not foreseen; DSF_TRACEBACK=1 shows where)")


app = typer.Typer(
    cls=Commands,
    help="Every sequence model as x_t = A_t x_{t-1} + B_t u_t, y_t = C_t x_t + D_t u_t.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain usage errors, in two lines
)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Text = Annotated[Path | None, typer.Option("--text", help="A file to run on; default: a file of the standard library.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="Another domain of a scalar or vector: beta=0,2.")]
Dtype = Annotated[str, typer.Option("--dtype", help="auto (that of the weights), float32, bfloat16 or float64.")]
Layers = Annotated[str | None, typer.Option("--layers", help="Only these layers of the model: 0-3, or 5.")]
Edits = Annotated[
    list[str] | None, typer.Option("--edit", metavar="PATH:SIGNAL=CHANGE", help="As in layers.0.mixer:dt=scale(0.5).")
]
ARCH = "ARCH|FILE.py:NAME"
MODEL = "A model's folder, with config.json and safetensors."
WHAT = "An architecture, models' folders, or a saved verdict."
LANGUAGE = "A language beside parity: a name (mod 3, S5), a regular expression, a JSON file; repeat it for more."
ACCEPTED = "A name (parity, mod 3, flip-flop, S5, dyck-1 depth 3 ...), a regular expression, or a JSON file."


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
        return print_json([dict(zip(keys, row, strict=True)) for row in rows])
    lines = table(("name", "title", "year", "structure of A", "A depends on", "cite"), [("", rows)])
    if not fits(lines):
        short = [(name, title, A.partition(" ")[0].rstrip(","), of) for name, title, _, A, of, _ in rows]
        lines = table(("name", "title", "A", "A depends\non"), [("", short)])
    typer.echo("\n".join([*lines, "Next: dsf show NAME, dsf check NAME"]))


@app.command()
def show(
    arch: Annotated[str, typer.Argument(metavar=ARCH, help="An architecture (dsf list), or one in a file of yours.")],
    latex: Annotated[bool, typer.Option("--latex", help="Print LaTeX.")] = False,
    as_json: Json = False,
) -> None:
    """Show an architecture: its equations at any n, its signals with their domains, its matrices at n = 2."""
    from dsf.matrix_form import matrices
    from dsf.printing import architecture_latex, equations, system_latex
    from dsf.system import System

    a = from_file(arch) if names_a_file(arch) else _architecture(arch)
    if isinstance(a, System):
        if a.architecture is None:
            return print_json({"system": repr(a)}) if as_json else typer.echo(latex and system_latex(a) or repr(a))
        a = a.architecture
    found = matrices(a)
    if as_json:
        bounds = a.bounds()
        return print_json(
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
    typer.echo(f"Next: dsf check {arch}")


@app.command()
def check(
    what: Annotated[list[str] | None, typer.Argument(metavar=f"{ARCH}|MODEL...|VERDICT.json", help=WHAT)] = None,
    every: Annotated[bool, typer.Option("--all", help="The matrix of all: 12 languages, or yours.")] = False,
    domains: Sets = None,
    language: Annotated[list[str] | None, typer.Option("--language", metavar="L", help=LANGUAGE)] = None,
    depth: Annotated[int | None, typer.Option(min=1, help="At most so many layers; default: any number.")] = None,
    precision: Annotated[str, typer.Option(help="margin, finite, machine or log (docs/theorems.md).")] = "margin",
    save: Annotated[Path | None, typer.Option("--save", metavar="FILE.json", help="Write the verdict.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="DIR", help="Draw the eigenvalues there.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the matrix to a file.")] = None,
    text: Text = None,
    length: Annotated[int | None, typer.Option(min=1, help="Tokens of the text that a model runs on: 512.")] = None,
    dtype: Dtype = "auto",
    layers: Layers = None,
    as_json: Json = False,
) -> None:
    """Check what an architecture (or each layer of a model) can do: eigenvalues, parity and other languages."""
    import dsf

    from .cli_check import asked_of, check_all, check_saved

    asked = asked_of(language or (), depth, precision)
    one = what[0] if what else ""
    if every or csv:
        if what or domains or save or plot or not every:
            fail("--all takes --language, --depth, --precision, --csv and --json, and --csv is for --all")
        held = check_all(asked, csv, as_json)
    elif not what:
        fail("name an architecture, a model's folder or a saved verdict: dsf check deltanet; or dsf check --all")
    elif len(what) == 1 and one.endswith(".json"):
        held = check_saved(Path(one), as_json)
    elif len(what) == 1 and names_a_file(one):
        held = _check(from_file(one), one, domains, asked, save, plot, as_json)
    elif len(what) == 1 and (not one or one in dsf.architectures() or not _is_path(one)):
        held = _check(_architecture(one, "There is no such folder either. "), None, domains, asked, save, plot, as_json)
    elif domains or save:
        fail("--set and --save are for one architecture; a model's domains are those of its architectures")
    else:
        from .cli_check_models import check_models

        held = check_models(what, text, length, dtype, layers, asked, plot, as_json)
    raise typer.Exit(int(not held))


def _check(
    a: Any, file: str | None, domains: list[str] | None, asked: Any, save: Path | None, plot: Path | None, as_json: bool
) -> bool:
    """The architecture on other domains, or the system of a file, is checked."""
    from dsf.system import System

    from .cli_check import check_architecture

    bare = isinstance(a, System)
    if bare and domains:
        fail("--set changes a domain of an architecture, and this is a system of numbers")
    for assignment in domains or ():
        a = _with_domain(a, assignment)
    changed = {name: repr(a.signals[name]) for name in (d.partition("=")[0] for d in domains or ())}
    title = "a system" if bare else a.title + "".join(f", {name}: {domain}" for name, domain in changed.items())
    subject = {"system": repr(a)} if bare else {"architecture": a.name, "domains": changed}
    about = ({"file": file} if file else {}) | subject
    return check_architecture(a, f"{file}: {title}" if file else title, about, asked, save, plot, as_json)


@app.command()
def theorems(as_json: Json = False) -> None:
    """Print the rules by which `dsf check` decides, in their order, and the theorems that they name."""
    from .cli_check import print_theorems

    print_theorems(as_json)


@app.command()
def language(
    accepted: Annotated[str, typer.Argument(metavar="LANGUAGE", help=ACCEPTED)],
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw it: .svg, .png or .pdf.")] = None,
    as_json: Json = False,
) -> None:
    """Say what a regular language takes: its minimal automaton, syntactic monoid, circuit class and cascade."""
    from .cli_language import print_language

    print_language(accepted, plot, as_json)


@app.command()
def convert(
    models: Annotated[list[str] | None, typer.Argument(metavar="MODEL...", help=MODEL)] = None,
    text: Text = None,
    length: Annotated[int | None, typer.Option(min=1, help="Tokens of the text to run on: 2048.")] = None,
    layers: Layers = None,
    dtype: Dtype = "auto",
    save: Annotated[Path | None, typer.Option("--save", metavar="DIR", help="Write the conversion there.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the table to a file.")] = None,
    supported: Annotated[bool, typer.Option("--supported", help="List what can be converted, and stop.")] = False,
    as_json: Json = False,
) -> None:
    """Convert trained models into A, B, C, D, prove that their layers are reproduced, and say what they are."""
    if supported:
        from .cli_supported import print_supported

        return print_supported(as_json)
    if not models:
        fail("name one or more models: dsf convert MODEL [MODEL ...]; dsf convert --supported lists what is known")
    from .cli_models import convert_models

    convert_models(models, text, length, dtype, layers, save, csv, as_json)


@app.command()
def run(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL)],
    file: Annotated[Path, typer.Option("--input", metavar="FILE", help="The text.")],
    chunk: Annotated[int, typer.Option(min=1, help="Tokens at a time; the state is carried on.")] = 512,
    length: Annotated[int | None, typer.Option(min=2, help="Tokens of the text; default: all of it.")] = None,
    edit: Edits = None,
    compare: Annotated[bool, typer.Option("--compare", help="Run the original model too.")] = False,
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """Run a long text through a model whose mixers dsf runs, and say its loss; with edits, what they change."""
    from .cli_run import run_model

    run_model(model, file, chunk, length, edit or (), compare, dtype, as_json)


@app.command()
def bench(
    device: Annotated[
        str | None, typer.Option("--device", help="cpu or cuda; default: cuda where there is one.")
    ] = None,
    against: Annotated[str | None, typer.Option(metavar="NAME,...", help="Peers: torch, transformers, fla.")] = None,
    cases: Annotated[str | None, typer.Option(metavar="NAME,...", help="Only these, as in gla,kda.")] = None,
    length: Annotated[int | None, typer.Option(min=1, help="Tokens, instead of each case's own number.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 (default on a CPU), bfloat16 (on CUDA), ...")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads on a CPU.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds: to have a look.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a table in Markdown.")] = False,
    as_json: Json = False,
) -> None:
    """Measure how fast architectures run here, beside other implementations and the speed of this device."""
    from .cli_bench import run_bench

    agrees = run_bench(device, against, cases, length, dtype, threads, quick, as_json, as_markdown)
    raise typer.Exit(int(not agrees))


@app.command()
def tune(
    cases: Annotated[str | None, typer.Option(metavar="NAME,...", help="Only these, as in gla,kda.")] = None,
    device: Annotated[str, typer.Option("--device", help="A CUDA device.")] = "cuda",
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
    length: Annotated[int | None, typer.Option(min=1, help="Tokens, instead of each case's own number.")] = None,
    as_json: Json = False,
) -> None:
    """Measure which sizes of Triton programs are fastest on this GPU, and keep them for it."""
    from .cli_bench import names
    from .cli_tune import run_tune

    run_tune(device, names(cases), dtype, length, as_json)


# ------------------------------------------------------------------------------------------------------------- parts


def _architecture(name: str, besides: str = "") -> Any:
    import dsf

    if not name:
        fail("the name is empty; `dsf list` shows all architectures")
    try:
        return dsf.architecture_named(name)
    except KeyError as error:
        fail(f"{error.args[0].partition(' dsf.')[0]} {besides}`dsf list` shows all of them")


def _with_domain(a: Any, assignment: str) -> Any:
    """`beta=0,2` as a domain of the same kind on [0, 2]."""
    name, _, ends = assignment.partition("=")
    if name not in a.signals:
        fail(f"{a.name} has the signals {', '.join(a.signals)}, not {name!r}")
    domain = a.signals[name]
    if domain.kind not in ("scalar", "vector") or domain.unit or domain.ball or domain.value:
        fail(f"--set changes scalars and vectors; {name} of {a.name} is: {domain}")
    try:
        lo, hi = map(float, ends.replace("oo", "inf").split(","))
        return a.with_domain(**{name: domain(lo, hi)})
    except ValueError:
        fail(f"--set takes two ends, lo <= hi, as in {name}=0,2 or {name}=-oo,0; got {assignment!r}")


def _is_path(what: str) -> bool:
    return Path(what).exists() or "/" in what or "\\" in what


def main() -> None:
    """The entry point of the command."""
    app(prog_name="dsf")
