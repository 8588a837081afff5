"""The other way through dense.py. L, the gradient of S_t, gains c_t dy_t^T, gives

    db_t = L u_t        du_t = L^T b_t        dM_t = L S_{t-1}^T        dc_t = S_t dy_t

and becomes M_t^T L (before: gains c_t dy_t^T after that, and dc_t = S_{t-1} dy_t). The states of EVERY steps are made
again from the one that was kept, and pass through memory.
"""

import triton
import triton.language as tl

from .dense import segments_of
from .tiles import square


@triton.jit
def summary_backward(
    M, M_b, M_t, M_h, M_i, M_j,
    rows, r_b, r_t, r_h,
    dy, y_b, y_t, y_h,
    ends, products, table,
    T, H, n, p, per,
    N: tl.constexpr, P: tl.constexpr, EVERY: tl.constexpr, BEFORE: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    """Of every segment, backward in time: what it leaves of a gradient that is zero after it, and what it multiplies
    one by. Grid: N H, blocks of p and of n, segments."""
    head, block, segment = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    number, h = head // H, head % H
    batch, begun, length, segments, _, place = segments_of(table, number, T, per, EVERY, PACKED)
    i, j, width = tl.arange(0, N), block * P + tl.arange(0, P), tl.full([], 0, tl.int32) + p
    begin, end = segment * per, tl.minimum(segment * per + per, length)
    L = tl.zeros([N, P], tl.float32)
    if block >= tl.cdiv(p, P):
        j, width = j - tl.cdiv(p, P) * P, width - width
        L = tl.where(i[:, None] == j[None, :], 1.0, 0.0)
    at_M = M + batch * M_b + h * M_h + i[None, :] * M_i + i[:, None] * M_j  # transposed
    at_r, at_y = rows + batch * r_b + h * r_h + i, dy + batch * y_b + h * y_h + j
    t, there = begun + end - 1, i < tl.where(begin < end, n, 0)
    A = tl.load(at_M + t * M_t, mask=there[:, None] & (i < n)[None, :], other=0.0)
    r = tl.load(at_r + t * r_t, mask=there, other=0.0)
    g = tl.load(at_y + t * y_t, mask=j < tl.where(begin < end, width, 0), other=0.0)
    for turn in range(end - begin):
        t, more = begun + end - 2 - turn, turn + 1 < end - begin
        there = i < tl.where(more, n, 0)
        A_next = tl.load(at_M + t * M_t, mask=there[:, None] & (i < n)[None, :], other=0.0)
        r_next = tl.load(at_r + t * r_t, mask=there, other=0.0)
        g_next = tl.load(at_y + t * y_t, mask=j < tl.where(more, width, 0), other=0.0)
        gained = r.to(tl.float32)[:, None] * g.to(tl.float32)[None, :]
        if BEFORE:
            L = tl.dot(A.to(tl.float32), L, input_precision="tf32x3") + gained
        else:
            L = tl.dot(A.to(tl.float32), L + gained, input_precision="tf32x3")
        A, r, g = A_next, r_next, g_next
    at, width = (place + segment) * H + h, tl.where(segment < segments, width, 0)
    inside = (i < n)[:, None] & (j < width)[None, :]
    tl.store(ends + at * n * p + i[:, None] * p + j[None, :], L, mask=inside)
    inside = (i < n)[:, None] & (j < tl.where((block >= tl.cdiv(p, P)) & (segment < segments), n, 0))[None, :]
    tl.store(products + at * n * n + i[:, None] * n + j[None, :], L, mask=inside)


@triton.jit
def backward(
    M, M_b, M_t, M_h, M_i, M_j,
    rows, r_b, r_t, r_h,
    columns, k_b, k_t, k_h,
    drive, u_b, u_t, u_h,
    dy, y_b, y_t, y_h,
    dlast, ends, products, states, scratch, dM, drows, dcolumns, du, dstart, table,
    T, H, n, p, per,
    N: tl.constexpr, P: tl.constexpr, EVERY: tl.constexpr, BEFORE: tl.constexpr, PACKED: tl.constexpr,
    CONSTANT: tl.constexpr, REST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """drows, dcolumns [blocks of p, B, T, H, n]; dM [blocks of p, B, T, H, n, n], CONSTANT: [blocks of p, segments, N,
    H, n, n]; scratch [segments, blocks of p, H, EVERY, n, P]. Grid: N H, blocks of p, segments (of whole EVERYs)."""
    head, block, segment, heads = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2), tl.num_programs(0)
    number, h = head // H, head % H
    batch, begun, length, segments, unit, place = segments_of(table, number, T, per, EVERY, PACKED)
    i, j = tl.arange(0, N), block * P + tl.arange(0, P)
    begin, end = segment * per, tl.minimum(segment * per + per, length)
    L = square(dlast + head * n * p, i, n, j, p)
    if REST:
        for turn in range(segments - 1 - segment):
            at = (place + segments - 1 - turn) * H + h
            by = square(products + at * n * n, i, n, i, n)
            L = tl.dot(by, L, input_precision="tf32x3") + square(ends + at * n * p, i, n, j, p)
    at_M = M + batch * M_b + h * M_h
    at_r, at_k = rows + batch * r_b + h * r_h + i, columns + batch * k_b + h * k_h + i
    at_u, at_y = drive + batch * u_b + h * u_h + j, dy + batch * y_b + h * y_h + j
    own = scratch + (((place + segment) * tl.num_programs(1) + block) * H + h) * EVERY * n * P
    local = tl.arange(0, P)
    PART: tl.constexpr = 32 if PRECISION == "tf32x3" and N > 32 and not CONSTANT else N  # more overflows registers
    of_vectors = (block.to(tl.int64) * (1 if PACKED else heads // H) + batch) * T * H + h
    of_p = (batch * T * H + h) * p + j
    square_mask = (i < n)[:, None] & (i < n)[None, :]
    whole = tl.zeros([N, N], tl.float32)
    chunks = tl.cdiv(end - begin, EVERY)
    for turn in range(chunks):
        first = begin + (chunks - 1 - turn) * EVERY
        length = tl.minimum(end - first, EVERY)
        S = square(states + ((unit + first // EVERY) * H + h) * n * p, i, n, j, p)
        for s in tl.range(length, disable_licm=True):  # see dense.py
            t = begun + first + s
            A = tl.load(at_M + t * M_t + i[:, None] * M_i + i[None, :] * M_j, mask=square_mask, other=0.0)
            k, u = tl.load(at_k + t * k_t, mask=i < n, other=0.0), tl.load(at_u + t * u_t, mask=j < p, other=0.0)
            g = tl.load(at_y + t * y_t, mask=j < p, other=0.0).to(tl.float32)
            tl.store(own + (s * n + i[:, None]) * P + local[None, :], S, mask=(i < n)[:, None] & (local < P)[None, :])
            if BEFORE:
                dr = tl.sum(S * g[None, :], 1)
            k, u = k.to(tl.float32), u.to(tl.float32)
            S = tl.dot(A.to(tl.float32), S, input_precision="tf32x3") + k[:, None] * u[None, :]
            if not BEFORE:
                dr = tl.sum(S * g[None, :], 1)
            tl.store(drows + (of_vectors + t * H) * n + i, dr.to(drows.dtype.element_ty), mask=i < n)
        tl.debug_barrier()  # what threads read below, others wrote
        for back in tl.range(length, disable_licm=True):
            s = length - 1 - back
            t = begun + first + s
            A = tl.load(at_M + t * M_t + i[None, :] * M_i + i[:, None] * M_j, mask=square_mask, other=0.0)
            k, u = tl.load(at_k + t * k_t, mask=i < n, other=0.0), tl.load(at_u + t * u_t, mask=j < p, other=0.0)
            r, g = tl.load(at_r + t * r_t, mask=i < n, other=0.0), tl.load(at_y + t * y_t, mask=j < p, other=0.0)
            if PART == N:
                S_T = tl.load(own + (s * n + i[None, :]) * P + local[:, None], mask=(i < n)[None, :], other=0.0)
            gained = r.to(tl.float32)[:, None] * g.to(tl.float32)[None, :]
            if not BEFORE:
                L += gained
            dk, of_u = tl.sum(L * u.to(tl.float32)[None, :], 1), tl.sum(L * k.to(tl.float32)[:, None], 0)
            tl.store(dcolumns + (of_vectors + t * H) * n + i, dk.to(dcolumns.dtype.element_ty), mask=i < n)
            tl.store(du + of_p + t * H * p, of_u.to(du.dtype.element_ty), mask=j < p)
            if CONSTANT:
                whole = tl.dot(L, S_T, whole, input_precision=PRECISION)
            else:
                for part in range(0, N, PART):
                    q = part + tl.arange(0, PART)
                    if PART < N:
                        S_T = tl.load(own + (s * n + q[None, :]) * P + local[:, None], mask=(q < n)[None, :], other=0.0)
                    of_M = tl.dot(L, S_T, input_precision=PRECISION)
                    to = dM + (of_vectors + t * H) * n * n + i[:, None] * n + q[None, :]
                    tl.store(to, of_M.to(dM.dtype.element_ty), mask=(i < n)[:, None] & (q < n)[None, :])
            L = tl.dot(A.to(tl.float32), L, input_precision="tf32x3")
            if BEFORE:
                L += gained
        tl.debug_barrier()
    inside = (i < n)[:, None] & (j < tl.where(begin == 0, p, 0))[None, :]
    tl.store(dstart + head * n * p + i[:, None] * p + j[None, :], L, mask=inside)
    if CONSTANT:
        to = dM + ((block * tl.num_programs(2) + segment) * heads + head) * n * n + i[:, None] * n + i[None, :]
        tl.store(to, whole, mask=square_mask)
