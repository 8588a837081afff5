"""Scalar and identity decay in chunks of 64: matrix products inside a chunk, one state from chunk to chunk.

    S <- e^{g_t} S + b_t u_t^T      y_t = c_t^T S      (before: y_t = c_t^T of the S that was)

Inside a chunk y = (c b^T o E) u + E_0 c S with E_ij = e^{g_{j+1} + ... + g_i} (dao2024ssd, the quadratic form). The
exponents are summed per segment, never subtracted or divided: g = -oo, a reset, is exact, forward and backward.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from dsf.operators import Scaled
from dsf.values import Log, is_number

from ..chunks import over_chunks
from ..costs import Cost, Sizes
from ..registry import REAL, kernel

CHUNK = 64
CALLS = 24  # operations of a chunk
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
    return Cost(flops, moved * z.itemsize, CALLS * chunks)


def segments(g: torch.Tensor) -> torch.Tensor:
    """E [..., C+1, C+1] of g [..., C]: E_ij = e^{g_{j+1} + ... + g_i} for j <= i, else 0; row and column 0: the start.

    >>> segments(torch.tensor([-math.inf, 0.0]))
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 1., 1.]])
    """
    g = F.pad(g, (1, 0))
    past = torch.ones(g.shape[-1], g.shape[-1], dtype=torch.bool, device=g.device).tril()
    sums = torch.where(past.tril(-1), g[..., :, None], 0).cumsum(-2)
    return torch.where(past, sums, -torch.inf).exp()


def _chunk_after(x, g, b, c, u):
    return _chunk(x, g, b, c, u, slice(1, None))


def _chunk_before(x, g, b, c, u):
    return _chunk(x, g, b, c, u, slice(None, -1))


def _chunk(x: torch.Tensor, g: torch.Tensor, b: torch.Tensor, c: torch.Tensor, u: torch.Tensor, read: slice):
    """One chunk: x [B,H,n,p], g [B,H,C], b, c [B,H,C,n], u [B,H,C,p] -> y, x. Sizes 1 of B and H broadcast: heads
    that share b and c share c b^T."""
    g, b, c, u = (a.to(x.dtype) for a in (g, b, c, u))
    E = segments(g)
    y = (c @ b.mT * E[..., read, 1:]) @ u + E[..., read, :1] * (c @ x)
    x = E[..., -1:, :1] * x + (E[..., -1, 1:, None] * b).mT @ u
    return y, x


@kernel("chunked_scalar", covers=Scaled, cost=cost, declines=declines, dtypes=REAL)
def run(A: Scaled, b: torch.Tensor, c: torch.Tensor, u: torch.Tensor, x: torch.Tensor, before: bool):
    """Signature and shapes: see registry.py. Memory for backward: the inputs, and one state per chunk."""
    g = A.a.log if isinstance(A.a, Log) else u.new_full((1, 1, 1, 1), math.log(A.a) if A.a else -math.inf)
    over_time = [a.expand(-1, u.shape[1], -1, -1).transpose(1, 2) for a in (g, b, c)]
    y, x = over_chunks(
        _chunk_before if before else _chunk_after, CHUNK, x, over_time[0][..., 0], *over_time[1:], u.transpose(1, 2)
    )
    return y.transpose(1, 2), x
