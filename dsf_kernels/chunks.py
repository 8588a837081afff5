"""A recurrence over chunks of time whose backward recomputes: only the state before each chunk is kept.

Plain autograd would keep every intermediate result of every chunk (for chunks of 64: a few matrices 64 x 64 each).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Step = Callable[..., tuple[torch.Tensor, torch.Tensor]]


def over_chunks(step: Step, size: int, x: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """y, x of y_k, x = step(x, *(chunk k of every input)); axis 2 is time, y is joined along it.

    inputs [B | 1, H | 1, T, ...] with one T. Differentiable in x and in every input, any number of times.
    """
    # the transforms of torch.func see through plain operations only; autograd.Function asks the same question
    transformed = torch._C._are_functorch_transforms_active()
    if not transformed and torch.is_grad_enabled() and any(a.requires_grad for a in (x, *inputs)):
        return _Recomputed.apply(step, size, x, *inputs)
    return _run(step, size, x, inputs)


def _run(step: Step, size: int, x: torch.Tensor, inputs: tuple, starts: list | None = None):
    outputs = []
    # split once: slicing an input at every chunk would give a full-size gradient at every chunk
    with torch.autocast(x.device.type, enabled=False):
        for parts in zip(*(a.split(size, 2) for a in inputs), strict=True):
            if starts is not None:
                starts.append(x)
            y, x = step(x, *parts)
            outputs.append(y)
    return torch.cat(outputs, 2), x


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, step: Step, size: int, x: torch.Tensor, *inputs: torch.Tensor):  # type: ignore[override]
        ctx.step, ctx.size, starts = step, size, []
        y, last = _run(step, size, x, inputs, starts)
        ctx.save_for_backward(*inputs, *starts)
        ctx.count = len(inputs)
        return y, last

    @staticmethod
    def backward(ctx, grad_y: torch.Tensor, grad_x: torch.Tensor):  # type: ignore[override]
        saved = ctx.saved_tensors  # asked for once: activation checkpointing unpacks it once
        inputs, starts = saved[: ctx.count], saved[ctx.count :]
        if torch.is_grad_enabled():  # a derivative of the derivative is wanted: the whole graph, by plain autograd
            wanted = [a for a, need in zip((starts[0], *inputs), ctx.needs_input_grad[2:], strict=True) if need]
            results = _run(ctx.step, ctx.size, starts[0], inputs)
            found = iter(torch.autograd.grad(results, wanted, (grad_y, grad_x), create_graph=True))
            return (None, None, *(next(found) if need else None for need in ctx.needs_input_grad[2:]))
        pieces = zip(starts, grad_y.split(ctx.size, 2), *(a.split(ctx.size, 2) for a in inputs), strict=True)
        gradients: list[tuple] = []
        for start, grad, *parts in reversed(list(pieces)):
            with torch.enable_grad(), torch.autocast(start.device.type, enabled=False):
                leaves = [
                    a.detach().requires_grad_(need)
                    for a, need in zip((start, *parts), (True, *ctx.needs_input_grad[3:]), strict=True)
                ]
                results = ctx.step(*leaves)
                wanted = [a for a in leaves if a.requires_grad]
                found = iter(torch.autograd.grad(results, wanted, (grad, grad_x)))
            grad_x = next(found)
            gradients.append(tuple(next(found) if a.requires_grad else None for a in leaves[1:]))
        joined = [None if g[0] is None else torch.cat(g[::-1], 2) for g in zip(*gradients, strict=True)]
        return (None, None, grad_x, *joined)
