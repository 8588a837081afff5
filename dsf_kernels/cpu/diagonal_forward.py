"""The loops of diagonal.py forward: a lane is a row of S, and four steps pass over an entry in a register.

    S_t = a_t o S_{t-1} + b_t u_t^T       y_t = S_t^T c_t

Sums over rows are kept per lane, and folded for `span` steps at once. Steps count from the first read; with shift = 1
(read before the write) a, b, u are those of the step before.
"""

from __future__ import annotations

from .lanes import load, narrow, pointer, spread, store, width
from .rows import clear, copy, room
from .signals import STEPS, columns, four_pointers, four_starts, rows_in, rows_out, start


def forward(at, places, sizes, kind, memory, lo, hi):
    """Groups lo..hi of heads of all sequences. at: addresses of a, b, c, u, y, the states, and kept (0: not kept), the
    states before every chunk."""
    heads, T, n, p, together, chunk, block, span, shift, log, _ = sizes
    groups = (heads + together - 1) // together
    for piece in range(lo, hi):
        batch, group = piece // groups, piece % groups
        first, last = group * together, min((group + 1) * together, heads)
        group_forward(at, places, sizes, kind, memory, batch, first, last)


def group_forward(at, places, sizes, kind, memory, batch, lo, hi):
    heads, T, n, p, _, chunk, count, span, shift, log, _ = sizes
    work, S, kept = pointer(memory, kind), pointer(at[5], kind), pointer(at[6], kind)
    (a, b, c, u), y = four_pointers(at[:4], kind), pointer(at[4], kind)
    (pa, pb, pc, pu), py = four_starts(places[:4], batch, 0), start(places[4], batch, 0)
    L = width(narrow(work))
    row, P = room(n, L), p if p < L else room(p, L)
    size, m = row * p, row // L
    state, before = batch * heads * size, batch * ((T + shift + chunk - 1) // chunk) * heads * size
    B, C = (hi - lo) * count * row, 2 * (hi - lo) * count * row
    U = 3 * (hi - lo) * count * row
    F = room(U + (hi - lo) * count * P, L)
    Y = room(F + span * p + L, L)
    for first in range(0, T + shift, count):
        rows_in(work, 0, row, a, pa, lo, hi, first - shift, count, T, n, 1, log)
        rows_in(work, B, row, b, pb, lo, hi, first - shift, count, T, n, 0, False)
        rows_in(work, C, row, c, pc, lo, hi, first, count, T, n, 0, False)
        rows_in(work, U, P, u, pu, lo, hi, first - shift, count, T, p, 0, False)
        if at[6] and first % chunk == 0:
            copy(kept, before + (first // chunk * heads + lo) * size, S, state + lo * size, (hi - lo) * size)
        for h in range(lo, hi):
            for t in range((h - lo) * count, (h - lo + 1) * count, span):
                clear(work, Y, span * p * L)
                for k in range(t, t + span, STEPS):
                    o, vectors = k * row, Y + (k - t) * p * L
                    four_steps(work, o, B + o, C + o, U + k * P, vectors, S, state + h * size, m, p, P)
                columns(work, U + t * P, P, Y, F, span, p)
        rows_out(work, U, P, y, py, lo, hi, first, count, T, p)


def four_steps(work, A, B, C, U, Y, S, state, m, p, P):
    """Rows A, B, C of m vectors, rows U; Y + (k p + j) L receives c_k o S_k of column j; the state ends after them."""
    L = width(narrow(work))
    row = m * L
    for i in range(m):
        o = i * L
        a0, a1, a2, a3 = (
            load(work, A + o),
            load(work, A + o + row),
            load(work, A + o + 2 * row),
            load(work, A + o + 3 * row),
        )
        b0, b1, b2, b3 = (
            load(work, B + o),
            load(work, B + o + row),
            load(work, B + o + 2 * row),
            load(work, B + o + 3 * row),
        )
        c0, c1, c2, c3 = (
            load(work, C + o),
            load(work, C + o + row),
            load(work, C + o + 2 * row),
            load(work, C + o + 3 * row),
        )
        for j in range(p):
            here, y, u = state + (i * p + j) * L, Y + j * STEPS * L, U + j
            s = load(S, here)
            s = b0 * spread(work, u) + a0 * s
            store(work, y, load(work, y) + c0 * s)
            s = b1 * spread(work, u + P) + a1 * s
            store(work, y + L, load(work, y + L) + c1 * s)
            s = b2 * spread(work, u + 2 * P) + a2 * s
            store(work, y + 2 * L, load(work, y + 2 * L) + c2 * s)
            s = b3 * spread(work, u + 3 * P) + a3 * s
            store(work, y + 3 * L, load(work, y + 3 * L) + c3 * s)
            store(S, here, s)
