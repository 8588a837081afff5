"""The rows of `dsf check MODEL` for the reader: the verdict of the family, and that of the actual weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .findings import Finding
from .on_text import OnText
from .report_text import rounded

Named = Callable[[int], str]  # the text of a token, by its place


@dataclass(frozen=True)
class LayerCheck:
    """One layer: its eigenvalues, its weights on this text, and the verdicts of its family, parity first."""

    model: str
    path: str
    title: str
    spectrum: Finding
    weights: OnText
    verdicts: tuple[Finding, ...]
    named: Named

    @property
    def held(self) -> bool:
        """Did every check pass?"""
        return all(finding.held is not False for finding in (self.spectrum, *self.verdicts))

    @property
    def family(self) -> str:
        """What is printed once for all layers of which it is true."""
        data = self.spectrum.data
        sets = " u ".join(data["all_inputs"] or ()) or f"none: A_t is {data['because']}"
        lemmas = (f"\n  lemma       {lemma}" for lemma in data["lemmas"])
        return "\n".join([f"eigenvalues over all inputs: {sets}{''.join(lemmas)}", *map(str, self.verdicts)])

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        parity, *others = self.verdicts
        weights = self.weights.to_dict()
        for row in weights["nearest"].values():
            if row and row["token"] is not None:
                row["text"] = self.named(row["token"])
        verdicts = {"parity": parity.to_dict(), "languages": {f.name: f.to_dict() for f in others}}
        return {"architecture": self.title, "spectrum": self.spectrum.to_dict(), **verdicts, "weights": weights}


def header(names: Sequence[str]) -> tuple[str, ...]:
    """The header of `cells`; names: of the languages, parity first."""
    ends = "distance to -1,\nat the token", "distance to 1,\nat the token"
    sets = "eigenvalues:\nall inputs", "\nthis text"
    return "layer", "architecture", *sets, *ends, *names, "these weights:\nparity is lost", "run again:\nerror"


def cells(row: LayerCheck) -> tuple[str, ...]:
    """One row of a table."""
    words = [f.word for f in row.verdicts]
    return row.path, row.title, all_inputs(row), this_text(row), *ends(row), *words, lost(row.weights), error(row)


def lines(row: LayerCheck) -> list[str]:
    """The same as a card, for a narrow terminal."""
    low, high = ends(row)
    words = "; ".join(f"{f.name} {f.word}" for f in row.verdicts)
    return [
        row.path,
        f"  {row.title}",
        f"  eigenvalues  all inputs: {all_inputs(row)}; this text: {this_text(row)}",
        f"  distance     to -1: {low}; to 1: {high}",
        f"  family       {words}",
        f"  weights      parity is lost: {lost(row.weights)}",
        f"  error        {error(row)}",
    ]


def all_inputs(row: LayerCheck) -> str:
    """The sets of the family, or why there are none."""
    return " u ".join(row.spectrum.data["all_inputs"] or ()) or row.spectrum.data["because"]


def this_text(row: LayerCheck) -> str:
    """From the smallest to the largest, where both are real; else the moduli that were met."""
    low, high = row.weights.low, row.weights.high
    if low and high and high.what.endswith("real"):
        return f"[{rounded(low.value.real)}, {rounded(high.value.real)}]"
    if row.spectrum.data["real"]:
        return f"[{', '.join(map(rounded, row.spectrum.data['real']))}]"
    return f"|z| [{', '.join(map(rounded, row.spectrum.data['moduli']))}]"


def ends(row: LayerCheck) -> tuple[str, str]:
    """How far the eigenvalues stay from -1 and from 1, and at which token of the text they are nearest."""
    found = []
    for extreme, far in zip((row.weights.low, row.weights.high), row.weights.distances, strict=True):
        if extreme is None or far is None:
            found.append("none is real")
            continue
        token = "any" if row.weights.every else row.named(row.weights.place(extreme))
        found.append(f"{_apart(far)}, {token}")
    return found[0], found[1]


def lost(weights: OnText) -> str:
    """When a bit in the sign of a state is lost, by the head that keeps it longest; or why that is no question here."""
    if weights.horizon is None:
        return f"- ({weights.because})"
    best = weights.horizon.best
    if best.flip_gap is None:
        return "at once (no token flips)"
    return "never, if they repeat" if best.mixed == math.inf else f"after {_count(best.mixed)} tokens"


def error(row: LayerCheck) -> str:
    return f"{row.spectrum.data['error']:.1e}" + " FAILED" * (row.spectrum.held is False)


def closing_words(rows: Sequence[LayerCheck]) -> str:
    """What the columns mean, of these rows."""
    words = [
        "Verdicts are on the family: whether its layers, with some weights, recognise the language at every length.",
        "With these weights a token multiplies the state by its eigenvalues: one near -1 flips a bit that stands in a "
        "sign, one near 1 holds it.",
    ]
    kept = [row for row in rows if row.weights.horizon and row.weights.horizon.best.flip_gap is not None]
    if kept:
        dtypes = ", ".join(dict.fromkeys(row.weights.horizon.dtype for row in kept if row.weights.horizon))
        words.append(
            f"It shrinks at each token, and is lost when the rounding of {dtypes} hides it: by the head that keeps it "
            "longest, if the tokens of this text nearest to -1 and to 1 came again and again."
        )
    if any(row.weights.horizon and row.weights.horizon.best.flip_gap is None for row in rows):
        words.append("Where no token of this text has a negative eigenvalue, no bit is flipped at all.")
    if any(row.weights.horizon is None for row in rows):
        words.append("Where A_t is a function of the past, or the state is the past itself, there is no such horizon.")
    if any(row.spectrum.data["eigenvalues_of"] != "A_t" for row in rows):
        words.append("The eigenvalues of a layer whose A_t reads its state are those of its Jacobian along this text.")
    return " ".join(words)


def _apart(x: float) -> str:
    return "0" if abs(x) < 1e-15 else f"{x:.2g}" if x > 0 else f"{-x:.2g} beyond"


def _count(x: float) -> str:
    return f"{x:,.0f}" if x < 1e6 else f"{x:.2g}"
