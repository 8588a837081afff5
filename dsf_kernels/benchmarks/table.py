"""A report as lines for a terminal, and as Markdown for docs/performance.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .rates import PASSES
from .results import Found, Row, Timing

if TYPE_CHECKING:
    from .report import Report

HEADER = (
    *("", "forward\nms", "of the\nfloor", "time /\ndsf's", "GB/s", "GFLOP/s", "MB"),
    *("with\nbackward\nms", "of the\nfloor", "time /\ndsf's", "MB", "error", "error of\ngradients"),
)
NARROW = (0, 1, 2, 3, 7, 8, 9, 11)  # columns for a small terminal


def heading(report: Report) -> list[str]:
    """Device, versions, date, rates and protocol."""
    m, p, rates = report.machine, report.protocol, report.rates
    threads = f", {m['threads']} threads of {m['cores']} cores" if m["device"] == "cpu" else ""
    quick = " QUICK: to have a look, not to be quoted." if report.quick else ""
    return [
        f"{m['name']} ({m['device']}{threads}), {report.dtype}, {m['date']}",
        ", ".join(f"{name} {version}" for name, version in m["versions"].items()),
        f"Copy {rates.copy / 1e9:.4g} GB/s, matrix products {rates.product / 1e9:.4g} GFLOP/s, both measured in this "
        "run: the floor rests on them.",
        f"All sides in one process, in turn; median of {p.repeats} after {p.warmups} warm-ups, fewer where that would "
        f"take over {p.budget:g} s.{quick}",
    ]


def title(one: Found) -> str:
    return f"{one.case}: {one.shape}, {one.dtype}; kernel {one.kernel} ({' -> '.join(one.route)})"


def notes(one: Found) -> list[str]:
    """What the numbers do not say: who each side is, what its time includes, what was not run and why."""
    found = [one.about]
    for row in one.rows:
        who = f"{row.name}{'' if row.same else ' *'}: {row.what}" if row.name != "dsf" else "dsf"
        repeats = sorted({t.repeats for t in row.timings.values() if t.milliseconds is not None})
        parts = [
            f"T {row.length}" if row.length not in (0, one.shape.length) else "",
            f"median of {' and '.join(map(str, repeats))}" if repeats else "",
            f"not run: {row.because}" if row.because else "",
            *(f"{way} not run: {t.because}" for way, t in row.timings.items() if t.because),
            "DIFFERS beyond the tolerance" if row.agrees is False else "",
        ]
        found.append(", ".join(filter(None, (who, *parts))))
    return found


def cells(row: Row) -> tuple[str, ...]:
    """A line of the table. error: the larger of that against the reference and that against dsf."""
    forward, backward = (row.timings[direction] for direction in PASSES)
    error = max((x for x in (row.error, row.apart) if x is not None), default=None)
    return (
        row.name + ("" if row.same else " *"),
        *(*_times(forward), _number(forward.gb_per_s), _number(forward.gflop_per_s), _memory(forward)),
        *(*_times(backward), _memory(backward), _error(error), _error(row.gradient_error)),
    )


def text(report: Report, narrow: bool = False) -> str:
    """Lines with every column, or with those that a small terminal holds."""
    from dsf.cli_output import fill, table

    columns = NARROW if narrow else range(len(HEADER))
    sections = [(title(one), [[line[i] for i in columns] for line in _lines(one)]) for one in report.found]
    lines = [*heading(report), "", *table([HEADER[i] for i in columns], sections), ""]
    return "\n".join([*lines, *(fill(f"{one.case}: {'; '.join(notes(one))}", "  ", 120) for one in report.found)])


def markdown(report: Report) -> str:
    """One table of all cases, then a line about each."""
    head = ("case", *(" ".join(name.split("\n")) or "side" for name in HEADER))
    lines = [*(f"{line}  " for line in heading(report)), "", _cells(head), _cells(["---"] * len(head))]
    for one in report.found:
        names = [f"{one.case}, {one.shape}", *[""] * len(one.rows)]
        lines += [_cells((name, *row)) for name, row in zip(names, _lines(one), strict=False)]
    return "\n".join([*lines, "", *(f"- {title(one)}. {'; '.join(notes(one))}." for one in report.found)])


def _lines(one: Found) -> list[tuple[str, ...]]:
    return [cells(row) for row in one.rows if row.because is None]


def _cells(row: object) -> str:
    return f"| {' | '.join(row)} |"  # type: ignore[arg-type]


def _times(timing: Timing) -> tuple[str, str, str]:
    if timing.milliseconds is None:
        return "-", "", ""
    share = "" if timing.share_of_floor is None else f"{100 * timing.share_of_floor:.2g}%"
    return _number(timing.milliseconds), share, "" if timing.ratio is None else f"{timing.ratio:.2f}"


def _number(x: float | None) -> str:
    return "" if x is None else f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def _memory(timing: Timing) -> str:
    return "" if timing.memory_bytes is None else f"{timing.memory_bytes / 2**20:,.0f}"


def _error(x: float | None) -> str:
    return "" if x is None else f"{x:.0e}"
