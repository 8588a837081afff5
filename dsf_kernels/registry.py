"""Kernels and how they are found: one equation, three signatures, one file per structure and backend.

    columns   run(A, b, c, u, x, before) -> (y, x)     S <- A_t S + b_t u_t^T,  y_t = c_t^T S  (before: the S that was)
    states    run(A, w, x) -> xs                       x_t = A_t x_{t-1} + w_t, every state
    system    run(system, u, state) -> (y, state)      as dsf.reference.scan

A kernel that packs takes one argument more, a Packing: its u [1, T, H, p] are sequences one behind the other, each with
a state of its own.

A in the structure that the kernel covers, b, c [B | 1, T | 1, H | 1, n], u [B, T, H, p], w [B, T, H, n, p],
x [B, H, n, p], xs as w; results in x's dtype. Everything else of a System (D, micro-steps, normaliser, real parts,
readouts) is dispatch's affair, but for kernels of the form "system".
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

import torch

from dsf.operators import Operator

Form = Literal["columns", "states", "system"]
REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Kernel:
    """A way to run systems whose A is, or climbs to, the structure `covers` (None: systems as they are).

    cost(sizes) -> Cost; declines(A) -> None, or why it cannot take this A. Without `covers`: cost(system, sizes) and
    declines(system). fits(sizes) -> None, or why it cannot take a run of these sizes. needs: a package that it is
    compiled by, and the extra that installs it.
    """

    name: str
    form: Form
    covers: type[Operator] | None
    run: Callable[..., Any]
    cost: Callable
    declines: Callable[[Any], str | None]
    fits: Callable[[Any], str | None]
    dtypes: tuple[torch.dtype, ...] | None
    devices: tuple[str, ...] | None
    needs: tuple[str, str] | None
    streams: bool = False
    packs: bool = False

    def unsupported(self, dtype: torch.dtype, device: str) -> str | None:
        """Why it cannot run on this dtype or device, or None."""
        if self.needs and find_spec(self.needs[0]) is None:
            return f"it needs {self.needs[0]}: pip install 'dsf-toolkit[{self.needs[1]}]'"
        if self.dtypes is not None and dtype not in self.dtypes:
            return f"it computes in {', '.join(str(d).removeprefix('torch.') for d in self.dtypes)}, not in {dtype}"
        if self.devices is not None and device not in self.devices:
            return f"it runs on {', '.join(self.devices)}, not on {device}"
        return None


_REGISTRY: dict[str, Kernel] = {}


def kernel(
    name: str,
    *,
    covers: type[Operator] | None = None,
    form: Form = "columns",
    cost: Callable,
    declines: Callable[[Any], str | None] = lambda A: None,
    fits: Callable[[Any], str | None] = lambda sizes: None,
    dtypes: tuple[torch.dtype, ...] | None = None,
    devices: tuple[str, ...] | None = None,
    needs: tuple[str, str] | None = None,
    streams: bool = False,
    packs: bool = False,
) -> Callable[[Callable], Callable]:
    """Registers a function of one of the signatures above; dtypes or devices None: all of them."""

    def register(run: Callable) -> Callable:
        _REGISTRY[name] = Kernel(name, form, covers, run, cost, declines, fits, dtypes, devices, needs, streams, packs)
        return run

    return register


@cache
def _discover() -> None:
    from . import cpu, eager, gpu

    for package in (eager, cpu, gpu):
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")


def kernels() -> dict[str, Kernel]:
    """Every kernel by name; the modules of the packages register themselves."""
    _discover()
    return _REGISTRY
