"""`dsf run`: a long text through a model whose mixers dsf runs, in chunks, and what edits of a layer do to its loss."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from .cli_opened import encoded, opened_model
from .cli_output import fail, fill, print_json, table, tracked, working

EXAMPLE = 256  # tokens of the text on which the model is converted


def run_model(
    source: str,
    file: Path,
    chunk: int,
    length: int | None,
    edits: Sequence[str],
    compare: bool,
    dtype: str,
    as_json: bool,
) -> None:
    """Streams the text, and prints loss, speed and memory."""
    import dsf
    from dsf.example_inputs import check_tokens
    from dsf.streaming import check_positions

    opened = opened_model(source, dtype)
    tokens, words = encoded(opened, file, length)
    if tokens.shape[1] < 2:
        fail(f"{file} has one token, and a loss needs two")
    check_tokens(opened.module, tokens)
    check_positions(opened.module, tokens[:, :-1])
    with working(f"converting {type(opened.module).__name__} on {min(EXAMPLE, tokens.shape[1])} {opened.unit}"):
        conversion = dsf.convert(opened.module, opened.inputs(tokens[:, :EXAMPLE]))
    changed, verdicts = _edited(conversion, edits)
    models = {"edited": changed.module()} if edits else {}
    models["dsf"] = conversion.module()
    if compare:
        models["original"] = opened.module
    results = {name: _streamed(module, tokens, chunk, f"{NAMES[name]}, {words}") for name, module in models.items()}
    document = {
        **{"model": source, "class": type(opened.module).__name__, "text": words, "unit": opened.unit.rstrip("s")},
        **{"tokens": tokens.shape[1], "chunk": chunk, "layers": len(conversion.layers)},
        **{"unconverted": dict(conversion.unconverted), "runs": results, "edits": verdicts},
        "peak_memory_bytes": peak_memory(),
    }
    if as_json:
        print_json(document)
    else:
        _print(document)
    if results.get("edited", {}).get("because"):
        raise typer.Exit(1)


def _edited(conversion: Any, edits: Sequence[str]) -> tuple[Any, list[dict[str, Any]]]:
    """The conversion with all edits, and for each edited layer its parity before and after."""
    import dsf
    from dsf.edits import parse_edit

    changed, paths = conversion, []
    for text in edits:
        path, edit = parse_edit(text)
        if path not in conversion.layers:
            fail(f"--edit: no layer is called {path!r}; the layers are {', '.join(conversion.layers)}")
        changed = changed.edit(path, **{edit.signal: edit.change})
        paths += [path] * (path not in paths)
    found = []
    for path in paths:
        before, after = conversion.layers[path], changed.layers[path]
        parts = [" u ".join(map(repr, _spectrum(x))) or "a function of the past" for x in (before, after)]
        found.append(
            {
                **{"layer": path, "architecture": before.architecture.title, "edits": list(map(str, after.edits))},
                **{"all_inputs": parts, "parity": [dsf.parity(x).word for x in (before, after)]},
            }
        )
    return changed, found


def _spectrum(layer: Any) -> tuple:
    from dsf_analysis.spectra import NotInvariant, spectrum

    try:
        return spectrum(layer.architecture).parts
    except NotInvariant:
        return ()


def _streamed(module: Any, tokens: Any, chunk: int, what: str) -> dict[str, Any]:
    """Loss per token in nats and bits, and tokens per second; where the model cannot stream, or diverges, why."""
    from dsf.streaming import CannotStream, Diverged, check_streaming, stream

    predicted, total, start = tokens.shape[1] - 1, 0.0, 0.0
    try:
        with working(f"{what}: do chunks give what one run gives?", line=False):
            check_streaming(module, tokens, chunk)
        start = time.perf_counter()
        parts = stream(module, tokens, chunk, check=False)
        for logits, targets in tracked(parts, what, predicted, lambda part: part[1].shape[1]):
            total += _loss(logits, targets)
    except CannotStream as why:
        diverged = isinstance(why, Diverged) and what.startswith(NAMES["edited"])
        if diverged or what.startswith(NAMES["original"]):
            return {"nats": None, "bits": None, "tokens_per_second": None, "because": str(why)}
        raise
    seconds = time.perf_counter() - start
    nats = total / predicted
    return {"nats": nats, "bits": nats / math.log(2), "tokens_per_second": predicted / seconds, "because": None}


def _loss(logits: Any, targets: Any) -> float:
    """The sum over the tokens, in nats."""
    import torch

    wide = logits.flatten(0, 1).to(torch.promote_types(logits.dtype, torch.float32))
    return torch.nn.functional.cross_entropy(wide, targets.flatten(), reduction="sum").item()


def peak_memory() -> int | None:
    """The largest resident memory of this process so far, in bytes; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else found * 1024


NAMES = {
    "dsf": "run by dsf",
    "edited": "run by dsf, edited",
    "original": "the original",
}


def _effect(edited: dict[str, Any], before: dict[str, Any], unit: str) -> str:
    if edited["because"]:
        return f"The edited model has no loss: {edited['because']}"
    change = edited["nats"] - before["nats"]
    return f"The edit changes the loss by {change:+.4f} nats ({change / math.log(2):+.4f} bits) per {unit}."


def _print(document: dict[str, Any]) -> None:
    unit, runs = document["unit"], document["runs"]
    chunks = f"in chunks of {document['chunk']:,}"
    typer.echo(fill(f"{document['model']} ({document['class']}) on {document['text']}, {chunks}"))
    for edit in document["edits"]:
        typer.echo(fill(f"edited: {edit['layer']} ({edit['architecture']}): {', '.join(edit['edits'])}", "  "))
        typer.echo(f"  eigenvalues over all inputs  {edit['all_inputs'][0]} -> {edit['all_inputs'][1]}")
        typer.echo(f"  parity, as a family          {edit['parity'][0]} -> {edit['parity'][1]}")
    order = [name for name in ("original", "dsf", "edited") if name in runs]
    rows = []
    for name in order:
        run = runs[name]
        if run["because"]:
            continue
        rows.append((NAMES[name], f"{run['nats']:.4f}", f"{run['bits']:.4f}", f"{run['tokens_per_second']:,.0f}"))
    typer.echo("")
    head = "", f"nats\nper {unit}", f"bits\nper {unit}", f"{unit}s\nper second"
    typer.echo("\n".join(table(head, [("", rows)])))
    typer.echo("")
    if runs.get("original", {}).get("because"):
        typer.echo(fill(f"The original was not run: {runs['original']['because']}", "  "))
    elif "original" in runs:
        apart = runs["dsf"]["nats"] - runs["original"]["nats"]
        typer.echo(f"dsf differs from the original by {apart:+.1e} nats per {unit}.")
    if "edited" in runs:
        typer.echo(fill(_effect(runs["edited"], runs["dsf"], unit), "  "))
    for path, why in document["unconverted"].items():
        typer.echo(fill(f"not converted, and run by the model itself: {path}: {why}", "  "))
    peak = document["peak_memory_bytes"]
    if peak is not None:
        typer.echo(f"The process's peak memory was {peak / 2**20:,.0f} MiB, all runs and loading included.")
