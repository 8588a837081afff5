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
from ..grouped import CHUNK, calls, carried, decayed_products, earlier, group, in_chunks, in_time, start_and_end
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


@kernel("chunked_scalar", covers=Scaled, cost=cost, declines=declines, dtypes=REAL)
def run(A: Scaled, b: torch.Tensor, c: torch.Tensor, u: torch.Tensor, x: torch.Tensor, before: bool):
    """Signature and shapes: see registry.py. Memory for backward: the inputs, and one state per chunk."""
    g = A.a.log if isinstance(A.a, Log) else u.new_full((1, 1, 1, 1), math.log(A.a) if A.a else -math.inf)
    over_time = [a.expand(-1, u.shape[1], -1, -1).transpose(1, 2) for a in (g, b, c, u)]
    y, x = over_chunks(partial(_group, before=before), group(x, MATRICES), x, *over_time)
    return y.transpose(1, 2), x
