"""Scalar and identity decay in chunks of 64: products inside all chunks of a group at once, a state between them.

    S <- e^{g_t} S + b_t u_t^T      y_t = c_t^T S      (before: y_t = c_t^T of the S that was)

Inside a chunk y = (c b^T o E) u + E_0 c S with E_ij = e^{g_{j+1} + ... + g_i} (dao2024ssd, the quadratic form). The
exponents are summed per segment, never subtracted or divided: g = -oo, a reset, is exact, forward and backward.
"""

from __future__ import annotations

import math
from functools import partial

import torch

from dsf.operators import Scaled
from dsf.values import Log, is_number

from ..chunks import over_chunks
from ..costs import Cost, Sizes
from ..grouped import (
    CHUNK,
    calls,
    carried,
    decayed_products,
    earlier,
    group,
    in_chunks,
    in_time,
    segments,
    start_and_end,
)
from ..registry import REAL, kernel

MATRICES = 4  # of a chunk, at one time
CALLS, LOOP = 140, 3  # operations of a group, and of each of its chunks for the state
PASSES = 6  # over a chunk's matrices E and c b^T


def declines(A: Scaled) -> str | None:
    """Why this multiple of I does not suit, or None."""
    if is_number(A.a):
        return None if A.a >= 0 else f"the decay {A.a} is negative"
    if not isinstance(A.a, Log):
        return "the decay is not in log space: write decay(g)"
    return "the decay is complex" if A.a.log.is_complex() else None


def cost(z: Sizes) -> Cost:
    """Products of C x C with n and p entries per chunk, and two of the state; E moves through memory."""
    size = min(CHUNK, z.steps)
    chunks = -(-z.steps // CHUNK)
    flops = 2 * z.rows * z.steps * (size * (z.n + z.p) + 2 * z.n * z.p)
    moved = z.rows * z.steps * (z.n * 2 + z.p * 2 + PASSES * size) + 2 * z.rows * chunks * z.n * z.p
    return Cost(flops, moved * z.itemsize, calls(z, MATRICES, CALLS, LOOP))


def _group(x: torch.Tensor, g: torch.Tensor, b: torch.Tensor, c: torch.Tensor, u: torch.Tensor, *, before: bool):
    """One group: x [B,H,n,p], g [B,H,T,1], b, c [B,H,T,n], u [B,H,T,p] -> y, x. Sizes 1 of B and H broadcast: heads
    that share b and c share c b^T."""
    T = u.shape[-2]
    g, b, c, u = in_chunks(x.dtype, 0.0, g, b, c, u)
    (P,) = decayed_products(g[..., 0], (not before,), (c,), (b,))
    start, end = (a[..., None] for a in start_and_end(g[..., 0]))
    states, x = carried(x, start[..., -1:, :], b.mT @ (end * u))
    y = torch.addcmul(P @ u, earlier(start, 1.0) if before else start, c @ states)
    return in_time(y, T), x


def _group_back(needs: tuple[bool, ...], x, g, b, c, u, dy, dx, *, before: bool):
    """The gradients of a group. With D = dy u^T o E, and S, dS before and after each chunk,

        du = P^T dy + E_C b dS       dc = E_0 dy S^T + D b       db = E_C u dS^T + D^T c

    and an exponent's is the sum of what passes over it: reads from the chunk's start, writes to its end, pairs, and the
    state from end to end. No difference: where a decay is 0 they are exact.
    """
    T = u.shape[-2]
    g, b, c, u, dy = in_chunks(x.dtype, 0.0, g, b, c, u, dy)
    E, (start, end) = segments(g[..., 0]), (a[..., None] for a in start_and_end(g[..., 0]))
    E, first, whole = earlier(E) if before else E, earlier(start, 1.0) if before else start, start[..., -1:, :]
    S, _ = carried(x, whole, b.mT @ (end * u))
    dS, dx = carried(dx, whole, c.mT @ (first * dy), back=True)
    P, D = (c @ b.mT) * E, dy @ u.mT
    dc, db, du = (dy @ S.mT).mul_(first), (u @ dS.mT).mul_(end), (b @ dS).mul_(end)
    one = torch.ones(E.shape[-2:], dtype=E.dtype, device=E.device)
    later, sooner = one.triu(int(before)), one.tril(-1)  # reads at a step or later, writes before it
    dg = later @ (dc * c).sum(-1, keepdim=True) + sooner @ (db * b).sum(-1, keepdim=True)
    dg += (later @ (P * D)).mul_(sooner).sum(-1, keepdim=True)
    dg += whole * (S.flatten(-2)[..., None, :] @ dS.flatten(-2)[..., None])
    D = D.mul_(E)
    shared = torch.broadcast_shapes(b.shape[:-2], c.shape[:-2])  # by heads: their sum is multiplied once
    dc, db, D = (a.sum_to_size(*shared, *a.shape[-2:]) for a in (dc, db, D))
    dc, db, du = _plus(dc, D, b), _plus(db, D.mT, c), _plus(du, P.mT, dy)
    return dx, *(in_time(d, T) for d in (dg, db, dc, du))


def _plus(a: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """a + left right, in a's place; leading axes of left and right are expanded to a's."""
    left, right = (m.expand(*a.shape[:-2], *m.shape[-2:]).flatten(0, -3) for m in (left, right))
    a.view(-1, *a.shape[-2:]).baddbmm_(left, right)
    return a


@kernel("chunked_scalar", covers=Scaled, cost=cost, declines=declines, dtypes=REAL)
def run(A: Scaled, b: torch.Tensor, c: torch.Tensor, u: torch.Tensor, x: torch.Tensor, before: bool):
    """Signature and shapes: see registry.py. Memory for backward: the inputs, and one state per chunk."""
    g = A.a.log if isinstance(A.a, Log) else u.new_full((1, 1, 1, 1), math.log(A.a) if A.a else -math.inf)
    over_time = [a.expand(-1, u.shape[1], -1, -1).transpose(1, 2) for a in (g, b, c, u)]
    step, back = partial(_group, before=before), partial(_group_back, before=before)
    y, x = over_chunks(step, group(x, MATRICES), x, *over_time, back=back)
    return y.transpose(1, 2), x
