"""A dense transition, one step after another, the state in registers.

    S <- M_t S + b_t u_t^T        y_t = c_t^T S        (before: y_t = c_t^T of the S that was)

A state is multiplied at every step: in full precision (three TF32 products). What a step reads is asked for one step
ahead. What a segment multiplies by, for its summary, is the state that starts from I: blocks of n columns after those
of p.
"""

import triton
import triton.language as tl

from .tiles import sequence, square


@triton.jit
def segments_of(table, number, T, per, EVERY: tl.constexpr, PACKED: tl.constexpr):
    """Where a sequence lies: its row, its first step there, how many steps and how many segments it has, its first
    EVERY steps among those of all, and its first segment; every sequence has room for a segment at least."""
    row, first, length, unit = sequence(table, number, T, tl.cdiv(T, EVERY), PACKED)
    return row, first, length, tl.cdiv(length, per), unit, unit // (per // EVERY) + number


@triton.jit
def forward(
    M, M_b, M_t, M_h, M_i, M_j,
    rows, r_b, r_t, r_h,
    columns, k_b, k_t, k_h,
    drive, u_b, u_t, u_h,
    start, ends, products, y, last, states, table,
    T, H, n, p, per,
    N: tl.constexpr, P: tl.constexpr, EVERY: tl.constexpr, BEFORE: tl.constexpr, PACKED: tl.constexpr,
    KEEP: tl.constexpr, SUMMARY: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    """rows c, columns b [B, T, H, n], drive u [B, T, H, p]; KEEP: the state before every EVERY steps, to states [steps
    / EVERY, H, n, p]. SUMMARY: what a segment leaves to ends [segments, H, n, p], what it multiplies by to products
    [segments, H, n, n]; REST: from those of the segments before. Grid: N H of N sequences, blocks of p (and of n),
    segments."""
    head, block, segment = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    number, h = head // H, head % H
    batch, first, length, segments, unit, place = segments_of(table, number, T, per, EVERY, PACKED)
    i, j, width = tl.arange(0, N), block * P + tl.arange(0, P), tl.full([], 0, tl.int32) + p
    begin, end = segment * per, tl.minimum(segment * per + per, length)
    if SUMMARY:
        S = tl.zeros([N, P], tl.float32)
        if block >= tl.cdiv(p, P):
            j, width = j - tl.cdiv(p, P) * P, width - width
            S = tl.where(i[:, None] == j[None, :], 1.0, 0.0)
    else:
        S = square(start + head * n * p, i, n, j, p)
    if REST:
        for earlier in tl.range(tl.minimum(segment, segments), disable_licm=True):
            at = (place + earlier) * H + h
            by = square(products + at * n * n, i, n, i, n)
            S = tl.dot(by, S, input_precision="tf32x3") + square(ends + at * n * p, i, n, j, p)
    at_M = M + batch * M_b + h * M_h + i[:, None] * M_i + i[None, :] * M_j
    at_r, at_k = rows + batch * r_b + h * r_h + i, columns + batch * k_b + h * k_h + i
    at_u, to = drive + batch * u_b + h * u_h + j, y + (batch * T * H + h) * p + j
    t, there = first + begin, i < tl.where(begin < end, n, 0)
    A = tl.load(at_M + t * M_t, mask=there[:, None] & (i < n)[None, :], other=0.0)
    k = tl.load(at_k + t * k_t, mask=there, other=0.0)
    u = tl.load(at_u + t * u_t, mask=j < tl.where(begin < end, width, 0), other=0.0)
    r = k
    if not SUMMARY:
        r = tl.load(at_r + t * r_t, mask=there, other=0.0)
    # addresses are made where they are used: before a loop they would take the registers of the state
    for step in tl.range(begin, end, disable_licm=True):
        t = first + step
        if KEEP:
            if step % EVERY == 0:
                inside = (i < n)[:, None] & (j < p)[None, :]
                to_state = states + ((unit + step // EVERY) * H + h) * n * p
                tl.store(to_state + i[:, None] * p + j[None, :], S, mask=inside)
        there = i < tl.where(step + 1 < end, n, 0)
        A_next = tl.load(at_M + (t + 1) * M_t, mask=there[:, None] & (i < n)[None, :], other=0.0)
        k_next = tl.load(at_k + (t + 1) * k_t, mask=there, other=0.0)
        u_next = tl.load(at_u + (t + 1) * u_t, mask=j < tl.where(step + 1 < end, width, 0), other=0.0)
        if not SUMMARY:
            r_next = tl.load(at_r + (t + 1) * r_t, mask=there, other=0.0)
            if BEFORE:
                found = tl.sum(r.to(tl.float32)[:, None] * S, 0)
        S = (
            tl.dot(A.to(tl.float32), S, input_precision="tf32x3")
            + k.to(tl.float32)[:, None] * u.to(tl.float32)[None, :]
        )
        if not SUMMARY:
            if not BEFORE:
                found = tl.sum(r.to(tl.float32)[:, None] * S, 0)
            tl.store(to + t * H * p, found.to(y.dtype.element_ty), mask=j < p)
            r = r_next
        A, k, u = A_next, k_next, u_next
    if SUMMARY:
        at, width = (place + segment) * H + h, tl.where(segment < segments, width, 0)
        inside = (i < n)[:, None] & (j < width)[None, :]
        tl.store(ends + at * n * p + i[:, None] * p + j[None, :], S, mask=inside)
        inside = (i < n)[:, None] & (j < tl.where((block >= tl.cdiv(p, P)) & (segment < segments), n, 0))[None, :]
        tl.store(products + at * n * n + i[:, None] * n + j[None, :], S, mask=inside)
    else:
        inside = (i < n)[:, None] & (j < tl.where(segment == tl.maximum(segments, 1) - 1, p, 0))[None, :]
        tl.store(last + head * n * p + i[:, None] * p + j[None, :], S, mask=inside)
