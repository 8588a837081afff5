"""Lazy feature maps: phi(x) may have infinitely many entries; only inner products phi(q)^T phi(k) are ever needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .functions import inner
from .tree import Node


def exp(x: Any) -> Features:
    """phi with phi(q)^T phi(k) = e^{q^T k}: softmax attention. dim phi = oo (Taylor: 1, x, x (x) x / sqrt(2), ...)."""
    return Features(x, inner)


@dataclass(frozen=True)
class Features(Node):
    """phi(x), known by the logarithm of its kernel: phi(q)^T phi(k) = exp(log_kernel(q, k))."""

    x: Any
    log_kernel: Callable[[Any, Any], Any]
    __array_ufunc__ = None
