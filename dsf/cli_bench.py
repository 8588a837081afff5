"""`dsf bench`: this library's kernels beside other implementations and beside what the device can do at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import typer

from .cli_output import fail, fits, print_json, working


def run_bench(
    device: str | None,
    against: str | None,
    cases: str | None,
    length: int | None,
    dtype: str | None,
    threads: int | None,
    quick: bool,
    as_json: bool,
    as_markdown: bool,
) -> bool:
    """Measures, and prints a table; does everything that computes the same agree?"""
    from dsf_kernels.benchmarks import bench
    from dsf_kernels.benchmarks.peers import PACKAGES
    from dsf_kernels.benchmarks.report import DTYPES
    from dsf_kernels.benchmarks.table import text

    if as_json and as_markdown:
        fail("--json and --markdown are two forms of one result: choose one")
    if dtype is not None and dtype not in DTYPES:
        fail(f"--dtype is one of {', '.join(DTYPES)}, got {dtype!r}")
    if cases is not None and not names(cases):
        fail("--cases names no case; without the option all are run")
    report = bench(
        names(cases),
        device,
        PACKAGES if against is None else names(against),
        length,
        None if dtype is None else DTYPES[dtype],
        threads,
        quick,
        _told,
    )
    if as_json:
        print_json(report.to_dict())
    elif as_markdown:
        typer.echo(report.markdown())
    else:
        lines = text(report)
        typer.echo(lines if fits(lines.splitlines()) else text(report, narrow=True))
    return report.agrees


def names(given: str | None) -> list[str]:
    """`gla, kda` as a list; none of an empty text."""
    return [name.strip() for name in (given or "").split(",") if name.strip()]


def _told(plan: Sequence[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    """Each case, told on stderr while it runs."""
    for number, (case, shape) in enumerate(plan, 1):
        with working(f"{number} of {len(plan)}: {case.name} ({shape})"):
            yield case, shape
