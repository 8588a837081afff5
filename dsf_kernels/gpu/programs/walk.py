"""A state taken through chunks of time, in either direction: products of matrices per chunk, the state in registers.

    y_i = r_i^T D_(i) S + sum_j P_ij u_j        S <- D S - V^T (W S) + sum_j D_(j) k_j u_j^T

r rows, k columns [C, n], u [C, p], S [n, p]; D_(i) from the chunk's start to i, D_(j) from j to its end, D over all of
it. Backward in time it is the transpose: rows and columns change places, W and V too, what is read is the gradient of
u, and S that of the state.

Decays are logarithms, summed along segments and never subtracted: -oo, a reset, is legal.
"""

import triton
import triton.language as tl

from .tiles import UNIT, across, between, column, down, log2, sequence, square


@triton.jit
def through(
    head, block, segment, heads,
    rows, r_b, r_t, r_h,
    columns, k_b, k_t, k_h,
    drive, u_b, u_t, u_h,
    g, g_b, g_t, g_h,
    W, V, whole, pairs, start, ends, products, y, last, states, erased, table,
    T, H, n, p, units, per, segments,
    C: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PACKED: tl.constexpr,
    READY: tl.constexpr, RANK: tl.constexpr, BEFORE: tl.constexpr, REVERSE: tl.constexpr,
    SUMMARY: tl.constexpr, REST: tl.constexpr, READ: tl.constexpr, KEEP: tl.constexpr,
    KIND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """P columns of the state of one head of a sequence through one segment of `per` chunks.

    READY: rows and columns are decayed already, D is in `whole` [chunks, H, n], P in `pairs` [chunks, H, C, C]; else
    all is made here, of scalar decays g [B, T, H, 1]. RANK: there are W and V [chunks, H, C, n]. SUMMARY: from zero;
    what is left to `ends` [segments, N, H, n, p], D (RANK: the matrix by which the state is multiplied, in blocks of
    columns after those of p) to `products`. REST: from what the segments before leave. READ: y [B, T, H, p] is wanted.
    KEEP: the state before each chunk, to `states` [chunks, H, n, p], and with RANK what W reads of it, to `erased`
    [B, T, H, p]. start, last [N, H, n, p], of N sequences: those of the batch, or of a pack, whose chunks lie one
    behind the other.
    """
    number, h = head // H, head % H
    batch, t_first, length, unit = sequence(table, number, T, units, PACKED)
    chunks, first_chunk = tl.cdiv(length, C), unit * (UNIT // C)
    i, d, j = tl.arange(0, C), tl.arange(0, N), block * P + tl.arange(0, P)
    width = p
    if SUMMARY:
        S = tl.zeros([N, P], tl.float32)
        if RANK:
            of_p = tl.cdiv(p, P)
            if block >= of_p:
                j, width = j - of_p * P, 0
                S = tl.where(d[:, None] == j[None, :], 1.0, 0.0)
    else:
        S = square(start + head * n * p, d, n, j, p)
    if REST:
        for earlier in range(segment):
            at = earlier * heads + head
            left = square(ends + at * n * p, d, n, j, p)
            if RANK:
                M = square(products + at * n * n, d, n, d, n)
                S = tl.dot(M, S, input_precision="tf32x3") + left
            elif READY:
                S = tl.load(products + at * n + d, mask=d < n, other=0.0)[:, None] * S + left
            else:
                S = tl.load(products + at) * S + left
    total = tl.full([N], 1.0, tl.float32)  # by which a state is multiplied
    # addresses are made where they are used: before the loop they would take the registers of the state
    for step in tl.range(segment * per, min((segment + 1) * per, chunks), disable_licm=True):
        chunk = step
        if REVERSE:
            chunk = chunks - 1 - step
        place, t0 = (first_chunk + chunk) * H + h, t_first + chunk * C
        limit = min(length - chunk * C, C)
        if KEEP:
            inside = (d < n)[:, None] & (j < p)[None, :]
            tl.store(states + place * n * p + d[:, None] * p + j[None, :], S.to(states.dtype.element_ty), mask=inside)
        u = down(drive + batch * u_b + h * u_h + t0 * u_t, i, u_t, j, limit, width).to(KIND)
        k = across(columns + batch * k_b + h * k_h + t0 * k_t, i, k_t, d, limit, n)
        at_g = g + batch * g_b + h * g_h + t0 * g_t
        if READ:
            r = down(rows + batch * r_b + h * r_h + t0 * r_t, i, r_t, d, limit, n)
            if READY:
                if REVERSE:
                    M = tl.load(pairs + place * C * C + i[None, :] * C + i[:, None])
                else:
                    M = tl.load(pairs + place * C * C + i[:, None] * C + i[None, :])
            else:
                M = tl.dot(r.to(KIND), k.to(KIND), input_precision=PRECISION)
                M *= between(log2(column(at_g, i - BEFORE, g_t, limit)), i, BEFORE, REVERSE)
        if READY:
            D = tl.load(whole + place * n + d, mask=d < n, other=0.0)
        else:
            D = tl.full([N], 1.0, tl.float32) * tl.exp2(tl.sum(log2(column(at_g, i, g_t, limit)), 0))
            until = tl.exp2(tl.cumsum(log2(column(at_g, i - BEFORE, g_t, limit)), 0))
            after = tl.exp2(tl.cumsum(log2(column(at_g, i + 1, g_t, limit)), 0, reverse=True))
            if REVERSE:
                until, after = after, until
        if SUMMARY:
            total *= D
        if READ:
            found = tl.dot(r.to(KIND), S.to(KIND), input_precision=PRECISION)
            if not READY:
                found *= until[:, None]
            found += tl.dot(M.to(KIND), u, input_precision=PRECISION)
            to = ((batch * T + t0) * H + h) * p + i[:, None] * (H * p) + j[None, :]
            tl.store(y + to, found.to(y.dtype.element_ty), mask=(i < limit)[:, None] & (j < p)[None, :])
        if not READY:  # scales what is smaller, so that rows and columns are factors as they lie
            u = (u * after[:, None]).to(KIND)
        now = D[:, None] * S + tl.dot(k.to(KIND), u, input_precision=PRECISION)
        if RANK:
            w = down(W + place * C * n, i, n, d, C, n)
            v = across(V + place * C * n, i, n, d, C, n)
            from_state = tl.dot(w.to(KIND), S.to(KIND), input_precision=PRECISION)
            now -= tl.dot(v.to(KIND), from_state.to(KIND), input_precision=PRECISION)
            if KEEP:
                to = ((batch * T + t0) * H + h) * p + i[:, None] * (H * p) + j[None, :]
                inside = (i < limit)[:, None] & (j < p)[None, :]
                tl.store(erased + to, from_state.to(erased.dtype.element_ty), mask=inside)
        S = now
    inside = (d < n)[:, None] & (j < width)[None, :]
    if SUMMARY:
        at = segment * heads + head
        tl.store(ends + at * n * p + d[:, None] * p + j[None, :], S, mask=inside)
        if RANK:
            if block >= tl.cdiv(p, P):
                inside = (d < n)[:, None] & (j < n)[None, :]
                tl.store(products + at * n * n + d[:, None] * n + j[None, :], S, mask=inside)
        elif block == 0:
            if READY:
                tl.store(products + at * n + d, total, mask=d < n)
            else:
                tl.store(products + at, tl.max(total, 0))
    elif segment == segments - 1:
        tl.store(last + head * n * p + d[:, None] * p + j[None, :], S, mask=inside)


@triton.jit
def walk(
    rows, r_b, r_t, r_h,
    columns, k_b, k_t, k_h,
    drive, u_b, u_t, u_h,
    g, g_b, g_t, g_h,
    W, V, whole, pairs, start, ends, products, y, last, table,
    T, H, n, p, units, per, segments,
    C: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PACKED: tl.constexpr,
    READY: tl.constexpr, RANK: tl.constexpr, BEFORE: tl.constexpr,
    SUMMARY: tl.constexpr, REST: tl.constexpr, KIND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Forward in time. Grid: N H, blocks of p (and of n, where a summary with RANK is wanted), segments."""
    through(
        tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2), tl.num_programs(0),
        rows, r_b, r_t, r_h, columns, k_b, k_t, k_h, drive, u_b, u_t, u_h, g, g_b, g_t, g_h,
        W, V, whole, pairs, start, ends, products, y, last, y, y, table,
        T, H, n, p, units, per, segments,
        C, N, P, PACKED, READY, RANK, BEFORE, False, SUMMARY, REST, not SUMMARY, False, KIND, PRECISION,
    )  # fmt: skip


@triton.jit
def both_ways(
    rows, r_b, r_t, r_h,
    columns, k_b, k_t, k_h,
    drive, u_b, u_t, u_h,
    dy, dy_b, dy_t, dy_h,
    g, g_b, g_t, g_h,
    W, V, whole, pairs, start, ends, products, dlast, dends, dproducts, dstart, du, states, dstates, erased, derased,
    table, T, H, n, p, units, per, segments,
    C: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PACKED: tl.constexpr,
    READY: tl.constexpr, RANK: tl.constexpr, BEFORE: tl.constexpr,
    SUMMARY: tl.constexpr, REST: tl.constexpr, KIND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Side by side, forward in time the states before every chunk, and backward the gradient of the state after it,
    that of the drive and that of the first state. Grid: as of `walk`, segments twice.
    """
    segment = tl.program_id(2)
    if segment < segments:
        through(
            tl.program_id(0).to(tl.int64), tl.program_id(1), segment, tl.num_programs(0),
            rows, r_b, r_t, r_h, columns, k_b, k_t, k_h, drive, u_b, u_t, u_h, g, g_b, g_t, g_h,
            W, V, whole, pairs, start, ends, products, du, du, states, erased, table,
            T, H, n, p, units, per, segments + 1,
            C, N, P, PACKED, READY, RANK, BEFORE, False, SUMMARY, REST, False, not SUMMARY, KIND, PRECISION,
        )  # fmt: skip
    else:
        through(
            tl.program_id(0).to(tl.int64), tl.program_id(1), segment - segments, tl.num_programs(0),
            columns, k_b, k_t, k_h, rows, r_b, r_t, r_h, dy, dy_b, dy_t, dy_h, g, g_b, g_t, g_h,
            V, W, whole, pairs, dlast, dends, dproducts, du, dstart, dstates, derased, table,
            T, H, n, p, units, per, segments,
            C, N, P, PACKED, READY, RANK, BEFORE, True, SUMMARY, REST, not SUMMARY, not SUMMARY, KIND, PRECISION,
        )  # fmt: skip
