"""The other way through states.py, for the gradient g of every state:

lam_t = g_t + conj(d_{t+1}) o lam_{t+1}        dw_t = lam_t        dd_t = lam_t conj(x_{t-1})
"""

import triton
import triton.language as tl

from .states import enter, leave, masks, places, read, write
from .tiles import LOG2E


@triton.jit
def backward(
    g, d, d_b, d_t, d_h, d_n, start, states, ends, products, dw, dd, dstart,
    T, n, rows, p, per,
    ROWS: tl.constexpr, P: tl.constexpr, STEPS: tl.constexpr, LOG: tl.constexpr, CONSTANT: tl.constexpr,
    FLAT: tl.constexpr, COMPLEX: tl.constexpr, SUMMARY: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    """The other way, g the gradient of the states. dw as w; dd [blocks of p, B, T, rows], CONSTANT: [blocks of p,
    segments, B, rows]. Grid as of `forward`."""
    PAIR: tl.constexpr = 2 if COMPLEX else 1
    batch, segment = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    size, column = (batch - batch + rows) * p * PAIR, tl.program_id(0) % tl.cdiv(p, P)
    r, j, entries, of_rows, decays = places(d_h, d_n, n, p, FLAT, COMPLEX, ROWS, P)
    s, s_i = enter(
        start, ends, products, r, j, entries, of_rows, rows, p, size, COMPLEX, SUMMARY, REST, True
    )  # fmt: skip
    at, at_d = g + batch * T * size + entries, d + batch * d_b + decays
    at_x = states + (batch * T - 1) * size + entries  # one step behind
    to = dw + batch * T * size + entries
    to_d = dd + (column * tl.num_programs(1) + batch) * T * rows * PAIR + of_rows
    total = tl.full([ROWS], 1.0, tl.float32)
    total_i, whole, whole_i = (
        tl.zeros([ROWS], tl.float32), tl.zeros([ROWS], tl.float32), tl.zeros([ROWS], tl.float32)
    )  # fmt: skip
    begin, end = segment * per, tl.minimum(segment * per + per, T)
    row, inside = masks(r, j, rows, p, segment >= 0)
    if CONSTANT:
        d_0, d_0i = read(at_d, r < rows, COMPLEX)
        d_0 = d_0.to(tl.float32)
        if LOG:
            d_0 = tl.exp2(d_0 * LOG2E)
    if not SUMMARY:  # the state before the segment
        if begin == 0:
            x_0, x_0i = read(start + batch * size + entries, inside, COMPLEX)
        else:
            x_0, x_0i = read(at_x + begin * size, inside, COMPLEX)
    for turn in range(0, end - begin, STEPS):
        last = end - 1 - turn
        gs, gs_i, ds, ds_i, xs, xs_i = (), (), (), (), (), ()
        for k in tl.static_range(STEPS):
            row = r < tl.where(last - k >= begin, rows, 0)
            inside = row[:, None] & (j < p)[None, :]
            gs += (tl.load(at + (last - k) * size, mask=inside, other=0.0),)
            if COMPLEX:
                gs_i += (tl.load(at + (last - k) * size + 1, mask=inside, other=0.0),)
            if not CONSTANT:
                ds += (tl.load(at_d + (last - k) * d_t, mask=row, other=0.0),)
                if COMPLEX:
                    ds_i += (tl.load(at_d + (last - k) * d_t + 1, mask=row, other=0.0),)
            if not SUMMARY:
                inside = (r < tl.where(last - k > begin, rows, 0))[:, None] & (j < p)[None, :]
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
                row = r < tl.where(there, rows, 0)
                inside = row[:, None] & (j < p)[None, :]
                x = tl.where(last - k > begin, xs[k], x_0)
                tl.store(to + (last - k) * size, s, mask=inside)
                if COMPLEX:
                    tl.store(to + (last - k) * size + 1, s_i, mask=inside)
                    x_i = tl.where(last - k > begin, xs_i[k], x_0i)
                    of_d, of_di = tl.sum(s * x + s_i * x_i, 1), tl.sum(s_i * x - s * x_i, 1)
                    if CONSTANT:
                        whole_i += tl.where(there, of_di, 0.0)
                    else:
                        tl.store(to_d + (last - k) * rows * PAIR + 1, of_di, mask=row)
                else:
                    of_d = tl.sum(s * x, 1)
                    if LOG:
                        of_d *= a
                if CONSTANT:
                    whole += tl.where(there, of_d, 0.0)
                else:
                    tl.store(to_d + (last - k) * rows * PAIR, of_d, mask=row)
            if COMPLEX:
                s, s_i = a[:, None] * s + a_i[:, None] * s_i, a[:, None] * s_i - a_i[:, None] * s
            else:
                s = a[:, None] * s
    if SUMMARY:
        leave(ends, products, s, s_i, total, total_i, r, j, entries, of_rows, rows, p, size, COMPLEX)
    else:
        _, inside = masks(r, j, rows, p, segment == 0)
        write(dstart + batch * size + entries, s, s_i, inside, COMPLEX)
        if CONSTANT:
            place = (column * tl.num_programs(2) + segment) * tl.num_programs(1) + batch
            write(dd + place * rows * PAIR + of_rows, whole, whole_i, r < rows, COMPLEX)
