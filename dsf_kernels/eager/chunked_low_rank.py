"""A decay minus a rank-one matrix (delta rules) in chunks of 64: a triangular solve and matrix products per chunk.

    S <- (diag(d_t) - beta_t u_t v_t^T) S + b_t w_t^T      y_t = c_t^T S      (before: y_t = c_t^T of the S that was)

What a step erases is z_t = v_t^T S_{t-1}, so S <- diag(d_t) S + [b_t, beta_t u_t] [w_t, -z_t]^T has a diagonal decay
and two columns, and with P of decays.py, each row reading the state before its own step,

    z = V S_0 + P_vb w - P_vu z, a triangular system        y = C S_0 + P_cb w - P_cu z

(the WY form of a product of rank-one changes, with exponents summed along segments and no quotient of decays).
"""

from __future__ import annotations

from functools import partial

import torch

from dsf.operators import DiagonalPlusLowRank
from dsf.values import Log, is_number

from ..chunks import over_chunks
from ..costs import Cost, Sizes
from ..decays import decayed, whole_blocks
from ..registry import kernel

CHUNK = 64
CALLS = 160  # operations of a chunk
PASSES = 24  # over the rows and columns of a chunk


def cost(z: Sizes) -> Cost:
    """Products of 2C x 2C with n and p entries per chunk, a solve, and four of the state."""
    size = min(CHUNK, z.steps)
    chunks = -(-z.steps // CHUNK)
    flops = 2 * z.rows * z.steps * (4 * size * (z.n + z.p) + 4 * z.n * z.p)
    moved = z.rows * z.steps * (2 * PASSES * z.n + 8 * z.p + 8 * size) + 2 * z.rows * chunks * z.n * z.p
    return Cost(flops, moved * z.itemsize, CALLS * chunks)


def _chunk(x, d, beta, u, v, b, c, w, *, log: bool, before: bool):
    """One chunk: x [B,H,n,p], d [B,H,C,n | 1], beta [B,H,C,1], u, v, b, c [B,H,C,n], w [B,H,C,p] -> y, x. Sizes 1 of
    B and H broadcast."""
    size = w.shape[-2]
    parts = (a.to(x.dtype) for a in (d, beta, u, v, b, c, w))
    d, beta, u, v, b, c, w = whole_blocks(size, 0.0 if log else 1.0, *parts)
    columns = torch.stack(torch.broadcast_tensors(b, beta * u), -3)
    products = _alike if d.shape[-1] == 1 else _per_channel
    (from_v, from_c), (v, c), columns, whole = products(d, v, c, columns, log, before)
    written, erased = from_v.unbind(-2)
    z = torch.linalg.solve_triangular(erased, v @ x + written @ w, upper=False, unitriangular=True)
    both = torch.cat([w, -z], -2)
    y = c @ x + from_c.flatten(-2) @ both
    return y[..., :size, :], whole[..., None] * x + columns.flatten(-3, -2).mT @ both


def _per_channel(d, v, c, columns, log: bool, before: bool):
    """P [..., C, 2, C] of the rows v and of the rows c; rows and columns as the state sees them; the whole decay."""
    after = c if before else c * (d.exp() if log else d)
    rows = torch.stack(torch.broadcast_tensors(v, after), -3)
    P, rows, seen, whole = decayed(Log(d) if log else d, rows, columns)
    from_v, from_c = P.unbind(-4)
    if not before:  # what a step writes and erases itself
        from_c = from_c + (c[..., None, :, :] * columns).sum(-1).diag_embed().transpose(-3, -2)
    return (from_v, from_c), rows.unbind(-3), seen, whole


def _alike(d, v, c, columns, log: bool, before: bool):
    """The same where all channels decay alike: the decays are those of a scalar, once for all channels."""
    one = d.new_ones(1, d.shape[-2], 1)
    E, start, end, whole = decayed(Log(d) if log else d, one, one)
    E, start = E[..., 0, :, :, :], start[..., 0, :, :]
    D, step = E, 1
    if not before:
        step = d.exp() if log else d
        D = E * step[..., None] + torch.eye(d.shape[-2], dtype=d.dtype, device=d.device)[:, None]
    flat = columns.flatten(-3, -2).mT
    products = [(r @ flat).unflatten(-1, (2, -1)) * a for r, a in ((v, E), (c, D))]
    return products, (v * start, c * (start * step)), columns * end, whole


@kernel("chunked_low_rank", covers=DiagonalPlusLowRank, cost=cost)
def run(A: DiagonalPlusLowRank, b: torch.Tensor, c: torch.Tensor, u: torch.Tensor, x: torch.Tensor, before: bool):
    """Signature and shapes: see registry.py. Memory for backward: the inputs, and one state per chunk."""
    log = isinstance(A.d, Log)
    d, beta = (u.new_full((1, 1, 1, 1), a) if is_number(a) else a for a in (A.d.log if log else A.d, A.b))
    over_time = [a.expand(-1, u.shape[1], -1, -1).transpose(1, 2) for a in (d, beta, A.u, A.v, b, c, u)]
    y, x = over_chunks(partial(_chunk, log=log, before=before), CHUNK, x, *over_time)
    return y.transpose(1, 2), x
