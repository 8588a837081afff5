"""Signals of a diagonal recurrence copied to where a thread reads them, and results back; sums over lanes.

A signal is (entries, place): entry i of step t of head h lies at place[0] + t place[1] + h place[2] + i place[3].
"""

from __future__ import annotations

from .lanes import exponential, load, narrow, pointer, spread, store, totals, width

STEPS = 4  # that pass over an entry of S while it is in a register


def start(place, batch, group):
    """A place [of batch, t, h, i, group], from the first entry of a sequence (of a group of its heads)."""
    return batch * place[0] + group * place[4], place[1], place[2], place[3]


def at_step(place, t, h):
    """Where a row begins."""
    return place[0] + t * place[1] + h * place[2]


def four_pointers(at, kind):
    return pointer(at[0], kind), pointer(at[1], kind), pointer(at[2], kind), pointer(at[3], kind)


def four_starts(places, batch, group):
    a, b, c, u = places
    return start(a, batch, group), start(b, batch, group), start(c, batch, group), start(u, batch, group)


def rows_in(work, at, P, signal, place, lo, hi, first, count, T, n, outside, log):
    """Rows [head, step, P] of heads lo..hi, `count` steps from `first`; zeros behind n, `outside` for no step.

    A P of less than a vector is n. The heads of one step are read one after another: they lie side by side.
    """
    L = width(narrow(work))
    whole = n // L * L
    for k in range(count):
        t = first + k
        for h in range(lo, hi):
            row, source = at + ((h - lo) * count + k) * P, place[0] + t * place[1] + h * place[2]
            if t < 0 or t >= T:
                for i in range(n):
                    work[row + i] = outside
            elif P < L:
                for i in range(n):
                    work[row + i] = signal[source + i]
            elif k > 0 and t > 0 and place[1] == 0:
                for i in range(0, P, L):
                    store(work, row + i, load(work, row + i - P))
            elif place[3] == 0:
                one = spread(signal, source)
                if log:
                    one = exponential(one)
                for i in range(0, P, L):
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
            for i in range(n, P):
                work[row + i] = 0


def rows_out(work, at, P, signal, place, lo, hi, first, count, T, n):
    """The other way; where steps, heads or entries share a place, their sum is added to it."""
    L = width(narrow(work))
    shared, whole = place[1] == 0 or place[2] == 0, n // L * L
    for k in range(max(0, -first), min(count, T - first)):
        for h in range(lo, hi):
            row, target = at + ((h - lo) * count + k) * P, place[0] + (first + k) * place[1] + h * place[2]
            if place[3] == 0:
                total = work[row]
                for i in range(1, n):
                    total += work[row + i]
                signal[target] = total + signal[target] if shared else total
                continue
            for i in range(0, whole, L):
                v = load(work, row + i)
                store(signal, target + i, v + load(signal, target + i) if shared else v)
            for i in range(whole, n):
                signal[target + i] = work[row + i] + signal[target + i] if shared else work[row + i]


def columns(work, at, P, sums_of_lanes, to, count, p):
    """Rows of `count` steps at `at`: the sums over lanes of vectors that lie [step / 4, column, step % 4]."""
    L = width(narrow(work))
    if p >= L:
        for t in range(count):
            vectors = sums_of_lanes + (t // STEPS * p * STEPS + t % STEPS) * L
            for j in range(0, p, L):
                store(work, at + t * P + j, totals(work, vectors + j * STEPS * L, STEPS * L))
        return
    for k in range(0, count * p, L):
        store(work, to + k, totals(work, sums_of_lanes + k * L, L))
    for t in range(count):
        for j in range(p):
            work[at + t * P + j] = work[to + (t // STEPS * p + j) * STEPS + t % STEPS]


def load_four(work, at, step):
    return load(work, at), load(work, at + step), load(work, at + 2 * step), load(work, at + 3 * step)


def store_four(work, at, step, v0, v1, v2, v3):
    store(work, at, v0)
    store(work, at + step, v1)
    store(work, at + 2 * step, v2)
    store(work, at + 3 * step, v3)
