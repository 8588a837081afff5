"""`dsf tune`: the sizes of Triton programs, measured on this device once, and used from then on."""

from __future__ import annotations

from dataclasses import asdict

import torch
import typer

from .cli_output import fail, print_json

KINDS = "bfloat16", "float16", "float32"


def run_tune(device: str, cases: list[str], dtype: str, length: int | None, as_json: bool) -> None:
    """Measures, tells what each program ended with, and keeps it."""
    from dsf_kernels.benchmarks.report import DTYPES
    from dsf_kernels.benchmarks.tuning import tune
    from dsf_kernels.gpu.configurations import file_of, name_of

    if dtype not in KINDS:
        fail(f"--dtype is one of {', '.join(KINDS)}, got {dtype!r}")
    found = []
    for one in tune(cases, device, DTYPES[dtype], length):
        found.append(one)
        if not as_json:
            change = "as it was" if one.now == one.before else f"{one.before} -> {one.now}"
            typer.echo(f"{one.key}: {change}; {one.milliseconds_before:.3g} ms -> {one.milliseconds:.3g} ms")
            for note in one.left_out:
                typer.echo(f"    left out: {note}")
    if not found:
        fail("none of these cases takes a Triton program at this length and dtype: there is nothing to tune")
    path = file_of(name_of(torch.device(device)))
    if as_json:
        print_json({"file": str(path), "programs": [asdict(one) for one in found]})
    else:
        typer.echo(f"kept in {path}" if path.exists() else "nothing was faster than the rule: no file was written")
