"""Recurrences written outside torch, compiled for a CPU or a GPU, made differentiable; and where their leaves lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from .derivatives import differentiable_gradients
from .packing import Packing


@dataclass(frozen=True)
class Loops:
    """A recurrence: forward(how, keep, inputs) -> outputs, kept, by compiled loops; backward(how, kept, inputs,
    outputs, gradients of the outputs) -> a gradient of every input; plain(how, inputs) -> outputs, in torch.

    Gradients have the inputs' shapes, or those with axes expanded. saves: are the outputs needed for backward?
    """

    forward: Callable[..., tuple[tuple[torch.Tensor, ...], Sequence[torch.Tensor]]]
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
        ctx.loops, ctx.how, ctx.counts = loops, how, (len(inputs), len(inputs) + len(kept))
        ctx.save_for_backward(*inputs, *kept, *(outputs if loops.saves else ()))
        return outputs

    @staticmethod
    def backward(ctx, *gradients: torch.Tensor):  # type: ignore[override]
        saved, (given, rest) = ctx.saved_tensors, ctx.counts  # asked for once: checkpointing unpacks it once
        inputs, kept, outputs = saved[:given], saved[given:rest], saved[rest:]
        needs = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():  # a derivative of the derivative is wanted
            loops, how = ctx.loops, ctx.how
            return None, None, *differentiable_gradients(lambda *a: loops.plain(how, a), inputs, needs, gradients)
        with without_autocast(inputs[0].device.type):
            found = ctx.loops.backward(ctx.how, kept, inputs, outputs, *(g.contiguous() for g in gradients))
        pairs = zip(found, inputs, needs, strict=True)
        return (None, None, *(g.sum_to_size(a.shape) if need else None for g, a, need in pairs))


def without_autocast(device: str) -> AbstractContextManager:
    """No autocast in the block; tensors without memory ("meta") have none."""
    there = torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if there else nullcontext()


class Reads(NamedTuple):
    """Of a run of columns: is y read before the step? Several sequences in one?"""

    before: bool
    packing: Packing | None = None


def columns_by_steps(
    step: Callable[..., torch.Tensor], how: Reads, x: torch.Tensor, c: torch.Tensor, u: torch.Tensor, *leaves
) -> tuple[torch.Tensor, torch.Tensor]:
    """y_t = c_t^T x_t and the last state of x_t = step(x_{t-1}, u_t, *leaves_t), in plain torch: y in u's dtype."""
    before, packing = how
    if packing is not None:
        each = zip(x.split(1), *(packing.apart(leaf) for leaf in (c, u, *leaves)), strict=True)
        ys, xs = zip(*(columns_by_steps(step, Reads(before), *own) for own in each), strict=True)
        return torch.cat(ys, 1), torch.cat(xs)
    if not u.shape[1]:
        return u, x
    over_time = (a.expand(-1, u.shape[1], *a.shape[2:]).unbind(1) for a in (c, u, *leaves))
    outputs = []
    for c_t, u_t, *now in zip(*over_time, strict=True):
        past, x = x, step(x, u_t, *now)
        outputs.append((c_t[..., None] * (past if before else x)).sum(-2).to(u.dtype))
    return torch.stack(outputs, 1), x


def lined(x: torch.Tensor, size: int | None = None) -> torch.Tensor:
    """A leaf whose last axis lies in memory entry behind entry, expanded to `size`; other axes stay as they are."""
    x = x if size is None else x.expand(*x.shape[:-1], size)
    return x if x.shape[-1] == 1 or x.stride(-1) == 1 else x.contiguous()


def strides(leaves: Sequence[torch.Tensor], B: int, T: int, H: int) -> tuple[int, ...]:
    """Of batch, time and head of every leaf [B | 1, T | 1, H | 1, ...]; 0 where it is broadcast."""
    return tuple(s for leaf in leaves for s in leaf.expand(B, T, H, *leaf.shape[3:]).stride()[:3])
