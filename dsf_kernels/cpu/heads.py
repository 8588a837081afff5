"""Kernels of columns that run a head of a sequence at a time: what their loops are given, forward and backward.

    forward   addresses of the leaves, w, x, y, last, starts (0: not kept), flag
    backward  addresses of the leaves, w, starts, dy, dlast, the gradients of the leaves that have one, of w and of x
    both      strides of leaves and w; T, H, n, p, before, and one number more; then see over_rows

The leaves are those of A, then b and c. One state per CHUNK steps is kept. A loop that raises the flag found an index
that is no row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..recurrences import Loops, Reads, columns_by_steps, strides
from .compiling import compiled
from .lanes import NARROW
from .rows import room
from .running import addresses, over_rows

CHUNK = 64  # tokens from one kept state to the next


def by_heads(
    forward: Callable,
    backward: Callable,
    memory: Callable[..., int],
    step: Callable[..., torch.Tensor],
    *,
    products: Callable[[int], int] = lambda n: n,
    gradient: Callable[[torch.Tensor, torch.Tensor], torch.Tensor | None] | None = None,
) -> Loops:
    """The Loops of how = (before, the number more) and inputs (*leaves, w, x).

    memory(n, P, T, is it backward): of a thread's buffer. step(more, x, *leaves of A, b, w) -> x, in plain torch.
    products(n): multiplications of a column of A x. gradient(first leaf, w): room for its gradient, where that is no
    vector's.
    """

    def sizes(how: tuple[bool, int], inputs) -> tuple[tuple[int, ...], int, int]:
        *_, w, x = inputs
        (B, T, H, p), n = w.shape, x.shape[2]
        return (T, H, n, p, int(how[0]), int(how[1])), B * H, room(p, NARROW // x.element_size())

    def over(loop: Callable, at: tuple[int, ...], how: tuple[bool, int], inputs, is_backward: int) -> None:
        *leaves, w, x = inputs
        cut, count, P = sizes(how, inputs)
        T, H, n, *_ = cut
        arguments = (at, strides((*leaves, w), w.shape[0], T, H), cut)
        over_rows(compiled(loop), arguments, x, memory(n, P, T, is_backward), count, count * T * products(n) * P)

    def run_forward(how, keep: bool, inputs):
        *_, w, x = inputs
        (T, _, n, *_), count, P = sizes(how, inputs)
        y, last = torch.empty(w.shape, dtype=x.dtype), torch.empty_like(x)
        starts = torch.empty(count if keep else 0, -(-T // CHUNK), n * P, dtype=x.dtype)
        if not T:
            return (y, x.clone()), (starts,)
        flag = torch.zeros(1, dtype=torch.long)
        over(forward, addresses(*inputs, y, last, starts if keep else None, flag), how, inputs, 0)
        if flag.item():
            reach = f"they reach from {inputs[0].min()} to {inputs[0].max()}"
            raise IndexError(f"the indices of a one-hot matrix are 0..{n - 1}; {reach}")
        return (y, last), (starts,)

    def run_backward(how, kept, inputs, outputs, dy: torch.Tensor, dlast: torch.Tensor):
        *leaves, w, x = inputs
        if not w.shape[1]:
            return [torch.zeros_like(a) for a in (*leaves, w)] + [dlast]
        found: list[Any] = [torch.empty(*w.shape[:3], a.shape[-1], dtype=x.dtype) for a in (*leaves, w)]
        if gradient is not None:
            found[0] = gradient(leaves[0], w)
        found.append(torch.empty_like(x))
        wanted = [g for g in found if g is not None]
        over(backward, addresses(*leaves, w, *kept, dy, dlast, *wanted), how, inputs, 1)
        return [a if g is None else g for g, a in zip(found, inputs, strict=True)]  # nobody asks for that of an index

    def plain(how, inputs) -> tuple[torch.Tensor, torch.Tensor]:
        (before, more), (*leaves, w, x) = how, inputs
        if not w.shape[1]:
            return w.clone(), x
        *leaves, c = leaves
        return columns_by_steps(lambda x, drive, *parts: step(more, x, *parts, drive), Reads(before), x, c, w, *leaves)

    return Loops(run_forward, run_backward, plain)
