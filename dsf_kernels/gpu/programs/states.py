"""Every state of a diagonal recurrence, channel by channel: x_t = d_t o x_{t-1} + w_t.

A program takes [ROWS, P] entries of a step, which lie side by side in memory, through a segment of time. What a block
of steps reads is asked for at once, before the first of its steps: so much is under way that memory is the limit.

Decays are multiplied, never divided: 0 and any sign are exact. Complex numbers lie in memory as pairs (re, im); of real
ones the second parts below are stand-ins that nothing reads.
"""

import triton
import triton.language as tl

from .tiles import LOG2E, sequence


@triton.jit
def read(at, mask, COMPLEX: tl.constexpr):
    """In the dtype of memory: nothing waits for it here."""
    x = tl.load(at, mask=mask, other=0.0)
    x_i = x
    if COMPLEX:
        x_i = tl.load(at + 1, mask=mask, other=0.0)
    return x, x_i


@triton.jit
def write(at, x, x_i, mask, COMPLEX: tl.constexpr):
    tl.store(at, x, mask=mask)
    if COMPLEX:
        tl.store(at + 1, x_i, mask=mask)


@triton.jit
def times(a, a_i, x, x_i, COMPLEX: tl.constexpr):
    if COMPLEX:
        return a * x - a_i * x_i, a * x_i + a_i * x
    return a * x, x_i


@triton.jit
def masks(r, j, rows, p, there):
    """Of rows, and of entries: none at a step that there is not."""
    row = r < tl.where(there, rows, 0)
    return row, row[:, None] & (j < p)[None, :]


@triton.jit
def places(d_h, d_n, n, p, FLAT: tl.constexpr, COMPLEX: tl.constexpr, ROWS: tl.constexpr, P: tl.constexpr):
    """This program's rows and columns, and where its entries, its rows and their decays lie in a step."""
    PAIR: tl.constexpr = 2 if COMPLEX else 1
    across = tl.cdiv(p, P)
    r, j = tl.program_id(0) // across * ROWS + tl.arange(0, ROWS), tl.program_id(0) % across * P + tl.arange(0, P)
    if FLAT:
        decays = r.to(tl.int64) * d_n
    else:
        decays = (r // n).to(tl.int64) * d_h + (r % n).to(tl.int64) * d_n
    return r, j, (r.to(tl.int64)[:, None] * p + j[None, :]) * PAIR, r.to(tl.int64) * PAIR, decays


@triton.jit
def segments_of(table, T, per, PACKED: tl.constexpr):
    """Where this program's sequence lies: its row, its first step there, how many steps and how many segments it has,
    and the place of the first of these among all; every sequence has room for one at least."""
    number = tl.program_id(1).to(tl.int64)
    row, first, length, _ = sequence(table, number, T, 0, PACKED)
    return row, first, length, tl.cdiv(length, per), (row * T + first) // per + number


@triton.jit
def enter(
    start, ends, products, r, j, entries, of_rows, rows, p, size, segments, place,
    COMPLEX: tl.constexpr, SUMMARY: tl.constexpr, REST: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """The state before a segment: 0 (SUMMARY, REVERSE) or the first one, taken through the segments before (REST)."""
    PAIR: tl.constexpr = 2 if COMPLEX else 1
    segment = tl.program_id(2)
    row, inside = masks(r, j, rows, p, segment >= 0)
    s = tl.zeros(entries.shape, tl.float32)
    s_i = s
    if not SUMMARY:
        if not REVERSE:
            s, s_i = read(start + tl.program_id(1) * size + entries, inside, COMPLEX)
        if REST:
            for turn in range(segments - 1 - segment if REVERSE else tl.minimum(segment, segments)):
                at = place + turn
                if REVERSE:
                    at = place + segments - 1 - turn
                a, a_i = read(products + at * rows * PAIR + of_rows, row, COMPLEX)
                left, left_i = read(ends + at * size + entries, inside, COMPLEX)
                s, s_i = times(a[:, None], a_i[:, None], s, s_i, COMPLEX)
                s, s_i = s + left, s_i + left_i
    return s, s_i


@triton.jit
def leave(
    ends, products, s, s_i, a, a_i, r, j, entries, of_rows, rows, p, size, segments, place, COMPLEX: tl.constexpr
):
    """The summary of a segment: what it leaves of no state, and what it multiplies a state by, the same for all p."""
    PAIR: tl.constexpr = 2 if COMPLEX else 1
    row, inside = masks(r, j, rows, p, tl.program_id(2) < segments)
    place += tl.program_id(2)
    write(ends + place * size + entries, s, s_i, inside, COMPLEX)
    write(products + place * rows * PAIR + of_rows, a, a_i, row, COMPLEX)


@triton.jit
def forward(
    w, d, d_b, d_t, d_h, d_n, start, ends, products, states, table,
    T, n, rows, p, per,
    ROWS: tl.constexpr, P: tl.constexpr, STEPS: tl.constexpr, LOG: tl.constexpr, CONSTANT: tl.constexpr,
    FLAT: tl.constexpr, COMPLEX: tl.constexpr, PACKED: tl.constexpr, SUMMARY: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    """w, states [B, T, rows, p], start [N, rows, p] of N sequences, d by its strides; the summary, if wanted, to ends
    [segments, rows, p] and products [segments, rows]. Grid: blocks of rows and of p, N, segments of `per` steps."""
    PAIR: tl.constexpr = 2 if COMPLEX else 1
    row, first, length, segments, place = segments_of(table, T, per, PACKED)
    segment = tl.program_id(2).to(tl.int64)
    size = (segment - segment + rows) * p * PAIR
    r, j, entries, of_rows, decays = places(d_h, d_n, n, p, FLAT, COMPLEX, ROWS, P)
    s, s_i = enter(
        start, ends, products, r, j, entries, of_rows, rows, p, size, segments, place, COMPLEX, SUMMARY, REST, False
    )  # fmt: skip
    behind = (row * T + first) * size
    at, to, at_d = w + behind + entries, states + behind + entries, d + row * d_b + first * d_t + decays
    total = tl.full([ROWS], 1.0, tl.float32)
    total_i = tl.zeros([ROWS], tl.float32)
    begin, end = segment * per, tl.minimum(segment * per + per, length)
    if CONSTANT:
        d_0, d_0i = read(at_d, r < rows, COMPLEX)
        d_0 = d_0.to(tl.float32)
        if LOG:
            d_0 = tl.exp2(d_0 * LOG2E)
    for t0 in range(begin, end, STEPS):
        ws, ws_i, ds, ds_i = (), (), (), ()
        for k in tl.static_range(STEPS):
            in_rows, inside = masks(r, j, rows, p, t0 + k < end)
            ws += (tl.load(at + (t0 + k) * size, mask=inside, other=0.0),)
            if COMPLEX:
                ws_i += (tl.load(at + (t0 + k) * size + 1, mask=inside, other=0.0),)
            if not CONSTANT:
                ds += (tl.load(at_d + (t0 + k) * d_t, mask=in_rows, other=0.0),)
                if COMPLEX:
                    ds_i += (tl.load(at_d + (t0 + k) * d_t + 1, mask=in_rows, other=0.0),)
        for k in tl.static_range(STEPS):
            if CONSTANT:
                a = d_0
            else:
                a = ds[k].to(tl.float32)
                if LOG:
                    a = tl.exp2(a * LOG2E)
            if SUMMARY:
                a = tl.where(t0 + k < end, a, 1.0)
            if COMPLEX:
                if CONSTANT:
                    a_i = d_0i
                else:
                    a_i = ds_i[k]
                if SUMMARY:
                    a_i = tl.where(t0 + k < end, a_i, 0.0)
                    total, total_i = a * total - a_i * total_i, a * total_i + a_i * total
                s, s_i = (
                    a[:, None] * s - a_i[:, None] * s_i + ws[k],
                    a[:, None] * s_i + a_i[:, None] * s + ws_i[k],
                )
            else:
                s = a[:, None] * s + ws[k]
                if SUMMARY:
                    total = a * total
            if not SUMMARY:
                _, inside = masks(r, j, rows, p, t0 + k < end)
                tl.store(to + (t0 + k) * size, s, mask=inside)
                if COMPLEX:
                    tl.store(to + (t0 + k) * size + 1, s_i, mask=inside)
    if SUMMARY:
        leave(
            ends, products, s, s_i, total, total_i, r, j, entries, of_rows, rows, p, size, segments, place, COMPLEX
        )  # fmt: skip
