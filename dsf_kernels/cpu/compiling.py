"""Functions compiled by numba on first use, run by as many threads as torch has, and differentiable.

Threads are made for each run and end with it: nothing is left that a fork could break, and no layer of threads of numba
meets torch's. A run costs some 0.1 ms for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from . import lanes


@dataclass(frozen=True)
class Loops:
    """A recurrence: forward(before, keep, inputs) -> y, last, starts, by compiled loops; backward(before, starts,
    inputs, dy, dlast) -> a gradient of every input; plain(before, inputs) -> y, last, in torch. The state is last."""

    forward: Callable[..., tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
    backward: Callable[..., Sequence[torch.Tensor]]
    plain: Callable[..., tuple[torch.Tensor, torch.Tensor]]


def recur(loops: Loops, before: bool, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """y and the last state; what torch.func and second derivatives need runs step by step in torch."""
    if torch._C._are_functorch_transforms_active():
        return loops.plain(before, inputs)
    if torch.is_grad_enabled() and any(a.requires_grad for a in inputs):
        return _Recurrence.apply(loops, before, *inputs)
    return loops.forward(before, False, inputs)[:2]


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, loops: Loops, before: bool, *inputs: torch.Tensor):  # type: ignore[override]
        y, last, starts = loops.forward(before, True, inputs)
        ctx.loops, ctx.before = loops, before
        ctx.save_for_backward(starts, *inputs)
        return y, last

    @staticmethod
    def backward(ctx, dy: torch.Tensor, dlast: torch.Tensor):  # type: ignore[override]
        starts, *inputs = ctx.saved_tensors
        needs = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():  # a derivative of the derivative is wanted
            wanted = [a for a, need in zip(inputs, needs, strict=True) if need]
            results = ctx.loops.plain(ctx.before, inputs)
            found = iter(torch.autograd.grad(results, wanted, (dy, dlast), create_graph=True))
            return (None, None, *(next(found) if need else None for need in needs))
        found = ctx.loops.backward(ctx.before, starts, inputs, dy.contiguous(), dlast.contiguous())
        pairs = zip(found, inputs, needs, strict=True)
        return (None, None, *(g.sum_to_size(a.shape) if need else None for g, a, need in pairs))


@cache
def compiled(function: Callable, helpers: tuple[Callable, ...]) -> Callable:
    """The function for numba; one specialisation per dtype, kept on disk where that is writable."""
    import numba
    from numba.extending import register_jitable

    lanes.install()
    for helper in helpers:
        _once(register_jitable, helper)
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # no directory for the cache can be written
        return numba.njit(nogil=True, error_model="numpy")(function)


@cache
def _once(register: Callable, helper: Callable) -> None:
    register(helper)


def lined(x: torch.Tensor, size: int | None = None) -> torch.Tensor:
    """A leaf whose last axis lies in memory entry behind entry, expanded to `size`; other axes stay as they are."""
    x = x if size is None else x.expand(*x.shape[:-1], size)
    return x if x.shape[-1] == 1 or x.stride(-1) == 1 else x.contiguous()


def strides(leaves: Sequence[torch.Tensor], B: int, T: int, H: int) -> tuple[int, ...]:
    """Of batch, time and head of every leaf [B | 1, T | 1, H | 1, ...]; 0 where it is broadcast."""
    return tuple(s for leaf in leaves for s in leaf.expand(B, T, H, *leaf.shape[3:]).stride()[:3])


def over_rows(run: Callable, arguments: tuple, like: torch.Tensor, memory: int, rows: int, work: float) -> None:
    """run(*arguments, memory, lo, hi) over all rows by torch's number of threads, each with a buffer of its own.

    work: multiplications; too few are not worth a thread.
    """
    kind = np.zeros((), np.float32 if like.dtype == torch.float32 else np.float64)[()]
    threads = max(1, min(torch.get_num_threads(), rows, int(work / 2e6)))
    buffers = [torch.zeros(memory, dtype=like.dtype) for _ in range(threads)]
    cuts = [rows * i // threads for i in range(threads + 1)]
    calls = [(*arguments, kind, b.data_ptr(), *cut) for b, *cut in zip(buffers, cuts[:-1], cuts[1:], strict=True)]
    errors: list[BaseException] = []

    def attempt(call: tuple[Any, ...]) -> None:
        try:
            run(*call)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    others = [threading.Thread(target=attempt, args=(call,)) for call in calls[1:]]
    for thread in others:
        thread.start()
    attempt(calls[0])
    for thread in others:
        thread.join()
    if errors:
        raise errors[0]
