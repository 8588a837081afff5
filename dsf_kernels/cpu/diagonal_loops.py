"""The compiled loops of diagonal.py: a lane is a row of S, and four steps pass over an entry while it is in a register.

    S_t = a_t o S_{t-1} + b_t u_t^T       y_t = S_t^T c_t          lam_t: dL/dS_t
    lam_t += c_t dy_t^T   dc_t = S_t dy_t   db_t = lam_t u_t   du_t = lam_t^T b_t   da_t = (lam_t o S_{t-1}) 1

Sums over columns stay in registers. Sums over rows are kept per lane, and folded for `span` steps at once. Backward
knows the state before every chunk, runs it again for the state before every four steps, and returns from there.
A signal is (entries, place): entry i of step t of head h lies at place[0] + t place[1] + h place[2] + i place[3].
Steps count from the first read; with shift = 1 (read before the write) a, b, u are those of the step before.
"""

from __future__ import annotations

from .vectors import exponential, lanes, load, plus, plus_times, spread, store, sums, times, zeros

STEPS = 4


def rows_in(work, at, width, signal, place, lo, hi, first, count, T, n, outside, log):
    """Rows [head, step, width] of heads lo..hi, `count` steps from `first`; zeros behind n, `outside` for no step.

    A width of less than a vector is n. The heads of one step are read one after another: they lie side by side.
    """
    L = lanes(work)
    whole = n // L * L
    for k in range(count):
        t = first + k
        for h in range(lo, hi):
            row, source = at + ((h - lo) * count + k) * width, place[0] + t * place[1] + h * place[2]
            if t < 0 or t >= T:
                for i in range(n):
                    work[row + i] = outside
            elif width < L:
                for i in range(n):
                    work[row + i] = signal[source + i]
            elif k > 0 and t > 0 and place[1] == 0:
                for i in range(0, width, L):
                    store(work, row + i, load(work, row + i - width))
            elif place[3] == 0:
                one = spread(signal, source)
                if log:
                    one = exponential(one)
                for i in range(0, width, L):
                    store(work, row + i, one)
            else:
                for i in range(0, whole, L):
                    v = load(signal, source + i)
                    if log:
                        v = exponential(v)
                    store(work, row + i, v)
                if whole < n:
                    for i in range(whole, n):
                        work[row + i] = signal[source + i]
                    if log:
                        store(work, row + whole, exponential(load(work, row + whole)))
            for i in range(n, width):
                work[row + i] = 0


def rows_out(work, at, width, signal, place, lo, hi, first, count, T, n):
    """The other way; where steps, heads or entries share a place, their sum is added to it."""
    L = lanes(work)
    shared, whole = place[1] == 0 or place[2] == 0, n // L * L
    for k in range(max(0, -first), min(count, T - first)):
        for h in range(lo, hi):
            row, target = at + ((h - lo) * count + k) * width, place[0] + (first + k) * place[1] + h * place[2]
            if place[3] == 0:
                total = work[row]
                for i in range(1, n):
                    total += work[row + i]
                signal[target] = total + signal[target] if shared else total
                continue
            for i in range(0, whole, L):
                v = load(work, row + i)
                store(signal, target + i, plus(v, load(signal, target + i)) if shared else v)
            for i in range(whole, n):
                signal[target + i] = work[row + i] + signal[target + i] if shared else work[row + i]


def columns(work, at, width, sums_of_lanes, to, count, p):
    """Rows of `count` steps at `at`: the sums over lanes of vectors that lie [step / 4, column, step % 4]."""
    L = lanes(work)
    if p >= L:
        for t in range(count):
            vectors = sums_of_lanes + (t // STEPS * p * STEPS + t % STEPS) * L
            for j in range(0, p, L):
                store(work, at + t * width + j, sums(work, vectors + j * STEPS * L, STEPS * L))
        return
    for k in range(0, count * p, L):
        store(work, to + k, sums(work, sums_of_lanes + k * L, L))
    for t in range(count):
        for j in range(p):
            work[at + t * width + j] = work[to + (t // STEPS * p + j) * STEPS + t % STEPS]


def clear(work, at, vectors):
    L, nothing = lanes(work), zeros(work)
    for k in range(vectors):
        store(work, at + k * L, nothing)


def copy(target, at, source, start, vectors):
    L = lanes(target)
    for k in range(vectors):
        store(target, at + k * L, load(source, start + k * L))


def four(work, at, step):
    return load(work, at), load(work, at + step), load(work, at + 2 * step), load(work, at + 3 * step)


def put(work, at, step, v0, v1, v2, v3):
    store(work, at, v0)
    store(work, at + step, v1)
    store(work, at + 2 * step, v2)
    store(work, at + 3 * step, v3)


def four_steps(work, A, B, C, U, Y, S, state, m, p, width):
    """Rows A, B, C of m vectors, rows U; Y + (k p + j) L receives c_k o S_k of column j; the state ends after them."""
    L = lanes(work)
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
            s = plus_times(times(b0, spread(work, u)), a0, s)
            store(work, y, plus_times(load(work, y), c0, s))
            s = plus_times(times(b1, spread(work, u + width)), a1, s)
            store(work, y + L, plus_times(load(work, y + L), c1, s))
            s = plus_times(times(b2, spread(work, u + 2 * width)), a2, s)
            store(work, y + 2 * L, plus_times(load(work, y + 2 * L), c2, s))
            s = plus_times(times(b3, spread(work, u + 3 * width)), a3, s)
            store(work, y + 3 * L, plus_times(load(work, y + 3 * L), c3, s))
            store(S, here, s)


def four_states(work, A, B, U, state, to, m, p, width):
    """The states after four steps from those at `state`."""
    L = lanes(work)
    row = m * L
    for i in range(m):
        a0, a1, a2, a3 = four(work, A + i * L, row)
        b0, b1, b2, b3 = four(work, B + i * L, row)
        for j in range(p):
            o, u = (i * p + j) * L, U + j
            s = plus_times(times(b0, spread(work, u)), a0, load(work, state + o))
            s = plus_times(times(b1, spread(work, u + width)), a1, s)
            s = plus_times(times(b2, spread(work, u + 2 * width)), a2, s)
            s = plus_times(times(b3, spread(work, u + 3 * width)), a3, s)
            store(work, to + o, s)


def four_back(work, A, B, C, U, Z, D, G, M, state, m, p, width, log):
    """Back over four steps: rows A, B, C become da, db, dc; D receives du per lane; G the states before, M: lam."""
    L = lanes(work)
    row = m * L
    for i in range(m):
        a0, a1, a2, a3 = four(work, A + i * L, row)
        b0, b1, b2, b3 = four(work, B + i * L, row)
        c0, c1, c2, c3 = four(work, C + i * L, row)
        da0 = da1 = da2 = da3 = db0 = db1 = db2 = db3 = dc0 = dc1 = dc2 = dc3 = zeros(work)
        for j in range(p):
            o, d, u, z = (i * p + j) * L, D + j * STEPS * L, U + j, Z + j
            s0 = load(work, G + o)
            s1 = plus_times(times(b0, spread(work, u)), a0, s0)
            s2 = plus_times(times(b1, spread(work, u + width)), a1, s1)
            s3 = plus_times(times(b2, spread(work, u + 2 * width)), a2, s2)
            s4 = plus_times(times(b3, spread(work, u + 3 * width)), a3, s3)
            dy = spread(work, z + 3 * width)
            lam = plus_times(load(M, state + o), c3, dy)
            dc3, db3 = plus_times(dc3, s4, dy), plus_times(db3, lam, spread(work, u + 3 * width))
            store(work, d + 3 * L, plus_times(load(work, d + 3 * L), lam, b3))
            da3, dy = plus_times(da3, lam, s3), spread(work, z + 2 * width)
            lam = plus_times(times(lam, a3), c2, dy)
            dc2, db2 = plus_times(dc2, s3, dy), plus_times(db2, lam, spread(work, u + 2 * width))
            store(work, d + 2 * L, plus_times(load(work, d + 2 * L), lam, b2))
            da2, dy = plus_times(da2, lam, s2), spread(work, z + width)
            lam = plus_times(times(lam, a2), c1, dy)
            dc1, db1 = plus_times(dc1, s2, dy), plus_times(db1, lam, spread(work, u + width))
            store(work, d + L, plus_times(load(work, d + L), lam, b1))
            da1, dy = plus_times(da1, lam, s1), spread(work, z)
            lam = plus_times(times(lam, a1), c0, dy)
            dc0, db0 = plus_times(dc0, s1, dy), plus_times(db0, lam, spread(work, u))
            store(work, d, plus_times(load(work, d), lam, b0))
            da0 = plus_times(da0, lam, s0)
            store(M, state + o, times(lam, a0))
        if log:
            da0, da1, da2, da3 = times(da0, a0), times(da1, a1), times(da2, a2), times(da3, a3)
        put(work, A + i * L, row, da0, da1, da2, da3)
        put(work, B + i * L, row, db0, db1, db2, db3)
        put(work, C + i * L, row, dc0, dc1, dc2, dc3)


def forward(work, S, kept, a, pa, log, b, pb, c, pc, u, pu, y, py, sizes):
    """Heads lo..hi of one sequence; S: the states of all its heads. kept: the same before every chunk, or empty."""
    lo, hi, heads, T, n, p, chunk, block, span, shift = sizes
    L = lanes(work)
    m, width = (n + L - 1) // L, p if p < L else (p + L - 1) // L * L
    row, size, count = m * L, m * p * L, block
    B, C = (hi - lo) * count * row, 2 * (hi - lo) * count * row
    U = 3 * (hi - lo) * count * row
    F = U + (hi - lo) * count * width + -(count * width * (hi - lo)) % L
    Y = F + span * p + L
    Y += -Y % L
    for first in range(0, T + shift, block):
        rows_in(work, 0, row, a, pa, lo, hi, first - shift, count, T, n, 1, log)
        rows_in(work, B, row, b, pb, lo, hi, first - shift, count, T, n, 0, False)
        rows_in(work, C, row, c, pc, lo, hi, first, count, T, n, 0, False)
        rows_in(work, U, width, u, pu, lo, hi, first - shift, count, T, p, 0, False)
        if len(kept) and first % chunk == 0:
            copy(kept, (first // chunk * heads + lo) * size, S, lo * size, (hi - lo) * m * p)
        for h in range(lo, hi):
            for t in range((h - lo) * count, (h - lo + 1) * count, span):
                clear(work, Y, span * p)
                for k in range(t, t + span, STEPS):
                    o, vectors = k * row, Y + (k - t) * p * L
                    four_steps(work, o, B + o, C + o, U + k * width, vectors, S, h * size, m, p, width)
                columns(work, U + t * width, width, Y, F, span, p)
        rows_out(work, U, width, y, py, lo, hi, first, count, T, p)


def backward(work, M, kept, a, pa, log, b, pb, c, pc, u, pu, dy, pdy, da, qa, db, qb, dc, qc, du, qu, sizes):
    """M: lam of the heads, from that of the last state to that of the first. Places q: of gradients."""
    lo, hi, heads, T, n, p, chunk, _, span, shift = sizes
    L = lanes(work)
    m, width = (n + L - 1) // L, p if p < L else (p + L - 1) // L * L
    row, size, count = m * L, m * p * L, chunk
    B, C = (hi - lo) * count * row, 2 * (hi - lo) * count * row
    U = 3 * (hi - lo) * count * row
    Z = U + (hi - lo) * count * width
    F = Z + (hi - lo) * count * width + -2 * (count * width * (hi - lo)) % L
    D = F + span * p + L
    D += -D % L
    S = D + (span * max(p, L) + L) * L
    for first in range((T + shift - 1) // chunk * chunk, -1, -chunk):
        rows_in(work, 0, row, a, pa, lo, hi, first - shift, count, T, n, 1, log)
        rows_in(work, B, row, b, pb, lo, hi, first - shift, count, T, n, 0, False)
        rows_in(work, C, row, c, pc, lo, hi, first, count, T, n, 0, False)
        rows_in(work, U, width, u, pu, lo, hi, first - shift, count, T, p, 0, False)
        rows_in(work, Z, width, dy, pdy, lo, hi, first, count, T, p, 0, False)
        for h in range(lo, hi):
            here = (h - lo) * count
            copy(work, S, kept, (first // chunk * heads + h) * size, m * p)
            for k in range(0, count - STEPS, STEPS):
                o, state = (here + k) * row, S + k // STEPS * size
                four_states(work, o, B + o, U + (here + k) * width, state, state + size, m, p, width)
            for t in range(here + count - span, here - 1, -span):
                clear(work, D, span * p)
                for k in range(t + span - STEPS, t - 1, -STEPS):
                    o, v, state = k * row, k * width, S + (k - here) // STEPS * size
                    vectors = D + (k - t) * p * L
                    four_back(work, o, B + o, C + o, U + v, Z + v, vectors, state, M, h * size, m, p, width, log)
                columns(work, U + t * width, width, D, F, span, p)
        rows_out(work, 0, row, da, qa, lo, hi, first - shift, count, T, n)
        rows_out(work, B, row, db, qb, lo, hi, first - shift, count, T, n)
        rows_out(work, C, row, dc, qc, lo, hi, first, count, T, n)
        rows_out(work, U, width, du, qu, lo, hi, first - shift, count, T, p)
