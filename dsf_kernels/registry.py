"""Kernels and how they are found: one equation, one signature, one file per structure and backend.

    run(A, b, c, u, x, before) -> (y, x)        S <- A_t S + b_t u_t^T,   y_t = c_t^T S   (before: the S that was)

A in the structure that the kernel covers, b, c [B | 1, T | 1, H | 1, n], u [B, T, H, p], x [B, H, n, p]; y and the last
x in x's dtype. Everything else of a System (D, micro-steps, normaliser, real parts) is dispatch's affair.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from dsf.operators import Operator

REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Kernel:
    """A way to run systems whose A is, or climbs to, the structure `covers` (None: it runs every system as it is).

    cost(sizes) -> Cost (covers None: cost(system, sizes)); declines(A) -> None, or why it cannot take this A.
    """

    name: str
    covers: type[Operator] | None
    run: Callable[..., tuple[torch.Tensor, Any]]
    cost: Callable
    declines: Callable[[Any], str | None]
    dtypes: tuple[torch.dtype, ...] | None
    devices: tuple[str, ...] | None

    def unsupported(self, dtype: torch.dtype, device: str) -> str | None:
        """Why it cannot run on this dtype or device, or None."""
        if self.dtypes is not None and dtype not in self.dtypes:
            return f"it computes in {', '.join(str(d).removeprefix('torch.') for d in self.dtypes)}, not in {dtype}"
        if self.devices is not None and device not in self.devices:
            return f"it runs on {', '.join(self.devices)}, not on {device}"
        return None


_REGISTRY: dict[str, Kernel] = {}


def kernel(
    name: str,
    *,
    covers: type[Operator] | None,
    cost: Callable,
    declines: Callable[[Any], str | None] = lambda A: None,
    dtypes: tuple[torch.dtype, ...] | None = None,
    devices: tuple[str, ...] | None = None,
) -> Callable[[Callable], Callable]:
    """Registers a function of the signature above; dtypes or devices None: all of them."""

    def register(run: Callable) -> Callable:
        _REGISTRY[name] = Kernel(name, covers, run, cost, declines, dtypes, devices)
        return run

    return register


@cache
def _discover() -> None:
    from . import eager

    for module in pkgutil.iter_modules(eager.__path__):
        importlib.import_module(f"{eager.__name__}.{module.name}")


def kernels() -> dict[str, Kernel]:
    """Every kernel by name; the modules of the eager package register themselves."""
    _discover()
    return _REGISTRY
