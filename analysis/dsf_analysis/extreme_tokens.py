"""At which token of its text a converted layer has its smallest real eigenvalue, and its largest one in modulus."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Extreme:
    """One eigenvalue and where it is: the step in the order in which the layer runs, the sequence, the head."""

    what: str  # "smallest real", "largest modulus"
    value: float | complex
    step: int
    batch: int
    head: int

    def __repr__(self) -> str:
        return f"{self.what} {self.value:.4g} at step {self.step}, sequence {self.batch}, head {self.head}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON: a complex value is [re, im], an infinite part null."""
        parts = [self.value.real, self.value.imag] if isinstance(self.value, complex) else [self.value]
        finite = [x if math.isfinite(x) else None for x in parts]
        value = finite if isinstance(self.value, complex) else finite[0]
        where = {"step": self.step, "batch": self.batch, "head": self.head}
        return {"what": self.what, "value": value, **where}


def extremes_of(values: torch.Tensor, steps: Sequence[int], batch: int, heads: int) -> tuple[Extreme, ...]:
    """The smallest real eigenvalue, where there is one, and that of largest modulus; the first of equal ones.

    values: [B | 1, steps | 1, H | 1, n], as the structure gives them; steps: where in the text they are.

    >>> extremes_of(torch.tensor([0.5, -2.0]).reshape(1, 2, 1, 1), [0, 9], 1, 1)
    (smallest real -2 at step 9, sequence 0, head 0, largest modulus -2 at step 9, sequence 0, head 0)
    """
    all_of = values.expand(batch, len(steps), heads, values.shape[-1])
    reals = torch.where(is_real(all_of), all_of.real if all_of.is_complex() else all_of, math.inf)
    found = [_at("largest modulus", all_of, int(all_of.abs().flatten().argmax()), steps)]
    if (reals < math.inf).any():
        found.insert(0, _at("smallest real", reals, int(reals.flatten().argmin()), steps))
    return tuple(found)


def _at(what: str, values: torch.Tensor, index: int, steps: Sequence[int]) -> Extreme:
    b, t, h, j = (int(i) for i in torch.unravel_index(torch.tensor(index), values.shape))
    z = values[b, t, h, j]
    return Extreme(what, z.real.item() if is_real(z) else z.item(), steps[t], b, h)


def is_real(z: torch.Tensor) -> torch.Tensor:
    """Which of these numbers are real, up to the rounding of a solver."""
    if not z.is_complex():
        return torch.ones_like(z, dtype=torch.bool)
    return z.imag.abs() <= 1e3 * torch.finfo(z.dtype).eps * z.abs().clamp(min=1)
