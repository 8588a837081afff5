"""For how many tokens a trained layer can keep a bit in the sign of its state, by its eigenvalues on one text.

A token that flips the bit has a negative eigenvalue, one that holds it a positive one. Where they are not -1 and 1 the
bit shrinks by |lambda| at each token, and after ln(resolution) / ln |lambda| of them it is below the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from dsf.converted_layer import ConvertedLayer
from dsf.exact_eigenvalues import eigenvalues
from dsf.features import Features
from dsf.system import System

from .extreme_tokens import is_real
from .spectra import NotInvariant, refuse

CHUNK = 128  # steps whose eigenvalues are in memory at once


@dataclass(frozen=True)
class HeadHorizon:
    """One head. Steps are counted in the order in which the layer runs; None where it has no real eigenvalue.

    flip_gap: 1 - |smallest|, None where no token flips the sign. hold_gap: 1 - largest, 1 where none is positive. A gap
    < 0 is an eigenvalue beyond the end point, where the bit grows. flips, holds: tokens until the bit is lost if all
    flip it, or all hold it. mixed: until it is lost in a word of both, by the worse of the two; 0 where no token flips.
    """

    head: int
    smallest: float | None
    smallest_step: int | None
    largest: float | None
    largest_step: int | None
    flip_gap: float | None
    hold_gap: float
    flips: float
    holds: float
    mixed: float


@dataclass(frozen=True, repr=False)
class Horizon:
    """All heads of a layer, on the tokens of one text: it says nothing of others. resolution: of `dtype`, relative."""

    layer: str
    dtype: str
    resolution: float
    steps: int
    length: int
    how: str
    heads: tuple[HeadHorizon, ...]

    @property
    def best(self) -> HeadHorizon:
        """The head that keeps a bit longest: under flips and holds, then under flips alone."""
        return max(self.heads, key=lambda head: (head.mixed, head.flips))

    def __repr__(self) -> str:
        of = f"{self.layer}, {self.dtype}, on {self.steps} of {self.length} tokens of this text and of no other:"
        head = self.best
        if head.flip_gap is None:
            least = min((h.smallest for h in self.heads if h.smallest is not None), default=None)
            least = "" if least is None else f" (smallest real eigenvalue {least:.4g})"
            return f"{of} no token flips a sign{least}, so the horizon of parity is 0."
        at = f"{head.smallest:.6g} at step {head.smallest_step}, {head.largest:.6g} at step {head.largest_step}"
        lost = f"lost after {_tokens(head.flips)} flips, or {_tokens(head.mixed)} tokens that flip and hold it"
        return f"{of} head {head.head} has {at}, so a bit in its sign is {lost}."

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON: an infinite horizon is null, and a head that no token flips has 0."""
        facts = {k: v for k, v in asdict(self).items() if k != "heads"}
        return {**facts, "speaks_of": "the tokens of this text only", "heads": [_plain(head) for head in self.heads]}


def horizon(layer: ConvertedLayer, tokens: Sequence[int] | None = None) -> Horizon:
    """Tokens after which parity is lost, per head, from the real eigenvalues that the layer has on its recorded input.

    tokens: the steps that are looked at; None: all. The eigenvalues are those of the recorded signals in double
    precision, the resolution is half the spacing of the layer's own dtype at 1. It is what the tokens nearest to the
    end points would do if they came again and again, in one direction of the state: a word of other tokens, or of
    other directions, may lose the bit sooner.

    Raises NotInvariant (a ValueError) with the reason where A_t is a function of the past, or the state is the past
    itself (softmax attention); ValueError for steps that the text has not.

    >>> import dsf, torch
    >>> conversion = dsf.convert(torch.nn.GRU(3, 8), torch.randn(9, 1, 3))
    >>> horizon(conversion.layers["layer0"])
    Traceback (most recent call last):
    dsf_analysis.spectra.NotInvariant: A_t of GRU is a function of the state, ...
    """
    bounds = layer.architecture.bounds()
    refuse(layer.architecture.title, bounds.dependence()["A"])
    if isinstance(bounds.B, Features):
        raise NotInvariant(
            f"{layer.architecture.title} keeps the tokens themselves (infinitely many features of them), so no bit is "
            "kept in the sign of an eigendirection, and it has no horizon of this kind"
        )
    steps = list(range(layer.length)) if tokens is None else [int(t) for t in tokens]
    if not steps or not all(0 <= t < layer.length for t in steps):
        raise ValueError(f"tokens are steps within 0..{layer.length - 1}, at least one")
    resolution = torch.finfo(layer.dtype).eps / 2
    least, most, exact = _ends(layer, steps)
    how = "exact, by the structure of A" if exact else "numerical (torch.linalg.eigvals): not certified"
    heads = tuple(_of_head(h, *pair, resolution) for h, pair in enumerate(zip(least, most, strict=True)))
    dtype = str(layer.dtype).removeprefix("torch.")
    return Horizon(layer.path, dtype, resolution, len(steps), layer.length, how, heads)


def tokens_until_lost(modulus: float, resolution: float) -> float:
    """ln(resolution) / ln |lambda|: 0 for lambda = 0, oo for |lambda| >= 1, where nothing decays.

    >>> round(tokens_until_lost(0.99, 2**-24)), tokens_until_lost(1.0, 2**-24)
    (1655, inf)
    """
    return 0.0 if modulus <= 0 else math.inf if modulus >= 1 else math.log(resolution) / math.log(modulus)


End = tuple[float, int]  # an eigenvalue and its step


def _of_head(head: int, least: End | None, most: End | None, resolution: float) -> HeadHorizon:
    smallest, at = least or (None, None)
    largest, there = most or (None, None)
    down, up = max(0.0, -(smallest or 0.0)), max(0.0, largest or 0.0)
    flips, holds = tokens_until_lost(down, resolution), tokens_until_lost(up, resolution)
    gap = 1 - down if down else None
    return HeadHorizon(head, smallest, at, largest, there, gap, 1 - up, flips, holds, min(flips, holds))


def _ends(layer: ConvertedLayer, steps: list[int]) -> tuple[list[End | None], list[End | None], bool]:
    """The least and the largest real eigenvalue of each head, with their steps; and whether the structure told them."""
    heads, exact = layer.drive.shape[2], True
    least: list[End | None] = [None] * heads
    most: list[End | None] = [None] * heads
    for chunk, values, known in _values(layer, steps):
        exact = exact and known
        real = is_real(values)
        for kept, sign in ((least, 1), (most, -1)):
            ends, where = (sign * torch.where(real, values.real, sign * math.inf)).flatten(1).min(1)
            for h, (end, i) in enumerate(zip(ends.tolist(), where.tolist(), strict=True)):
                before = kept[h]
                if end < math.inf and (before is None or end < sign * before[0]):
                    kept[h] = (sign * end, chunk[i // values[0, 0].numel()])
    return least, most, exact


def _values(layer: ConvertedLayer, steps: list[int]) -> Iterator[tuple[list[int], torch.Tensor, bool]]:
    """Eigenvalues [H, steps, B, n] of some steps at a time, and whether the structure told them."""
    B, _, H = layer.drive.shape[:3]
    for start in range(0, len(steps), CHUNK):
        chunk = steps[start : start + CHUNK]
        system = _in_double(layer, chunk)
        values = eigenvalues(system.A, system.state_size)
        known = values is not None
        values = values if known else torch.linalg.eigvals(system.dense())
        if not torch.isfinite(values).all():
            raise ValueError("A_t holds NaN or infinity, so it has no eigenvalues")
        yield chunk, values.expand(B, len(chunk), H, values.shape[-1]).permute(2, 1, 0, 3), known


def _in_double(layer: ConvertedLayer, steps: list[int]) -> System:
    """The system at some steps, of the recorded signals in double precision: 1 - |lambda| would be lost in single."""
    signals = layer.architecture.signals
    some = {k: s if signals[k].const else s[:, steps] for k, s in layer.signals.items()}
    wide = {k: s.to(torch.promote_types(s.dtype, torch.float64)) if _inexact(s) else s for k, s in some.items()}
    system = layer.architecture(**wide)
    assert isinstance(system, System)
    return system


def _inexact(x: torch.Tensor) -> bool:
    return x.is_floating_point() or x.is_complex()


def _tokens(count: float) -> str:
    return "infinitely many" if count == math.inf else f"{count:.3g}"


def _plain(head: HeadHorizon) -> dict[str, Any]:
    data = asdict(head)
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in data.items()}
