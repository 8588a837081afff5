"""What a chunk of a decay minus a rank-one matrix does to a state, without its drive: of every chunk at once.

What a step erases is z_t = v_t^T S_{t-1}: S <- D S + B^T w - U^T z and y = C S + P_cb w - P_cu z, where rows C, V are
decayed from the chunk's start and columns B, U to its end, and (I + P_vu) z = V S + P_vb w. With T = (I + P_vu)^-1:

    W = T V    X = T P_vb    z = W S + X w        y = (C - P_cu W) S + (P_cb - P_cu X) w
                                                  S <- D S - U^T (W S) + (B - X^T U)^T w
"""

import triton
import triton.language as tl

from .low_rank_channels import pairs_of
from .low_rank_tiles import inverse, product
from .tiles import across, between, chunk_at, column, down, log2


@triton.jit
def prepare(
    read, c_b, c_t, c_h,
    seen, v_b, v_t, v_h,
    write, b_b, b_t, b_h,
    erase, u_b, u_t, u_h,
    beta, s_b, s_t, s_h,
    g, g_b, g_t, g_h,
    rows, columns, W, U, pairs, whole, turned, known, reached, table, owners,
    T, H, n, units,
    C: tl.constexpr, N: tl.constexpr, PACKED: tl.constexpr,
    BEFORE: tl.constexpr, CHANNELS: tl.constexpr, KEEP: tl.constexpr, KIND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Grid: chunks of all sequences, H. rows, columns [B, T, H, n], W, U [chunks, H, C, n], pairs [chunks, H, C, C],
    whole [chunks, H, n]; KEEP: T, X and P_cu too, to turned, known and reached, as pairs. g [B, T, H, 1], or CHANNELS
    [B, T, H, n]."""
    place, h = tl.program_id(0).to(tl.int64), tl.program_id(0) % H
    batch, t0, limit = chunk_at(table, owners, place // H, T, units, C, PACKED)
    if limit <= 0:
        return
    i, d = tl.arange(0, C), tl.arange(0, N)
    at_g, at_s = g + batch * g_b + h * g_h + t0 * g_t, beta + batch * s_b + h * s_h + t0 * s_t
    at_c, at_v = read + batch * c_b + h * c_h + t0 * c_t, seen + batch * v_b + h * v_h + t0 * v_t
    at_b, at_u = write + batch * b_b + h * b_h + t0 * b_t, erase + batch * u_b + h * u_h + t0 * u_t
    scale = column(at_s, i, s_t, limit).to(tl.float32)
    A, X = tl.zeros([C, C], tl.float32), tl.zeros([C, C], tl.float32)
    reach, P = tl.zeros([C, C], tl.float32), tl.zeros([C, C], tl.float32)
    if CHANNELS:
        LEVELS: tl.constexpr = 6 if C == 64 else 5 if C == 32 else 4
        for first in range(0, n, N):
            v, c = down(at_v + first, i, v_t, d, limit, n - first), down(at_c + first, i, c_t, d, limit, n - first)
            u, b = down(at_u + first, i, u_t, d, limit, n - first), down(at_b + first, i, b_t, d, limit, n - first)
            own = log2(down(at_g + first, i, g_t, d, limit, n - first))
            if not BEFORE:  # a step's own write does not decay
                c = c.to(tl.float32)
                here = i[:, None] == i[None, :]
                reach += tl.where(here, tl.sum(c * u, 1)[:, None], 0.0)
                P += tl.where(here, tl.sum(c * b, 1)[:, None], 0.0)
                c *= tl.exp2(own)
            A, X, reach, P = pairs_of(v, c, b, u, own, i, A, X, reach, P, LEVELS, KIND, PRECISION)
        turn = inverse(A * scale[None, :], C)
        X = product(turn, X, KIND, PRECISION).to(KIND)
    else:
        g_before, own = log2(column(at_g, i - 1, g_t, limit)), tl.exp2(log2(column(at_g, i, g_t, limit)))
        E = between(g_before, i, 1, False)
        for first in range(0, n, N):
            v = down(at_v + first, i, v_t, d, limit, n - first)
            A += product(v, across(at_u + first, i, u_t, d, limit, n - first), KIND, PRECISION)
            X += product(v, across(at_b + first, i, b_t, d, limit, n - first), KIND, PRECISION)
        turn = inverse(A * E * scale[None, :], C)
        X = product(turn, X * E, KIND, PRECISION).to(KIND)
        for first in range(0, n, N):
            c = down(at_c + first, i, c_t, d, limit, n - first)
            reach += product(c, across(at_u + first, i, u_t, d, limit, n - first), KIND, PRECISION)
            P += product(c, across(at_b + first, i, b_t, d, limit, n - first), KIND, PRECISION)
        E = between(log2(column(at_g, i - BEFORE, g_t, limit)), i, BEFORE, False)
        reach, P = reach * E, P * E
        until = tl.exp2(tl.cumsum(g_before, 0))[:, None]
        after = tl.exp2(tl.cumsum(log2(column(at_g, i + 1, g_t, limit)), 0, reverse=True))[None, :]
        own = own[:, None]
        total = tl.exp2(tl.sum(log2(column(at_g, i, g_t, limit)), 0)) + tl.zeros([N], tl.float32)
    turn = turn.to(KIND)
    reach = (reach * scale[None, :]).to(KIND)
    P -= product(reach, X, KIND, PRECISION)
    square = place * C * C + i[:, None] * C + i[None, :]
    tl.store(pairs + square, P.to(pairs.dtype.element_ty))
    if KEEP:
        tl.store(turned + square, turn.to(turned.dtype.element_ty))
        tl.store(known + square, X.to(known.dtype.element_ty))
        tl.store(reached + square, reach.to(reached.dtype.element_ty))
    start = ((batch * T + t0) * H + h) * n
    for first in range(0, n, N):
        left = n - first
        if CHANNELS:
            own = tl.exp2(log2(down(at_g + first, i, g_t, d, limit, left)))
            until = tl.exp2(tl.cumsum(log2(down(at_g + first, i - 1, g_t, d, limit, left)), 0))
            after = tl.exp2(tl.cumsum(log2(across(at_g + first, i + 1, g_t, d, limit, left)), 1, reverse=True))
            total = tl.exp2(tl.sum(log2(down(at_g + first, i, g_t, d, limit, left)), 0))
        v = down(at_v + first, i, v_t, d, limit, left)
        erases = product(turn, v * until, KIND, PRECISION).to(KIND)
        c = down(at_c + first, i, c_t, d, limit, left) * until
        if not BEFORE:
            c *= own
        r = c - product(reach, erases, KIND, PRECISION)
        to, at, inside = place * C * n + first, i[:, None] * n + d[None, :], (i < C)[:, None] & (d < left)[None, :]
        tl.store(W + to + at, erases.to(W.dtype.element_ty), mask=inside)
        of_t, inside = start + first + i[:, None] * (H * n) + d[None, :], (i < limit)[:, None] & (d < left)[None, :]
        tl.store(rows + of_t, r.to(rows.dtype.element_ty), mask=inside)
        u = across(at_u + first, i, u_t, d, limit, left) * (scale[None, :] * after)
        b = across(at_b + first, i, b_t, d, limit, left) * after - product(u, X, KIND, PRECISION)
        at, inside = i[None, :] * n + d[:, None], (i < C)[None, :] & (d < left)[:, None]
        tl.store(U + to + at, u.to(U.dtype.element_ty), mask=inside)
        of_t, inside = start + first + i[None, :] * (H * n) + d[:, None], (i < limit)[None, :] & (d < left)[:, None]
        tl.store(columns + of_t, b.to(columns.dtype.element_ty), mask=inside)
        tl.store(whole + place * n + first + d, total, mask=d < left)
