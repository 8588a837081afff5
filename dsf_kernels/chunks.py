"""A recurrence over chunks of time whose backward recomputes: only the state before each chunk is kept.

Plain autograd would keep every intermediate result of every chunk (for chunks of 64: a few matrices 64 x 64 each).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from .derivatives import differentiable_gradients

Step = Callable[..., tuple[torch.Tensor, torch.Tensor]]
Back = Callable[..., Sequence[torch.Tensor | None]]


@dataclass(frozen=True)
class Chunks:
    """How time is cut: `size` steps of the axis; inputs of size 1 there are constant, where others have T > 1."""

    size: int
    axis: int = 2

    def cut(self, inputs: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, ...]]:
        """The chunks of all inputs. Split once: slices would each give a gradient of full size, at every chunk."""
        T = max(a.shape[self.axis] for a in inputs)
        count = max(1, -(-T // self.size))
        pieces = [a.split(self.size, self.axis) if self._varies(a, T) else (a,) * count for a in inputs]
        return list(zip(*pieces, strict=True))

    def joined(self, gradients: list[tuple], inputs: Sequence[torch.Tensor]) -> list:
        """The gradients of the inputs from those of their chunks, first chunk first."""
        T = max(a.shape[self.axis] for a in inputs)
        return [
            None if parts[0] is None else torch.cat(parts, self.axis) if self._varies(a, T) else sum(parts)
            for a, parts in zip(inputs, zip(*gradients, strict=True), strict=True)
        ]

    def _varies(self, a: torch.Tensor, T: int) -> bool:
        return a.shape[self.axis] == T


def over_chunks(
    step: Step, size: int, x: torch.Tensor, *inputs: torch.Tensor, axis: int = 2, back: Back | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """y, x of y_k, x = step(x, *(chunk k of every input)); `axis` is time, y is joined along it.

    inputs [B | 1, H | 1, T | 1, ...] (axis 1: [B | 1, T | 1, ...]). Differentiable in x and in every input, any number
    of times. back: the gradients of a step, written out; None: autograd runs it again. back(needs, x, *(chunk k of all
    inputs), dy, dx) -> one for x and for every input, in its shape or with axes expanded; what needs none may have any.
    """
    # the transforms of torch.func see through plain operations only; autograd.Function asks the same question
    transformed = torch._C._are_functorch_transforms_active()
    chunks = Chunks(size, axis)
    if not transformed and torch.is_grad_enabled() and any(a.requires_grad for a in (x, *inputs)):
        return _Recomputed.apply(step, back or partial(_by_autograd, step), chunks, x, *inputs)
    return _run(step, chunks, x, inputs)


def _run(step: Step, chunks: Chunks, x: torch.Tensor, inputs: tuple, starts: list | None = None):
    outputs, whole, done = [], None, 0
    pieces = chunks.cut(inputs)
    in_place = not torch.is_grad_enabled() and not torch._C._are_functorch_transforms_active() and len(pieces) > 1
    with torch.autocast(x.device.type, enabled=False):
        for parts in pieces:
            if starts is not None:
                starts.append(x)
            y, x = step(x, *parts)
            if not in_place:
                outputs.append(y)
                continue
            if whole is None:  # to be filled while a chunk is in the cache
                T = max(a.shape[chunks.axis] for a in inputs)
                whole = y.new_empty((*y.shape[: chunks.axis], T, *y.shape[chunks.axis + 1 :]))
            whole.narrow(chunks.axis, done, y.shape[chunks.axis]).copy_(y)
            done += y.shape[chunks.axis]
    return (torch.cat(outputs, chunks.axis) if whole is None else whole), x


def _by_autograd(step: Step, needs: Sequence[bool], *given: torch.Tensor) -> list[torch.Tensor | None]:
    """The gradients of a step, by a run of it."""
    *inputs, dy, dx = given
    with torch.enable_grad():
        leaves = [a.detach().requires_grad_(need) for a, need in zip(inputs, needs, strict=True)]
        wanted = [a for a in leaves if a.requires_grad]
        found = iter(torch.autograd.grad(step(*leaves), wanted, (dy, dx), materialize_grads=True))
    return [next(found) if need else None for need in needs]


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, step: Step, back: Back, chunks: Chunks, x: torch.Tensor, *inputs: torch.Tensor):  # type: ignore[override]
        ctx.step, ctx.back, ctx.chunks, starts = step, back, chunks, []
        y, last = _run(step, chunks, x, inputs, starts)
        ctx.save_for_backward(*inputs, *starts)
        ctx.count = len(inputs)
        return y, last

    @staticmethod
    def backward(ctx, grad_y: torch.Tensor, grad_x: torch.Tensor):  # type: ignore[override]
        saved = ctx.saved_tensors  # asked for once: activation checkpointing unpacks it once
        inputs, starts = saved[: ctx.count], saved[ctx.count :]
        if torch.is_grad_enabled():  # a derivative of the derivative is wanted: the whole graph, by plain autograd

            def plain(x, *inputs):
                return _run(ctx.step, ctx.chunks, x, inputs)

            given, weights = (starts[0], *inputs), (grad_y, grad_x)
            return None, None, None, *differentiable_gradients(plain, given, ctx.needs_input_grad[3:], weights)
        pieces = zip(starts, grad_y.split(ctx.chunks.size, ctx.chunks.axis), ctx.chunks.cut(inputs), strict=True)
        gradients, needs = [], (True, *ctx.needs_input_grad[4:])
        with torch.autocast(grad_x.device.type, enabled=False):
            for start, grad, parts in reversed(list(pieces)):
                grad_x, *found = ctx.back(needs, start, *parts, grad, grad_x)
                triples = zip(found, parts, needs[1:], strict=True)
                gradients.append(tuple(d.sum_to_size(a.shape) if need else None for d, a, need in triples))
        return (None, None, None, grad_x, *ctx.chunks.joined(gradients[::-1], inputs))
