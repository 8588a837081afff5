"""The loops of diagonal.py for one column, p = 1, and rows of whole vectors: every signal is read once, where it lies.

    s_t = a_t o s_{t-1} + b_t u_t       y_t = s_t . c_t          lam_t = dL/ds_t
    lam_t += c_t dy_t   dc_t = s_t dy_t   db_t = lam_t u_t   du_t = lam_t . b_t   da_t = lam_t o s_{t-1}

Forward walks in time over the heads of a thread, whose states stay in cache. Backward takes `side` heads through one
chunk after the other, and keeps their states and factors. Inner products end in rows of lanes, summed for many heads at
once.
"""

from __future__ import annotations

from .lanes import exponential, load, narrow, pointer, spread, store, total, totals, width
from .rows import copy
from .signals import at_step, four_pointers, four_starts, start


def forward(at, places, sizes, kind, memory, lo, hi):
    """As diagonal_forward.forward."""
    heads, T, n, p, together, chunk, _, _, before, log, _ = sizes
    groups, chunks = (heads + together - 1) // together, (T + before + chunk - 1) // chunk
    work, S, kept = pointer(memory, kind), pointer(at[5], kind), pointer(at[6], kind)
    (a, b, c, u), y = four_pointers(at[:4], kind), pointer(at[4], kind)
    L = width(narrow(work))
    for piece in range(lo, hi):
        batch, group = piece // groups, piece % groups
        first, last = group * together, min((group + 1) * together, heads)
        (pa, pb, pc, pu), py = four_starts(places[:4], batch, 0), start(places[4], batch, 0)
        mine = batch * heads * n
        for t in range(T):
            if at[6] and t % chunk == 0:
                place = ((batch * chunks + t // chunk) * heads + first) * n
                copy(kept, place, S, mine + first * n, (last - first) * n)
            for low in range(first, last, L):
                high = min(low + L, last)
                for h in range(low, high):
                    A, B, C = (
                        at_step(pa, t, h),
                        at_step(pb, t, h),
                        at_step(pc, t, h),
                    )
                    drive, read, s = spread(u, at_step(pu, t, h)), narrow(work), mine + h * n
                    for i in range(0, n, L):
                        factor, old, reader = row(a, A, i, pa[3]), load(S, s + i), row(c, C, i, pc[3])
                        if log:
                            factor = exponential(factor)
                        new = row(b, B, i, pb[3]) * drive + factor * old
                        store(S, s + i, new)
                        read = read + reader * (old if before else new)
                    store(work, (h - low) * L, read)
                sums_out(work, 0, y, at_step(py, t, low), py[2], high - low)


def backward(at, places, sizes, kind, memory, lo, hi):
    """As diagonal_backward.backward."""
    heads, T, n, p, together, chunk, _, _, before, log, side = sizes
    groups, chunks = (heads + together - 1) // together, (T + before + chunk - 1) // chunk
    for piece in range(lo, hi):
        batch, group = piece // groups, piece % groups
        first, last = group * together, min((group + 1) * together, heads)
        for number in range((T - 1) // chunk, -1, -1):
            t, count = number * chunk, min(chunk, T - number * chunk)
            for low in range(first, last, side):
                high, kept = min(low + side, last), ((batch * chunks + number) * heads + low) * n
                run_again(at, places, sizes, kind, memory, batch, low, high, t, count, kept)
                back(at, places, sizes, kind, memory, batch, group, low, high, t, count)


def run_again(at, places, sizes, kind, memory, batch, low, high, t, count, kept):
    """The factors and states of `count` steps from t; the buffer holds rows of sums, factors, states."""
    n, chunk, log, side = sizes[2], sizes[5], sizes[9], sizes[10]
    work, a, b, u = pointer(memory, kind), pointer(at[0], kind), pointer(at[1], kind), pointer(at[3], kind)
    pa, pb, pu = start(places[0], batch, 0), start(places[1], batch, 0), start(places[3], batch, 0)
    L = width(narrow(work))
    size, F = side * n, (L + 1) * L
    S = F + chunk * size
    copy(work, S, pointer(at[6], kind), kept, (high - low) * n)
    for k in range(count):
        for h in range(low, high):
            A, B = at_step(pa, t + k, h), at_step(pb, t + k, h)
            drive, o = spread(u, at_step(pu, t + k, h)), k * size + (h - low) * n
            for i in range(0, n, L):
                factor = row(a, A, i, pa[3])
                if log:
                    factor = exponential(factor)
                store(work, F + o + i, factor)
                store(work, S + o + size + i, row(b, B, i, pb[3]) * drive + factor * load(work, S + o + i))


def back(at, places, sizes, kind, memory, batch, group, low, high, t, count):
    heads, n, chunk, before, log, side = sizes[0], sizes[2], sizes[5], sizes[8], sizes[9], sizes[10]
    work, M = pointer(memory, kind), pointer(at[5], kind)
    (_, b, c, u), dy = four_pointers(at[:4], kind), pointer(at[4], kind)
    da, db, dc, du = four_pointers(at[7:11], kind)
    (_, pb, pc, pu), py = four_starts(places[:4], batch, 0), start(places[4], batch, 0)
    qa, qb, qc, qu = four_starts(places[5:9], batch, group)
    add_a, add_b, add_c = qa[1] * qa[2] == 0, qb[1] * qb[2] == 0, qc[1] * qc[2] == 0
    L = width(narrow(work))
    size, F = side * n, (L + 1) * L
    S = F + chunk * size
    for k in range(count - 1, -1, -1):
        s = t + k
        for h in range(low, high):
            B, C = at_step(pb, s, h), at_step(pc, s, h)
            A_out, B_out, C_out = (
                at_step(qa, s, h),
                at_step(qb, s, h),
                at_step(qc, s, h),
            )
            drive, read = spread(u, at_step(pu, s, h)), spread(dy, at_step(py, s, h))
            o, m, sums = k * size + (h - low) * n, (batch * heads + h) * n, narrow(work)
            for i in range(0, n, L):
                lam, past, factor = load(M, m + i), load(work, S + o + i), load(work, F + o + i)
                from_y = row(c, C, i, pc[3]) * read
                if not before:
                    lam = lam + from_y
                seen = past if before else load(work, S + o + size + i)
                passed = factor * lam
                give(dc, C_out, i, qc[3], add_c, seen * read)
                give(db, B_out, i, qb[3], add_b, lam * drive)
                give(da, A_out, i, qa[3], add_a, (passed if log else lam) * past)
                sums = sums + lam * row(b, B, i, pb[3])
                store(M, m + i, passed + from_y if before else passed)
            store(work, (h - low) * L, sums)
        sums_out(work, 0, du, at_step(qu, s, low), qu[2], high - low)


def row(signal, at, i, of_i):
    """Entries i, i + 1, ... of a row, or its only one."""
    return load(signal, at + i) if of_i else spread(signal, at)


def give(gradient, at, i, of_i, adds, x):
    """To a row of a gradient; where others have a share in it, or the row has one entry, as a sum."""
    if of_i:
        store(gradient, at + i, x + load(gradient, at + i) if adds else x)
    elif adds or i > 0:
        gradient[at] += total(x)
    else:
        gradient[at] = total(x)


def sums_out(work, at, target, start, step, count):
    """The sums of `count` rows of lanes, `step` entries from each other; a row of them is left behind the rows."""
    L = width(narrow(work))
    sums = totals(work, at, L)
    if count == L and step == 1:
        store(target, start, sums)
        return
    store(work, at + L * L, sums)
    for i in range(count):
        target[start + i * step] = work[at + L * L + i]
