"""The gradients of rows, columns and a scalar decay, of every chunk at once, from the states that walk.py leaves.

With E the decays between read and write, D_(i) from the chunk's start to i and D_(j) from j to its end:

    dr_i = D_(i) S dy_i + sum_j (dy_i^T u_j) E_ij k_j        dk_j = D_(j) dS u_j + sum_i (dy_i^T u_j) E_ij r_i

and the gradient of a log decay is the sum of what passes over it: reads from the chunk's start, writes to its end,
pairs, and the state from end to end.
"""

import triton
import triton.language as tl

from .tiles import across, between, chunk_at, column, down, log2


@triton.jit
def gradients(
    rows, r_b, r_t, r_h,
    columns, k_b, k_t, k_h,
    drive, u_b, u_t, u_h,
    dy, dy_b, dy_t, dy_h,
    g, g_b, g_t, g_h,
    states, dstates, drows, dcolumns, dg, table, owners,
    T, H, n, p, units,
    C: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PACKED: tl.constexpr, BEFORE: tl.constexpr,
    KIND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Grid: chunks of all sequences, H. drows, dcolumns [B, T, H, n], dg [B, T, H, 1]; states, dstates [chunks, H, n,
    p]."""
    place, h = tl.program_id(0).to(tl.int64), tl.program_id(0) % H
    batch, t0, limit = chunk_at(table, owners, place // H, T, units, C, PACKED)
    i, d = tl.arange(0, C), tl.arange(0, N)
    at_u, at_y = drive + batch * u_b + h * u_h + t0 * u_t, dy + batch * dy_b + h * dy_h + t0 * dy_t
    place *= n * p
    dM, dM_T = tl.zeros([C, C], tl.float32), tl.zeros([C, C], tl.float32)
    dr, dk = tl.zeros([C, N], tl.float32), tl.zeros([C, N], tl.float32)
    passing = 0.0
    for first in range(0, p, P):
        j = first + tl.arange(0, P)
        u, u_T = down(at_u, i, u_t, j, limit, p), across(at_u, i, u_t, j, limit, p)
        y, y_T = down(at_y, i, dy_t, j, limit, p), across(at_y, i, dy_t, j, limit, p)
        inside = (j < p)[:, None] & (d < n)[None, :]
        S = tl.load(states + place + d[None, :] * p + j[:, None], mask=inside, other=0.0)  # [P, N]
        dS = tl.load(dstates + place + d[None, :] * p + j[:, None], mask=inside, other=0.0)
        u, u_T, y, y_T = u.to(KIND), u_T.to(KIND), y.to(KIND), y_T.to(KIND)
        dM += tl.dot(y, u_T, input_precision=PRECISION)
        dM_T += tl.dot(u, y_T, input_precision=PRECISION)
        dr += tl.dot(y, S.to(KIND), input_precision=PRECISION)
        dk += tl.dot(u, dS.to(KIND), input_precision=PRECISION)
        passing += tl.sum(S.to(tl.float32) * dS.to(tl.float32))
    at_g = g + batch * g_b + h * g_h + t0 * g_t
    g_row = log2(column(at_g, i - BEFORE, g_t, limit))
    until = tl.exp2(tl.cumsum(g_row, 0))
    after = tl.exp2(tl.cumsum(log2(column(at_g, i + 1, g_t, limit)), 0, reverse=True))
    passing *= tl.exp2(tl.sum(log2(column(at_g, i, g_t, limit)), 0))
    at_r, at_k = rows + batch * r_b + h * r_h + t0 * r_t, columns + batch * k_b + h * k_h + t0 * k_t
    r, k = down(at_r, i, r_t, d, limit, n), down(at_k, i, k_t, d, limit, n)
    k_T = across(at_k, i, k_t, d, limit, n)
    dr, dk = dr * until[:, None], dk * after[:, None]
    of_rows, of_columns = tl.sum(dr * r, 1), tl.sum(dk * k, 1)
    dM *= between(g_row, i, BEFORE, False)
    dM_T *= between(g_row, i, BEFORE, True)
    pairs = dM * tl.dot(r.to(KIND), k_T.to(KIND), input_precision=PRECISION)
    later = (i[None, :] >= i[:, None] + BEFORE).to(KIND)
    over = tl.dot(later, pairs.to(KIND), input_precision=PRECISION)  # reads at a step or later, of the write at j
    dr += tl.dot(dM.to(KIND), k.to(KIND), input_precision=PRECISION)
    dk += tl.dot(dM_T.to(KIND), r.to(KIND), input_precision=PRECISION)
    found = passing + tl.sum(tl.where(i[None, :] >= i[:, None] + BEFORE, of_rows[None, :], 0.0), 1)
    found += tl.sum(tl.where(i[None, :] < i[:, None], of_columns[None, :] + over, 0.0), 1)
    to = (batch * T + t0) * H + h + i * H
    inside = (i < limit)[:, None] & (d < n)[None, :]
    tl.store(drows + to[:, None] * n + d[None, :], dr.to(drows.dtype.element_ty), mask=inside)
    tl.store(dcolumns + to[:, None] * n + d[None, :], dk.to(dcolumns.dtype.element_ty), mask=inside)
    tl.store(dg + to, found.to(dg.dtype.element_ty), mask=i < limit)
