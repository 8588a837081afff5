"""One decay per channel in chunks of 64: matrix products inside a chunk, one state from chunk to chunk.

    S <- diag(d_t) S + b_t u_t^T      y_t = c_t^T S      (before: y_t = c_t^T of the S that was)

Inside a chunk y = P u + (c decayed from its start) S, with P_ij = c_i^T (d_{j+1} o ... o d_i o b_j) by doubling
(decays.py): decays of whole segments only, never a quotient. So d may be a Log, -oo included, or any tensor.
"""

from __future__ import annotations

from functools import partial

import torch

from dsf.operators import Diagonal
from dsf.values import Log, is_number

from ..chunks import over_chunks
from ..costs import Cost, Sizes
from ..decays import decayed
from ..grouped import CHUNK, calls, carried, group, in_chunks, in_time
from ..registry import kernel

MATRICES = 8  # of a chunk, at one time
CALLS, LOOP = 220, 3  # operations of a group, and of each of its chunks for the state
PASSES = 24  # over the rows and columns of a chunk: two or three for each of its six levels


def cost(z: Sizes) -> Cost:
    """Products of C x C with n and p entries per chunk, and two of the state; rows and columns move at every level."""
    size = min(CHUNK, z.steps)
    chunks = -(-z.steps // CHUNK)
    flops = 2 * z.rows * z.steps * (size * (z.n + z.p) + 2 * z.n * z.p)
    moved = z.rows * z.steps * (2 * PASSES * z.n + z.p * 2 + size) + 2 * z.rows * chunks * z.n * z.p
    return Cost(flops, moved * z.itemsize, calls(z, MATRICES, CALLS, LOOP))


def _group(x, d, b, c, u, *, log: bool, before: bool):
    """One group: x [B,H,n,p], d [B,H,T,n], b, c [B,H,T,n], u [B,H,T,p] -> y, x. Sizes 1 of B, H (and n of d)
    broadcast."""
    T = u.shape[-2]
    d, b, c, u = in_chunks(x.dtype, 0.0 if log else 1.0, d, b, c, u)
    rows = c if before else c * (d.exp() if log else d)
    P, rows, columns, whole = decayed(Log(d) if log else d, rows[..., None, :, :], b[..., None, :, :])
    P, rows, columns = P[..., 0, :, 0, :], rows.squeeze(-3), columns.squeeze(-3)
    states, x = carried(x, whole[..., None], columns.mT @ u)
    y = P @ u + rows @ states
    if not before:
        y = y + (c * b).sum(-1, keepdim=True) * u
    return in_time(y, T), x


@kernel("chunked_diagonal", covers=Diagonal, cost=cost)
def run(A: Diagonal, b: torch.Tensor, c: torch.Tensor, u: torch.Tensor, x: torch.Tensor, before: bool):
    """Signature and shapes: see registry.py. Memory for backward: the inputs, and one state per chunk."""
    log = isinstance(A.d, Log)
    d = A.d.log if log else u.new_full((1, 1, 1, 1), A.d) if is_number(A.d) else A.d
    over_time = [a.expand(-1, u.shape[1], -1, -1).transpose(1, 2) for a in (d, b, c, u)]
    y, x = over_chunks(partial(_group, log=log, before=before), group(x, MATRICES), x, *over_time)
    return y.transpose(1, 2), x
