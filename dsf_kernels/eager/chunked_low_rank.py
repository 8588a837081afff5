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
from dsf.values import Log, is_number, value

from ..chunks import over_chunks
from ..costs import Cost, Sizes
from ..decays import decayed
from ..grouped import CHUNK, calls, decayed_products, earlier, group, in_chunks, in_time, inverse, start_and_end
from ..registry import kernel

MATRICES = 10  # of a chunk, at one time
CALLS, LOOP = 200, 12  # operations of a group, and of each of its chunks for the state
PASSES = 24  # over the rows and columns of a chunk


def cost(z: Sizes) -> Cost:
    """Products of 2C x 2C with n and p entries per chunk, a solve, and four of the state."""
    size = min(CHUNK, z.steps)
    chunks = -(-z.steps // CHUNK)
    flops = 2 * z.rows * z.steps * (4 * size * (z.n + z.p) + 4 * z.n * z.p)
    moved = z.rows * z.steps * (2 * PASSES * z.n + 8 * z.p + 8 * size) + 2 * z.rows * chunks * z.n * z.p
    return Cost(flops, moved * z.itemsize, calls(z, MATRICES, CALLS, LOOP))


def _group(x, d, beta, b, c, w, u, *seen, log: bool, before: bool):
    """One group: x [B,H,n,p], d [B,H,T,n | 1], beta [B,H,T,1], b, c, u [B,H,T,n], w [B,H,T,p], and v as u if it is
    another -> y, x. Sizes 1 of B and H broadcast."""
    T = w.shape[-2]
    d, beta, b, c, w, u, *seen = in_chunks(x.dtype, 0.0 if log else 1.0, d, beta, b, c, w, u, *seen)
    products = _alike if d.shape[-1] == 1 else _per_channel
    P, reads, columns, whole = products(Log(d) if log else d, seen[0] if seen else u, c, b, beta * u, before)
    (written, erased, y_written, y_erased), ((v, v_start), (c, c_start)) = P, reads
    (b, b_end), (u, u_end) = columns
    parts = (whole, inverse(erased), written @ w, v, v_start, b.mT @ (b_end * w), u.mT, u_end)
    states, z, x = _carried(x, *parts)
    y = torch.addcmul(y_written @ w - y_erased @ z, c_start, c @ states)
    return in_time(y, T), x


def _carried(x, *parts):
    """The states before every chunk, what every step erases, and the last state: z = T (known + start v x), then
    x <- whole x + writes - u (end z)."""
    states, erased = [], []
    for whole, T, known, v, start, writes, u, end in zip(*(a.unbind(-3) for a in parts), strict=True):
        z = T @ torch.addcmul(known, start, v @ x)
        states.append(x)
        erased.append(z)
        x = torch.addcmul(writes - u @ (end * z), whole, x)
    return torch.stack(states, -3), torch.stack(erased, -3), x


def _per_channel(d, v, c, b, u, before: bool):
    """Of the rows v and c and the columns b and u: the decayed products [..., C, C], row by row; rows as the state sees
    them, with what is still to multiply, and columns likewise; the whole decay."""
    after = c if before else c * value(d)
    rows, columns = (torch.stack(torch.broadcast_tensors(*pair), -3) for pair in ((v, after), (b, u)))
    P, rows, seen, whole = decayed(d, rows, columns)
    P = [a for row in P.unbind(-4) for a in row.unbind(-2)]
    if not before:  # what a step writes and erases itself
        P[2:] = (a + (c * column).sum(-1).diag_embed() for a, column in zip(P[2:], (b, u), strict=True))
    one = whole.new_ones(whole.shape[-2], 1, 1)
    return P, [(a, one) for a in rows.unbind(-3)], [(a, one) for a in seen.unbind(-3)], whole[..., None]


def _alike(d, v, c, b, u, before: bool):
    """The same where all channels decay alike: the decays are those of a scalar, once for all channels."""
    if isinstance(d, Log) and not d.log.is_complex():
        g = d.log[..., 0]
        start, end = (a[..., None] for a in start_and_end(g))
        P = decayed_products(g, (False, not before), (v, c), (b, u))
    else:
        d, size = value(d), value(d).shape[-2]
        one = d.new_ones(1, size, 1)
        E, start, end, _ = decayed(d, one, one)
        E, start, end = E[..., 0, :, 0, :], start[..., 0, :, :] * d, end[..., 0, :, :]
        D = E if before else E * d + torch.eye(size, dtype=d.dtype, device=d.device)
        P = [row @ column.mT * decay for row, decay in ((v, E), (c, D)) for column in (b, u)]
    first = earlier(start, 1.0)
    return P, [(v, first), (c, first if before else start)], [(b, end), (u, end)], start[..., -1:, :]


@kernel("chunked_low_rank", covers=DiagonalPlusLowRank, cost=cost)
def run(A: DiagonalPlusLowRank, b: torch.Tensor, c: torch.Tensor, u: torch.Tensor, x: torch.Tensor, before: bool):
    """Signature and shapes: see registry.py. Memory for backward: the inputs, and one state per chunk."""
    log = isinstance(A.d, Log)
    d, beta = (u.new_full((1, 1, 1, 1), a) if is_number(a) else a for a in (A.d.log if log else A.d, A.b))
    vectors = (A.u,) if A.v is A.u else (A.u, A.v)
    over_time = [a.expand(-1, u.shape[1], -1, -1).transpose(1, 2) for a in (d, beta, b, c, u, *vectors)]
    y, x = over_chunks(partial(_group, log=log, before=before), group(x, MATRICES), x, *over_time)
    return y.transpose(1, 2), x
