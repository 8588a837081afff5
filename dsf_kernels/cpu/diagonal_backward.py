"""The loops of diagonal.py backward; lam_t = dL/dS_t. See diagonal_forward.py.

    lam_t += c_t dy_t^T   dc_t = S_t dy_t   db_t = lam_t u_t   du_t = lam_t^T b_t   da_t = (lam_t o S_{t-1}) 1

Sums over columns stay in registers. From the state before a chunk its steps run again, for the state before every four
of them, and return from there.
"""

from __future__ import annotations

from .lanes import load, narrow, pointer, spread, store, width
from .rows import clear, copy, room
from .signals import STEPS, columns, four_pointers, four_starts, load_four, rows_in, rows_out, start, store_four


def backward(at, places, sizes, kind, memory, lo, hi):
    """at: addresses of a, b, c, u, dy, lam (from that of the last state to that of the first), kept, da, db, dc, du."""
    heads, T, n, p, together, chunk, block, span, shift, log, _ = sizes
    groups = (heads + together - 1) // together
    for piece in range(lo, hi):
        batch, group = piece // groups, piece % groups
        first, last = group * together, min((group + 1) * together, heads)
        group_backward(at, places, sizes, kind, memory, batch, group, first, last)


def group_backward(at, places, sizes, kind, memory, batch, group, lo, hi):
    heads, T, n, p, _, count, _, span, shift, log, _ = sizes
    work, M, kept = pointer(memory, kind), pointer(at[5], kind), pointer(at[6], kind)
    (a, b, c, u), dy = four_pointers(at[:4], kind), pointer(at[4], kind)
    da, db, dc, du = four_pointers(at[7:11], kind)
    (pa, pb, pc, pu), pdy = four_starts(places[:4], batch, 0), start(places[4], batch, 0)
    qa, qb, qc, qu = four_starts(places[5:9], batch, group)
    L = width(narrow(work))
    row, P = room(n, L), p if p < L else room(p, L)
    size, m = row * p, row // L
    mine, before = batch * heads * size, batch * ((T + shift + count - 1) // count) * heads * size
    B, C = (hi - lo) * count * row, 2 * (hi - lo) * count * row
    U = 3 * (hi - lo) * count * row
    Z = U + (hi - lo) * count * P
    F = room(Z + (hi - lo) * count * P, L)
    D = room(F + span * p + L, L)
    S = D + (span * max(p, L) + L) * L
    for first in range((T + shift - 1) // count * count, -1, -count):
        rows_in(work, 0, row, a, pa, lo, hi, first - shift, count, T, n, 1, log)
        rows_in(work, B, row, b, pb, lo, hi, first - shift, count, T, n, 0, False)
        rows_in(work, C, row, c, pc, lo, hi, first, count, T, n, 0, False)
        rows_in(work, U, P, u, pu, lo, hi, first - shift, count, T, p, 0, False)
        rows_in(work, Z, P, dy, pdy, lo, hi, first, count, T, p, 0, False)
        for h in range(lo, hi):
            here = (h - lo) * count
            copy(work, S, kept, before + (first // count * heads + h) * size, size)
            for k in range(0, count - STEPS, STEPS):
                o, state = (here + k) * row, S + k // STEPS * size
                four_states(work, o, B + o, U + (here + k) * P, state, state + size, m, p, P)
            for t in range(here + count - span, here - 1, -span):
                clear(work, D, span * p * L)
                for k in range(t + span - STEPS, t - 1, -STEPS):
                    o, v, state = k * row, k * P, S + (k - here) // STEPS * size
                    vectors = D + (k - t) * p * L
                    four_back(work, o, B + o, C + o, U + v, Z + v, vectors, state, M, mine + h * size, m, p, P, log)
                columns(work, U + t * P, P, D, F, span, p)
        rows_out(work, 0, row, da, qa, lo, hi, first - shift, count, T, n)
        rows_out(work, B, row, db, qb, lo, hi, first - shift, count, T, n)
        rows_out(work, C, row, dc, qc, lo, hi, first, count, T, n)
        rows_out(work, U, P, du, qu, lo, hi, first - shift, count, T, p)


def four_states(work, A, B, U, state, to, m, p, P):
    """The states after four steps from those at `state`."""
    L = width(narrow(work))
    row = m * L
    for i in range(m):
        a0, a1, a2, a3 = load_four(work, A + i * L, row)
        b0, b1, b2, b3 = load_four(work, B + i * L, row)
        for j in range(p):
            o, u = (i * p + j) * L, U + j
            s = b0 * spread(work, u) + a0 * load(work, state + o)
            s = b1 * spread(work, u + P) + a1 * s
            s = b2 * spread(work, u + 2 * P) + a2 * s
            s = b3 * spread(work, u + 3 * P) + a3 * s
            store(work, to + o, s)


def four_back(work, A, B, C, U, Z, D, G, M, state, m, p, P, log):
    """Back over four steps: rows A, B, C become da, db, dc; D receives du per lane; G the states before, M: lam."""
    L = width(narrow(work))
    row = m * L
    for i in range(m):
        a0, a1, a2, a3 = load_four(work, A + i * L, row)
        b0, b1, b2, b3 = load_four(work, B + i * L, row)
        c0, c1, c2, c3 = load_four(work, C + i * L, row)
        da0 = da1 = da2 = da3 = db0 = db1 = db2 = db3 = dc0 = dc1 = dc2 = dc3 = narrow(work)
        for j in range(p):
            o, d, u, z = (i * p + j) * L, D + j * STEPS * L, U + j, Z + j
            s0 = load(work, G + o)
            s1 = b0 * spread(work, u) + a0 * s0
            s2 = b1 * spread(work, u + P) + a1 * s1
            s3 = b2 * spread(work, u + 2 * P) + a2 * s2
            s4 = b3 * spread(work, u + 3 * P) + a3 * s3
            dy = spread(work, z + 3 * P)
            lam = load(M, state + o) + c3 * dy
            dc3, db3 = (dc3 + s4 * dy, db3 + lam * spread(work, u + 3 * P))
            store(work, d + 3 * L, load(work, d + 3 * L) + lam * b3)
            da3, dy = (da3 + lam * s3, spread(work, z + 2 * P))
            lam = lam * a3 + c2 * dy
            dc2, db2 = (dc2 + s3 * dy, db2 + lam * spread(work, u + 2 * P))
            store(work, d + 2 * L, load(work, d + 2 * L) + lam * b2)
            da2, dy = (da2 + lam * s2, spread(work, z + P))
            lam = lam * a2 + c1 * dy
            dc1, db1 = (dc1 + s2 * dy, db1 + lam * spread(work, u + P))
            store(work, d + L, load(work, d + L) + lam * b1)
            da1, dy = (da1 + lam * s1, spread(work, z))
            lam = lam * a1 + c0 * dy
            dc0, db0 = (dc0 + s1 * dy, db0 + lam * spread(work, u))
            store(work, d, load(work, d) + lam * b0)
            da0 = da0 + lam * s0
            store(M, state + o, lam * a0)
        if log:
            da0, da1, da2, da3 = (da0 * a0, da1 * a1, da2 * a2, da3 * a3)
        store_four(work, A + i * L, row, da0, da1, da2, da3)
        store_four(work, B + i * L, row, db0, db1, db2, db3)
        store_four(work, C + i * L, row, dc0, dc1, dc2, dc3)
