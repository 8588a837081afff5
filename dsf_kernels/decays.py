"""Decays along segments of time, per channel, by doubling: no quotient, no difference, nothing larger than its segment.

For d_1 .. d_C and vectors r_i (rows), k_j (columns) it gives, with all products o of channels,

    P_ij = r_i^T (d_{j+1} o ... o d_{i-1} o k_j)  for j < i        r_i o d_1 ... d_{i-1}        d_{j+1} ... d_C o k_j

Two halves of a block meet at their border: what lies between j and i is the rest of the left half after j, and the
right half before i, so both factors are decays over whole segments, P is one product of matrices, and the exponents
of a Log are sums of theirs. Blocks of 1 double up to C, a power of two; there is no [C, C, n]. A decay of 0 (a Log of
-oo), negative or complex is exact, and so are its gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dsf.values import Log, value

from .derivatives import differentiable_gradients


def decayed(d: Tensor | Log, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """P [..., R, C, S, C]; rows from the start [..., R, C, n], columns to the end [..., S, C, n], all of d [..., n].

    d [..., C, n | 1], rows [..., R, C, n], columns [..., S, C, n]: R rows and S columns for every step. C is a power
    of two. Leading axes broadcast.

    >>> P, rows, columns, whole = decayed(torch.full((4, 1), 0.5), torch.ones(1, 4, 1), torch.ones(1, 4, 1))
    >>> P[0, :, 0]
    tensor([[0.0000, 0.0000, 0.0000, 0.0000],
            [1.0000, 0.0000, 0.0000, 0.0000],
            [0.5000, 1.0000, 0.0000, 0.0000],
            [0.2500, 0.5000, 1.0000, 0.0000]])
    >>> rows.flatten().tolist(), columns.flatten().tolist(), whole.tolist()
    ([1.0, 0.5, 0.25, 0.125], [0.125, 0.25, 0.5, 1.0], [0.0625])
    """
    log, d = (True, d.log) if isinstance(d, Log) else (False, d)
    shared = torch.broadcast_shapes(d.shape[:-2], rows.shape[:-3], columns.shape[:-3])
    rows, columns = (a.expand(*shared, *a.shape[-3:]) for a in (rows, columns))
    inputs = (d, rows, columns)
    # the transforms of torch.func see through plain operations only
    recorded = torch.is_grad_enabled() and any(a.requires_grad for a in inputs)
    if recorded and not torch._C._are_functorch_transforms_active():
        return _Decayed.apply(log, *inputs)
    return _double(log, *inputs, None)


def _double(log: bool, d: Tensor, rows: Tensor, columns: Tensor, kept: list | None):
    """Every change in place is of a tensor made here, and of none that a derivative needs."""
    size, R, S = rows.shape[-2], rows.shape[-3], columns.shape[-3]
    P = rows.new_zeros(*rows.shape[:-3], R, size, S, size)
    rows, columns = (a.clone(memory_format=torch.contiguous_format) for a in (rows, columns))
    block: Any = Log(d) if log else d
    h = 1
    while h < size:
        left, right = _halves(block)
        later, earlier = _blocks(rows, h)[1], _blocks(columns, h)[0]
        r, k = (a.clone(memory_format=torch.contiguous_format) for a in (later, earlier))
        _corners(P, h).copy_((r.flatten(-3, -2) @ k.flatten(-3, -2).mT).unflatten(-1, (S, h)).unflatten(-3, (R, h)))
        later.copy_(r * value(left)[..., None, None, :])
        earlier.copy_(k * value(right)[..., None, None, :])
        if kept is not None:
            kept += [r, k, value(left), value(right)]
        block, h = left * right, 2 * h
    return P, rows, columns, value(block).squeeze(-2)


def _halves(block: Any) -> tuple[Any, Any]:
    """The left and the right blocks of d [..., blocks, n]."""
    if isinstance(block, Log):
        left, right = _halves(block.log)
        return Log(left), Log(right)
    left, right = block.unflatten(-2, (-1, 2)).unbind(-2)
    return left, right


def _blocks(a: Tensor, h: int) -> tuple[Tensor, Tensor]:
    """Views of the left and of the right halves of blocks of 2h steps: [..., R, C, n] -> 2 x [..., C / 2h, R, h, n]."""
    blocks = a.unflatten(-2, (-1, 2, h)).transpose(-5, -4)
    return blocks[..., 0, :, :], blocks[..., 1, :, :]  # not unbind: autograd lets nothing write into its views


def _corners(P: Tensor, h: int) -> Tensor:
    """A view of P, rows of the right half and columns of the left one in blocks of 2h: [..., C / 2h, R, h, S, h]."""
    cut = P.unflatten(-3, (-1, 2, h)).unflatten(-1, (-1, 2, h))[..., 1, :, :, :, 0, :]
    return cut.diagonal(0, -5, -2).movedim(-1, -5)


class _Decayed(torch.autograd.Function):
    """The doubling, with its derivative written out: autograd would copy whole tensors at every level."""

    @staticmethod
    def forward(ctx, log: bool, d: Tensor, rows: Tensor, columns: Tensor):  # type: ignore[override]
        kept: list[Tensor] = []
        results = _double(log, d, rows, columns, kept)
        ctx.log = log
        ctx.save_for_backward(d, rows, columns, results[-1], *kept)
        return results

    @staticmethod
    def backward(ctx, *grads: Tensor):  # type: ignore[override]
        d, rows, columns, whole, *kept = ctx.saved_tensors
        if torch.is_grad_enabled():  # a derivative of the derivative is wanted
            inputs, needs = (d, rows, columns), ctx.needs_input_grad[1:]

            def plain(d, rows, columns):
                return _double(ctx.log, d, rows, columns, None)

            return None, *differentiable_gradients(plain, inputs, needs, grads)
        gP, grows, gcolumns, gwhole = (g.clone(memory_format=torch.contiguous_format) for g in grads)
        gd = (gwhole * whole.conj() if ctx.log else gwhole)[..., None, :]
        for level in reversed(range(len(kept) // 4)):
            r, k, left, right = kept[4 * level : 4 * level + 4]
            gcorner = _corners(gP, 1 << level).flatten(-4, -3).flatten(-2, -1)
            later, earlier = _blocks(grows, 1 << level)[1], _blocks(gcolumns, 1 << level)[0]
            gleft = (later * r.conj()).sum((-3, -2)).sum_to_size(left.shape)
            gright = (earlier * k.conj()).sum((-3, -2)).sum_to_size(right.shape)
            later.copy_(later * left[..., None, None, :].conj() + (gcorner @ k.flatten(-3, -2).conj()).view_as(r))
            earlier.copy_(
                earlier * right[..., None, None, :].conj() + (gcorner.mT @ r.flatten(-3, -2).conj()).view_as(k)
            )
            if ctx.log:  # of exponents, whose sum the next level has
                gleft, gright = gd + gleft * left.conj(), gd + gright * right.conj()
            else:
                gleft, gright = gd * right.conj() + gleft, gd * left.conj() + gright
            gd = torch.stack([gleft, gright], -2).flatten(-3, -2)
        return None, gd, grows, gcolumns
