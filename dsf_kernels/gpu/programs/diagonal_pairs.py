"""What the walk is given where every channel has its decay: P of each chunk, and rows and columns that are decayed.

    P_ij = r_i^T (d_{j+1} o ... o d_i o k_j), j <= i      r_i o d_1 ... d_i      d_{j+1} ... d_C o k_j

(before: without d_i, and j < i.) The walk goes chunk after chunk: what needs no state is made here, for all chunks at
once. Levels: see diagonal_steps.py.
"""

import triton
import triton.language as tl

from .diagonal_steps import decays, doubled, from_start, meet, put, stacked, steps, times, to_border, to_end
from .tiles import UNIT, chunk_at


@triton.jit
def _level(h: tl.constexpr, r, k, E, E_T, KIND: tl.constexpr, PRECISION: tl.constexpr):
    """P of the pairs that meet at level h. And exponents, of twice as many blocks."""
    if h > 1:
        r, k = times(r, to_border(E[0], E[1], h, False)), times(k, to_border(E_T[0], E_T[1], h, True))
    a = tl.arange(0, 64) // 4
    # the compiler fails where a stack is a factor as it is: writes that meet no read become 0
    k_64 = tl.where((a[None, :] & h) == 0, stacked(k, KIND, True), 0.0).to(KIND)
    M = tl.dot(stacked(r, KIND, False), k_64, input_precision=PRECISION)
    M = tl.where(meet(a[:, None], a[None, :], h), M, 0.0)
    return M, doubled(E[0], E[1], E[2], h, False), doubled(E_T[0], E_T[1], E_T[2], h, True)


@triton.jit
def _place(i, j, H, C: tl.constexpr):
    """Of a pair in `pairs`, from its chunk on."""
    return (i // C) * (H * C * C) + (i % C) * C + j % C


@triton.jit
def _put_pairs(P, H, C: tl.constexpr, i: tl.constexpr, j: tl.constexpr, found):
    """Of steps i and j of every block."""
    a = 4 * tl.arange(0, 16)
    tl.store(P + _place(a + i, a + j, H, C), found.to(P.dtype.element_ty))


@triton.jit
def prepare(
    rows, r_b, r_t, r_h,
    columns, k_b, k_t, k_h,
    g, g_b, g_t, g_h,
    ready_rows, ready_columns, whole, pairs, table, owners,
    T, H, n, units,
    C: tl.constexpr, N: tl.constexpr, WHOLE: tl.constexpr, PACKED: tl.constexpr, BEFORE: tl.constexpr,
    KIND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Grid: units of 64 steps of all sequences, H. ready_rows, ready_columns [B, T, H, n]; of chunks of C steps whole
    [chunks, H, n] and pairs [chunks, H, C, C]. WHOLE: n, up to a multiple of N."""
    unit, h = tl.program_id(0).to(tl.int64) // H, tl.program_id(0) % H
    batch, t0, limit = chunk_at(table, owners, unit, T, units, UNIT, PACKED)
    first = unit * (UNIT // C) * H + h  # chunk of this head
    at_r, at_k = rows + batch * r_b + h * r_h + t0 * r_t, columns + batch * k_b + h * k_h + t0 * k_t
    at_g, to = g + batch * g_b + h * g_h + t0 * g_t, ((batch * T + t0) * H + h) * n
    a, M, none = tl.arange(0, 16), tl.zeros([64, 64], tl.float32), tl.zeros([16], tl.float32)
    p00, p11, p22, p33, p10, p21, p32, p20, p31, p30 = none, none, none, none, none, none, none, none, none, none
    for skipped in tl.static_range(0, WHOLE, N):
        i = skipped + tl.arange(0, N)
        d, E = decays(at_g, g_t, i, limit, n, False)
        r, k = steps(at_r, r_t, i, limit, n, False), steps(at_k, k_t, i, limit, n, False)
        if not BEFORE:
            p00, p11 = p00 + tl.sum(r[0] * k[0], 1), p11 + tl.sum(r[1] * k[1], 1)
            p22, p33 = p22 + tl.sum(r[2] * k[2], 1), p33 + tl.sum(r[3] * k[3], 1)
            r = (r[0] * d[0], r[1] * d[1], r[2] * d[2], r[3] * d[3])
        p10, p21, p32 = p10 + tl.sum(r[1] * k[0], 1), p21 + tl.sum(r[2] * k[1], 1), p32 + tl.sum(r[3] * k[2], 1)
        p20, p31 = p20 + tl.sum(r[2] * d[1] * k[0], 1), p31 + tl.sum(r[3] * d[2] * k[1], 1)
        p30 += tl.sum(r[3] * (d[1] * d[2]) * k[0], 1)
        r = from_start(r, d)
        d_T, E_T = decays(at_g, g_t, i, limit, n, True)
        k_T = to_end(steps(at_k, k_t, i, limit, n, True), d_T)
        E, E_T = (tl.zeros_like(E), tl.zeros_like(E), E), (tl.zeros_like(E_T), tl.zeros_like(E_T), E_T)
        more, E, E_T = _level(1, r, k_T, E, E_T, KIND, PRECISION)
        M += more
        more, E, E_T = _level(2, r, k_T, E, E_T, KIND, PRECISION)
        M += more
        if C > 16:
            more, E, E_T = _level(4, r, k_T, E, E_T, KIND, PRECISION)
            M += more
        if C > 32:
            more, E, E_T = _level(8, r, k_T, E, E_T, KIND, PRECISION)
            M += more
        put(ready_rows + to, H * n, i, limit, n, times(r, tl.exp2(E[0])), False)
        put(ready_columns + to, H * n, i, limit, n, times(to_end(k, d), tl.exp2(E[1])), False)
        at, inside = whole + (first + 4 * a // C * H)[:, None] * n + i[None, :], (a % (C // 4) == 0)[:, None]
        tl.store(at, tl.exp2(E[2]), mask=inside & (i < n)[None, :])
    P, x = pairs + first * C * C, tl.arange(0, 64)
    i, j = x[:, None], x[None, :]
    inside = (i // C == j // C) & ((i // 4 != j // 4) | (i < j + BEFORE))
    tl.store(P + _place(i, j, H, C), M.to(P.dtype.element_ty), mask=inside)
    if not BEFORE:
        _put_pairs(P, H, C, 0, 0, p00)
        _put_pairs(P, H, C, 1, 1, p11)
        _put_pairs(P, H, C, 2, 2, p22)
        _put_pairs(P, H, C, 3, 3, p33)
    _put_pairs(P, H, C, 1, 0, p10)
    _put_pairs(P, H, C, 2, 1, p21)
    _put_pairs(P, H, C, 3, 2, p32)
    _put_pairs(P, H, C, 2, 0, p20)
    _put_pairs(P, H, C, 3, 1, p31)
    _put_pairs(P, H, C, 3, 0, p30)
