"""Chunks of 64 steps in groups: what does not wait for the state is one operation for all chunks of a group.

    E_ij = e^{g_{j+1} + ... + g_i}, j <= i      (the decays inside every chunk)      S <- d_k S + W_k      (their carry)

A step of over_chunks takes a group; its intermediate results stay in cache on a CPU and fill the device elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .costs import Sizes
from .derivatives import differentiable_gradients

CHUNK = 64
BLOCK = 8  # of a chunk, whose sums of exponents are made one by one
SOLVED = 16  # width of a triangle that is solved row by row
TOGETHER = {"cpu": 1 << 22, "cuda": 1 << 25}  # entries of all matrices of a group, about: cache, or a device's memory


def group(x: Tensor, matrices: int) -> int:
    """Steps of a group, where the state is x [B, H, n, p] and a chunk has so many matrices [C, C]."""
    return CHUNK * _together(x.shape[0] * x.shape[1], x.device.type, matrices)


def calls(z: Sizes, matrices: int, once: int, each: int) -> int:
    """Operations of a run: `once` in every group, `each` for every chunk."""
    chunks = -(-z.steps // CHUNK)
    return once * -(-chunks // _together(z.rows, z.device, matrices)) + each * chunks


def _together(rows: int, device: str, matrices: int) -> int:
    entries = max(rows, 1) * matrices * CHUNK * CHUNK
    return max(1, TOGETHER.get(device, TOGETHER["cuda"]) // entries)


def in_chunks(dtype: torch.dtype, one: float, *parts: Tensor) -> list[Tensor]:
    """[..., T, k] -> [..., G, C, k], contiguous; what is missing in the last chunk is `one` in the first part, else 0.

    C is 64, or the power of two that holds a T below.
    """
    T = parts[0].shape[-2]
    size = min(CHUNK, 1 << max(T - 1, 0).bit_length())
    more = max(-(-T // size), 1) * size - T
    whole = [F.pad(a, (0, 0, 0, more), value=0.0 if i else one) if more else a for i, a in enumerate(parts)]
    return [a.to(dtype).unflatten(-2, (-1, size)).contiguous() for a in whole]


def in_time(y: Tensor, T: int) -> Tensor:
    """[..., G, C, k] -> [..., T, k]."""
    return y.flatten(-3, -2)[..., :T, :]


def carried(x: Tensor, whole: Tensor, writes: Tensor, back: bool = False) -> tuple[Tensor, Tensor]:
    """The states before every chunk [..., G, n, p], and the last: x <- whole x + writes; `back`: from the last on."""
    states, order = [], -1 if back else 1
    for d, w in list(zip(whole.unbind(-3), writes.unbind(-3), strict=True))[::order]:
        states.append(x)
        x = torch.addcmul(w, d, x)
    return torch.stack(states[::order], -3), x


# -------------------------------------------------------------------------------------------- the decays of a Log, real
def segments(g: Tensor) -> Tensor:
    """E [..., C, C] of g [..., C]: E_ij = e^{g_{j+1} + ... + g_i} for j <= i, else 0. Sums only: -oo is a reset.

    What would be no normal number is 0: with those a processor is many times as slow.

    >>> segments(torch.tensor([-torch.inf, 0.0, -torch.inf]))
    tensor([[1., 0., 0.],
            [1., 1., 0.],
            [0., 0., 1.]])
    """
    size = g.shape[-1]
    if size <= BLOCK:
        past = torch.ones(size, size, dtype=torch.bool, device=g.device).tril()
        sums = g[..., :, None].expand(*g.shape, size).masked_fill(~past.tril(-1), 0).cumsum(-2)
        return sums.masked_fill(~past, -torch.inf).exp()
    blocks = g.unflatten(-1, (-1, BLOCK))
    inside, (start, end) = segments(blocks), start_and_end(blocks)
    between = earlier(segments(blocks.sum(-1)))
    ends = (between[..., None] * end[..., None, :, :]).flatten(-2)
    E = start[..., None] * ends[..., None, :]
    E.unflatten(-1, (-1, BLOCK)).diagonal(0, -4, -2).copy_(inside.movedim(-3, -1))
    return torch.threshold_(E.flatten(-3, -2), torch.finfo(g.dtype).tiny, 0.0)


def start_and_end(g: Tensor) -> tuple[Tensor, Tensor]:
    """e^{g_1 + ... + g_i} and e^{g_{j+1} + ... + g_C}: [..., C] each."""
    after = F.pad(g[..., 1:], (0, 1)).flip(-1).cumsum(-1).flip(-1)
    return g.cumsum(-1).exp(), after.exp()


def earlier(a: Tensor, first: float = 0.0) -> Tensor:
    """Rows of a matrix [..., C, k] one step later: row i is row i - 1, row 0 is `first`."""
    return F.pad(a[..., :-1, :], (0, 0, 1, 0), value=first)


def decayed_products(
    g: Tensor, late: Sequence[bool], rows: Sequence[Tensor], columns: Sequence[Tensor]
) -> list[Tensor]:
    """P [..., C, C] for every row and every column, r^T k o E: row by row. Rows that are not `late` read the state
    before their own step: row i has E of i - 1.
    """
    inputs = (g, *rows, *columns)
    recorded = torch.is_grad_enabled() and any(a.requires_grad for a in inputs)
    # the transforms of torch.func see through plain operations only
    if recorded and not torch._C._are_functorch_transforms_active() and not any(a.is_complex() for a in inputs):
        return list(_DecayedProducts.apply(tuple(late), *inputs))  # type: ignore[arg-type]
    return _products(segments(g), late, rows, columns, not recorded)


def _products(E: Tensor, late, rows, columns, in_place: bool) -> list[Tensor]:
    decays = [E if after else earlier(E) for after in late]
    products = [(row @ column.mT, decay) for row, decay in zip(rows, decays, strict=True) for column in columns]

    def times(P: Tensor, decay: Tensor) -> Tensor:
        fits = in_place and torch.broadcast_shapes(decay.shape, P.shape) == P.shape
        return P.mul_(decay) if fits else P * decay

    return [times(P, decay) for P, decay in products]


class _DecayedProducts(torch.autograd.Function):
    """With its derivative written out: g needs no more than dP o P."""

    @staticmethod
    def forward(ctx, late: tuple[bool, ...], g: Tensor, *vectors: Tensor):  # type: ignore[override]
        E, ctx.late = segments(g), late
        products = _products(E, late, vectors[: len(late)], vectors[len(late) :], True)
        ctx.save_for_backward(g, *vectors, E, *products)
        return tuple(products)

    @staticmethod
    def backward(ctx, *grads: Tensor):  # type: ignore[override]
        count, saved = len(ctx.needs_input_grad) - 1, ctx.saved_tensors  # asked for once: see chunks.py
        g, *vectors = inputs = saved[:count]
        E, *products = saved[count:]
        rows, columns = vectors[: len(ctx.late)], vectors[len(ctx.late) :]
        if torch.is_grad_enabled():  # a derivative of the derivative is wanted
            late, first = ctx.late, len(ctx.late)

            def plain(g, *vectors):
                return _products(segments(g), late, vectors[:first], vectors[first:], False)

            return None, *differentiable_gradients(plain, inputs, ctx.needs_input_grad[1:], grads)
        sums = [torch.zeros_like(a) for a in vectors]
        exponents = torch.zeros_like(E)
        for i, (after, row) in enumerate(zip(ctx.late, rows, strict=True)):
            decay, of_row = E if after else earlier(E), slice(len(columns) * i, len(columns) * (i + 1))
            moved = exponents if after else exponents[..., :-1, :]
            for j, (column, P, grad) in enumerate(zip(columns, products[of_row], grads[of_row], strict=True)):
                moved += (grad * P)[..., 0 if after else 1 :, :].sum_to_size(moved.shape)
                grad = grad * decay
                sums[i] += (grad @ column).sum_to_size(row.shape)
                sums[len(rows) + j] += (grad.mT @ row).sum_to_size(column.shape)
        after = torch.ones(E.shape[-2:], dtype=E.dtype, device=E.device).triu()
        # g_k has the sum over all segments that hold step k: of every i >= k and j < k
        return None, (after @ exponents).mul_(after.mT.tril(-1)).sum(-1), *sums


# ------------------------------------------------------------------------------------------------------ unit triangles
def inverse(A: Tensor) -> Tensor:
    """(I + A)^-1 of strictly lower triangular A [..., C, C], C a power of two: blocks on the diagonal, then pairs.

    >>> inverse(torch.tensor([[0.0, 0.0], [3.0, 0.0]]))
    tensor([[ 1.,  0.],
            [-3.,  1.]])
    """
    if torch._C._are_functorch_transforms_active():
        one = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
        return torch.linalg.solve_triangular(A + one, one.expand_as(A), upper=False, unitriangular=True)
    return _Inverse.apply(A)  # type: ignore[return-value]


def _inverse(A: Tensor) -> Tensor:
    h = min(SOLVED, A.shape[-1])
    T, one = torch.zeros_like(A), torch.eye(h, dtype=A.dtype, device=A.device)
    block = _pairs(A, h, 0, 0, of=1)
    _pairs(T, h, 0, 0, 1).copy_(
        torch.linalg.solve_triangular(block, one.expand_as(block), upper=False, unitriangular=True)
    )
    while h < A.shape[-1]:
        left, right, corner = _pairs(T, h, 0, 0), _pairs(T, h, 1, 1), _pairs(A, h, 1, 0)
        _pairs(T, h, 1, 0).copy_((right @ corner @ left).neg_())
        h *= 2
    return T


def _pairs(A: Tensor, h: int, row: int, column: int, of: int = 2) -> Tensor:
    """A view [..., C / (of h), h, h]: of each block on the diagonal, `of` times h wide, the part at row and column."""
    parts = A.unflatten(-2, (-1, of, h)).unflatten(-1, (-1, of, h))
    return parts[..., :, row, :, :, column, :].diagonal(0, -4, -2).movedim(-1, -3)


class _Inverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, A: Tensor) -> Tensor:  # type: ignore[override]
        T = _inverse(A)
        ctx.save_for_backward(T)
        return T

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # type: ignore[override]
        (T,) = ctx.saved_tensors
        return -(T.mH @ grad @ T.mH)
