"""The rows of a report for the reader: cells of a table, lines of a card, a row of a CSV file, and what they mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .report import LayerReport

MATTERS = 100  # a control whose error is that many times larger has failed, as it should
ROUNDING = 1e-7  # of float32: errors below count as this
ZERO = 1e-6  # 1 - |k|^2 of a unit vector, in float32


def header() -> tuple[str, ...]:
    """The header of `cells`, each in two lines."""
    sets, size = ("eigenvalues:\nall inputs", "\nthis text"), "heads\nx n x p"
    errors = "error", "error if\nzeroed"
    return "layer", "architecture", "A_t", size, *sets, "time const.:\nslow, median", "parity", *errors


def cells(row: LayerReport) -> tuple[str, ...]:
    """One row of a table."""
    what = row.structure.split(" ")[0].rstrip(",")
    sets = over_all_inputs(row).removeprefix("a "), on_this_text(row)
    return (
        *(row.path, row.title, what, size(row), *sets, times(row)),
        *(row.parity.word, f"{row.error:.1e}", "-" if row.control is None else f"{row.control:.1e}"),
    )


def lines(row: LayerReport) -> list[str]:
    """The same as a card, for a narrow terminal."""
    heads, n = f"{row.heads} head{'s' * (row.heads != 1)}", "oo" if row.infinite else row.state_size
    keys = f" (keys of {row.state_size})" * row.infinite
    control = "" if row.control is None else f"; {row.control:.1e} with the state zeroed every {row.reset_every} tokens"
    return [
        row.path,
        f"  {row.title}",
        f"  A_t          {row.structure}{', reads y_{t-1}' * row.feedback}; {heads}, n = {n}{keys}, p = {row.channels}",
        f"  eigenvalues  all inputs: {over_all_inputs(row)}; this text: {on_this_text(row)}",
        f"  time const.  {_in_words(row)}",
        f"  parity       {row.parity.word}, as a family",
        f"  error        {row.error:.1e}{control}",
    ]


def csv_row(row: LayerReport) -> dict[str, Any]:
    """One row of a CSV file, numbers in full."""
    m = row.measured
    real = m.real or (None, None)
    return {
        **{"model": row.model, "layer": row.path, "architecture": row.title, "structure": row.structure},
        **{"heads": row.heads, "n": "inf" if row.infinite else row.state_size, "p": row.channels, "tokens": row.length},
        **{"all_inputs": over_all_inputs(row), "eigenvalues_of": row.matrix, "steps": m.steps},
        **{"real_min": real[0], "real_max": real[1], "modulus_min": m.moduli[0], "modulus_max": m.moduli[1]},
        **{"time_constant_slowest": m.slowest, "time_constant_median": m.median, "register": row.register},
        **{"parity": row.parity.word, "error": row.error, "control": row.control, "reset_every": row.reset_every},
    }


def size(row: LayerReport) -> str:
    """Heads x n x p."""
    return f"{row.heads} x {'oo' if row.infinite else row.state_size} x {row.channels}"


def over_all_inputs(row: LayerReport) -> str:
    """Where the eigenvalues lie over all inputs."""
    return row.because if row.all_inputs is None else " u ".join(row.all_inputs)


def on_this_text(row: LayerReport) -> str:
    """The real range where all are real, else the moduli."""
    both = f"[{', '.join(map(rounded, row.measured.real or row.measured.moduli))}]"
    return both if row.measured.real else f"|z| {both}"


def rounded(x: float) -> str:
    """Three digits; as many more as tell a number below 1 from 1."""
    if abs(x) < ZERO:
        return "0"
    texts = [f"{x:.{digits}g}" for digits in range(3, 8)]
    return next((text for text in texts if abs(float(text)) != 1), texts[0])


def times(row: LayerReport) -> str:
    """Time constants in tokens, or how many tokens a register holds before it forgets them at once."""
    if row.register:
        return f"holds {row.register:,}"
    if row.measured.slowest == row.measured.median == math.inf:
        return "no decay"
    return ", ".join(map(_tokens, (row.measured.slowest, row.measured.median)))


def _in_words(row: LayerReport) -> str:
    if row.register:
        return f"a register, which {times(row)} tokens and then forgets them"
    return times(row) + (" tokens (slowest head, median)" if math.isfinite(row.measured.median) else "")


def _tokens(t: float) -> str:
    return "oo" if not math.isfinite(t) else f"{t:,.0f}" if t >= 100 else f"{t:.3g}"


def closing_words(rows: Sequence[LayerReport]) -> str:
    """What the rows mean, in a few sentences: of what was measured, and of nothing else."""
    of = f"of {len({row.model for row in rows})} models" if len({row.model for row in rows}) > 1 else "of this model"
    feedback, plain = [row for row in rows if row.feedback], [row for row in rows if not row.feedback]
    jacobian = "the Jacobian of (x, y)"
    matrix = f"A_t (of {jacobian} where A_t reads y_{{t-1}})" if plain else jacobian
    matrix = matrix if feedback else "A_t"
    most = max(row.measured.steps for row in rows)
    words = [
        f"dsf runs {len(rows)} layer{'s' * (len(rows) > 1)} {of} as x_t = A_t x_{{t-1}} + B_t u_t "
        f"and reproduces the module's own numbers to {max(row.error for row in rows):.0e}.",
        _memory(rows),
        f"Eigenvalues on this text are those of {matrix} at {most} steps.",
    ]
    negative = [row for row in rows if row.measured.real and row.measured.real[0] < -ZERO]
    if negative:
        least = min(negative, key=lambda row: row.measured.real or (0.0, 0.0))
        words.append(f"{_counted(negative, rows)} negative ones, down to {_named(least, rows)}.")
    if any(row.measured.moduli[1] >= 1 for row in feedback):
        words.append("A modulus of 1 or more at a step is no instability over many.")
    if any(row.infinite for row in rows):
        words.append(
            "On the infinitely many features of softmax attention nothing is forgotten but by a window or a decay."
        )
    words.append("Parity is a statement on the architecture with some weights, not with these.")
    return " ".join(words)


def _counted(some: Sequence[LayerReport], rows: Sequence[LayerReport]) -> str:
    return f"{len(some)} of {len(rows)} layers have" if len(rows) > 1 else "It has"


def _named(row: LayerReport, rows: Sequence[LayerReport]) -> str:
    of = f" of {row.model}" if len({r.model for r in rows}) > 1 else ""
    assert row.measured.real is not None
    return f"{row.measured.real[0]:.3g} in {row.path}{of}"


def _memory(rows: Sequence[LayerReport]) -> str:
    known = [row for row in rows if row.control is not None]
    if not known:
        return "The text is too short for the control, which zeroes the state now and then."
    controls = [row.control or 0.0 for row in known]
    least, most = f"{min(controls):.2g}", f"{max(controls):.2g}"
    between = f"error is {least}" if least == most else f"errors are {least} to {most}"
    said = f"With the state zeroed every {known[0].reset_every} tokens the {between} (of the largest output)"
    kept = [row for row in known if (row.control or 0.0) < MATTERS * max(row.error, ROUNDING)]
    if kept:
        names = ", ".join(row.path for row in kept[:3]) + (f" and {len(kept) - 3} more" if len(kept) > 3 else "")
        verbs = "hardly changes, and carries" if len(kept) == 1 else "hardly change, and carry"
        return f"{said}: {names} {verbs} next to nothing."
    return f"{said}: what the state carries is needed."
