"""The other way through states.py, for the gradient g of every state:

lam_t = g_t + conj(d_{t+1}) o lam_{t+1}        dw_t = lam_t        dd_t = lam_t conj(x_{t-1})
"""

import triton
import triton.language as tl

from .states import enter, leave, masks, places, read, segments_of, write
from .tiles import LOG2E


@triton.jit
def backward(
    g, d, d_b, d_t, d_h, d_n, start, states, ends, products, dw, dd, dstart, table,
    T, n, rows, p, per,
    ROWS: tl.constexpr, P: tl.constexpr, STEPS: tl.constexpr, LOG: tl.constexpr, CONSTANT: tl.constexpr,
    FLAT: tl.constexpr, COMPLEX: tl.constexpr, PACKED: tl.constexpr, SUMMARY: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    """The other way, g the gradient of the states. dw as w; dd [blocks of p, B, T, rows], CONSTANT: [blocks of p,
    segments, N, rows]. Grid as of `forward`."""
    PAIR: tl.constexpr = 2 if COMPLEX else 1
    row, first, length, segments, place = segments_of(table, T, per, PACKED)
    segment = tl.program_id(2).to(tl.int64)
    size, column = (segment - segment + rows) * p * PAIR, tl.program_id(0) % tl.cdiv(p, P)
    r, j, entries, of_rows, decays = places(d_h, d_n, n, p, FLAT, COMPLEX, ROWS, P)
    s, s_i = enter(
        start, ends, products, r, j, entries, of_rows, rows, p, size, segments, place, COMPLEX, SUMMARY, REST, True
    )  # fmt: skip
    behind = row * T + first
    at, at_d = g + behind * size + entries, d + row * d_b + first * d_t + decays
    at_x = states + (behind - 1) * size + entries  # one step behind
    to = dw + behind * size + entries
    to_d = dd + (column.to(tl.int64) * (1 if PACKED else tl.num_programs(1)) * T + behind) * rows * PAIR + of_rows
    total = tl.full([ROWS], 1.0, tl.float32)
    total_i, whole, whole_i = (
        tl.zeros([ROWS], tl.float32), tl.zeros([ROWS], tl.float32), tl.zeros([ROWS], tl.float32)
    )  # fmt: skip
    begin, end = segment * per, tl.minimum(segment * per + per, length)
    _, inside = masks(r, j, rows, p, begin < end)
    if CONSTANT:
        d_0, d_0i = read(at_d, r < rows, COMPLEX)
        d_0 = d_0.to(tl.float32)
        if LOG:
            d_0 = tl.exp2(d_0 * LOG2E)
    if not SUMMARY:  # the state before the segment
        if begin == 0:
            x_0, x_0i = read(start + tl.program_id(1) * size + entries, inside, COMPLEX)
        else:
            x_0, x_0i = read(at_x + begin * size, inside, COMPLEX)
    for turn in range(0, end - begin, STEPS):
        last = end - 1 - turn
        gs, gs_i, ds, ds_i, xs, xs_i = (), (), (), (), (), ()
        for k in tl.static_range(STEPS):
            in_rows, inside = masks(r, j, rows, p, last - k >= begin)
            gs += (tl.load(at + (last - k) * size, mask=inside, other=0.0),)
            if COMPLEX:
                gs_i += (tl.load(at + (last - k) * size + 1, mask=inside, other=0.0),)
            if not CONSTANT:
                ds += (tl.load(at_d + (last - k) * d_t, mask=in_rows, other=0.0),)
                if COMPLEX:
                    ds_i += (tl.load(at_d + (last - k) * d_t + 1, mask=in_rows, other=0.0),)
            if not SUMMARY:
                _, inside = masks(r, j, rows, p, last - k > begin)
                xs += (tl.load(at_x + (last - k) * size, mask=inside, other=0.0),)
                if COMPLEX:
                    xs_i += (tl.load(at_x + (last - k) * size + 1, mask=inside, other=0.0),)
        for k in tl.static_range(STEPS):
            there = last - k >= begin
            if CONSTANT:
                a = d_0
            else:
                a = ds[k].to(tl.float32)
                if LOG:
                    a = tl.exp2(a * LOG2E)
            a, s = tl.where(there, a, 1.0), s + gs[k]
            if COMPLEX:
                if CONSTANT:
                    a_i = d_0i
                else:
                    a_i = ds_i[k]
                a_i, s_i = tl.where(there, a_i, 0.0), s_i + gs_i[k]
            if SUMMARY:
                if COMPLEX:
                    total, total_i = a * total + a_i * total_i, a * total_i - a_i * total
                else:
                    total = a * total
            else:
                in_rows, inside = masks(r, j, rows, p, there)
                x = tl.where(last - k > begin, xs[k], x_0)
                tl.store(to + (last - k) * size, s, mask=inside)
                if COMPLEX:
                    tl.store(to + (last - k) * size + 1, s_i, mask=inside)
                    x_i = tl.where(last - k > begin, xs_i[k], x_0i)
                    of_d, of_di = tl.sum(s * x + s_i * x_i, 1), tl.sum(s_i * x - s * x_i, 1)
                    if CONSTANT:
                        whole_i += tl.where(there, of_di, 0.0)
                    else:
                        tl.store(to_d + (last - k) * rows * PAIR + 1, of_di, mask=in_rows)
                else:
                    of_d = tl.sum(s * x, 1)
                    if LOG:
                        of_d *= a
                if CONSTANT:
                    whole += tl.where(there, of_d, 0.0)
                else:
                    tl.store(to_d + (last - k) * rows * PAIR, of_d, mask=in_rows)
            if COMPLEX:
                s, s_i = a[:, None] * s + a_i[:, None] * s_i, a[:, None] * s_i - a_i[:, None] * s
            else:
                s = a[:, None] * s
    if SUMMARY:
        leave(
            ends, products, s, s_i, total, total_i, r, j, entries, of_rows, rows, p, size, segments, place, COMPLEX
        )  # fmt: skip
    else:
        _, inside = masks(r, j, rows, p, segment == 0)
        write(dstart + tl.program_id(1) * size + entries, s, s_i, inside, COMPLEX)
        if CONSTANT:
            place = (column * tl.num_programs(2) + segment) * tl.num_programs(1) + tl.program_id(1)
            write(dd + place * rows * PAIR + of_rows, whole, whole_i, r < rows, COMPLEX)
