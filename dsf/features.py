"""Lazy feature maps: phi(x) may have infinitely many entries; only inner products phi(q)^T phi(k) are ever needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from .composites import Composed
from .operators import Identity, Operator, Scaled, Shift, matrix_product
from .tree import Node
from .values import Log, is_one, times

DYNAMICS = "with A = I, decay(g) * I, Shift(slots=W) or decay(g) * Shift(slots=W)"  # what may stand beside them


def exp(x: Any, cap: float | None = None) -> Features:
    """phi with phi(q)^T phi(k) = e^{q^T k}: softmax attention. dim phi = oo (Taylor: 1, x, x (x) x / sqrt(2), ...).

    cap: e^{cap tanh(q^T k / cap)} instead (Gemma 2). Raises ValueError for a cap that is not positive.
    """
    if cap is not None and not cap > 0:
        raise ValueError(f"the cap of scores is a positive number, got {cap}")
    return Features(x, ExpKernel(cap))


def relative(x: Any, table: torch.Tensor) -> Features:
    """phi with phi(q)^T phi(k) = e^{q^T k + table[h, t - s]}, where t and s are the LAST entries of q and k.

    table [H | 1, ages] is a bias per head and age; ages beyond it have its last one (T5: its buckets, unrolled).
    Positions are whole numbers in the signals' dtype: exact up to 256 in bfloat16, 2048 in float16, 2^24 in float32.
    Raises ValueError where the table has another rank or no entry.
    """
    if not isinstance(table, torch.Tensor) or table.dim() != 2 or not table.shape[1]:
        got = tuple(table.shape) if isinstance(table, torch.Tensor) else type(table).__name__
        raise ValueError(f"the table of relative biases should be a tensor [H, ages], got {got}")
    return Features(x, RelativeKernel(table[None, None] if isinstance(x, torch.Tensor) else None))


@dataclass(frozen=True)
class Features(Node):
    """c phi(x), known by the logarithm of its kernel: phi(q)^T phi(k) = exp(log_kernel(q, k)); c = decay(log weight).

    log_kernel takes q [B, H, T, n] and k [B, H, S, n], and gives [B, H, T, S].
    """

    x: Any
    log_kernel: Callable[[Any, Any], Any]
    weight: Any = 1
    __array_ufunc__ = None

    def __rmul__(self, c: Any) -> Features:
        if not is_logarithmic(c):
            raise ValueError("infinite features take a weight in log space: decay(w) * features.exp(k), w = log weight")
        return Features(self.x, self.log_kernel, times(c, self.weight))

    __mul__ = __rmul__


@dataclass(frozen=True)
class ExpKernel(Node):
    """q^T k, or cap tanh(q^T k / cap)."""

    cap: float | None = None

    def __call__(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        scores = matrix_product(q, k.mT)
        return scores if self.cap is None else self.cap * torch.tanh(scores / self.cap)


@dataclass(frozen=True)
class RelativeKernel(Node):
    """q^T k + table[h, t - s], positions last; the table is data, and stands in the reading on tensors alone."""

    table: Any = field(compare=False)  # [1, 1, H | 1, ages], as every leaf

    def __call__(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        table = self.table[0, 0].expand(q.shape[1], -1)
        age = (q[..., -1:] - k[..., None, :, -1]).detach().round().long().clamp(0, table.shape[-1] - 1)
        heads = torch.arange(len(table), device=q.device)[:, None, None]
        scores = matrix_product(q[..., :-1], k[..., :-1].mT)
        return scores + table[heads, age].to(scores.dtype)


def is_logarithmic(c: Any) -> bool:
    """Is c a weight whose logarithm is known: 1, decay(g), or (on bounds) never negative? Symbols are believed."""
    if isinstance(c, (int, float, complex, torch.Tensor)):
        return is_one(c)
    if isinstance(c, Log):
        return not c.log.is_complex()
    within = getattr(c, "set", None)
    return within is None or getattr(within, "lo", -1) >= 0


def decay_and_window(A: Operator) -> tuple[Any, int | None]:
    """What A does to the past, of A = a I: (a, None: all of it stays); of a Shift(slots=W): (a, W). Else ValueError.

    >>> from dsf import I, Shift
    >>> decay_and_window(I), decay_and_window(Shift(slots=8))
    ((1, None), (1, 8))
    """
    a: Any = 1
    rest = A
    if isinstance(A, Scaled):
        a, rest = A.a, Identity()
    elif isinstance(A, Composed) and isinstance(A.left, Scaled):
        a, rest = A.left.a, A.right
    window = rest.slots if isinstance(rest, Shift) and rest.by == 1 else 0
    if not is_logarithmic(a) or not (isinstance(rest, Identity) or window):
        raise ValueError(f"infinite features come {DYNAMICS}; decays are in log space")
    return a, window or None
