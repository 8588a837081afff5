"""Compiled loops run by as many threads as torch has, and made differentiable.

Threads are made for each run and end with it: nothing is left that a fork could break, and no layer of threads of numba
meets torch's. A run costs some 0.1 ms for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..derivatives import differentiable_gradients

WORTH = 1e6  # multiplications that pay for a thread
CALLS = 20  # operations of torch that take as long as a run takes at least


@dataclass(frozen=True)
class Loops:
    """A recurrence: forward(how, keep, inputs) -> outputs, kept, by compiled loops; backward(how, kept, inputs,
    outputs, gradients of the outputs) -> a gradient of every input; plain(how, inputs) -> outputs, in torch.

    Gradients have the inputs' shapes, or those with axes expanded. saves: are the outputs needed for backward?
    """

    forward: Callable[..., tuple[tuple[torch.Tensor, ...], torch.Tensor | None]]
    backward: Callable[..., Sequence[torch.Tensor]]
    plain: Callable[..., tuple[torch.Tensor, ...]]
    saves: bool = False


def recur(loops: Loops, how: Any, *inputs: torch.Tensor) -> Any:
    """The outputs; what torch.func and second derivatives need runs step by step in torch."""
    if torch._C._are_functorch_transforms_active():
        return loops.plain(how, inputs)
    if torch.is_grad_enabled() and any(a.requires_grad for a in inputs):
        return _Recurrence.apply(loops, how, *inputs)
    return loops.forward(how, False, inputs)[0]


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, loops: Loops, how: Any, *inputs: torch.Tensor):  # type: ignore[override]
        outputs, kept = loops.forward(how, True, inputs)
        ctx.loops, ctx.how, ctx.count = loops, how, len(inputs)
        ctx.save_for_backward(*inputs, kept, *(outputs if loops.saves else ()))
        return outputs

    @staticmethod
    def backward(ctx, *gradients: torch.Tensor):  # type: ignore[override]
        saved = ctx.saved_tensors  # asked for once: activation checkpointing unpacks it once
        inputs, (kept, *outputs) = saved[: ctx.count], saved[ctx.count :]
        needs = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():  # a derivative of the derivative is wanted
            loops, how = ctx.loops, ctx.how
            return None, None, *differentiable_gradients(lambda *a: loops.plain(how, a), inputs, needs, gradients)
        found = ctx.loops.backward(ctx.how, kept, inputs, outputs, *(g.contiguous() for g in gradients))
        pairs = zip(found, inputs, needs, strict=True)
        return (None, None, *(g.sum_to_size(a.shape) if need else None for g, a, need in pairs))


def lined(x: torch.Tensor, size: int | None = None) -> torch.Tensor:
    """A leaf whose last axis lies in memory entry behind entry, expanded to `size`; other axes stay as they are."""
    x = x if size is None else x.expand(*x.shape[:-1], size)
    return x if x.shape[-1] == 1 or x.stride(-1) == 1 else x.contiguous()


def strides(leaves: Sequence[torch.Tensor], B: int, T: int, H: int) -> tuple[int, ...]:
    """Of batch, time and head of every leaf [B | 1, T | 1, H | 1, ...]; 0 where it is broadcast."""
    return tuple(s for leaf in leaves for s in leaf.expand(B, T, H, *leaf.shape[3:]).stride()[:3])


def addresses(*tensors: torch.Tensor | None) -> tuple[int, ...]:
    """Where each begins; 0 of none."""
    return tuple(0 if x is None else x.data_ptr() for x in tensors)


def over_rows(run: Callable, arguments: tuple, like: torch.Tensor, memory: int, rows: int, work: float) -> None:
    """run(*arguments, kind, memory, lo, hi) over all rows by torch's number of threads.

    Each has a buffer of zeros of its own. work: multiplications; too few are not worth a thread.
    """
    kind = _KINDS[like.dtype]
    threads = max(1, min(torch.get_num_threads(), rows, int(work / WORTH)))
    buffers = [torch.zeros(memory, dtype=like.dtype) for _ in range(threads)]
    cuts = [rows * i // threads for i in range(threads + 1)]
    calls = [(*arguments, kind, b.data_ptr(), *cut) for b, *cut in zip(buffers, cuts[:-1], cuts[1:], strict=True)]
    if threads == 1:
        return run(*calls[0])
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


_KINDS = {
    torch.float32: np.float32(0),
    torch.float64: np.float64(0),
    torch.complex64: np.complex64(0),
    torch.complex128: np.complex128(0),
}
