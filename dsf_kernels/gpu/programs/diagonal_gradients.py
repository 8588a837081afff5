"""The gradients of rows, columns and decays per channel, of every chunk at once, from the states that walk.py leaves.

With r~_i = r_i o d_i (before: r_i), E_ij the decays strictly between, D_(i) from the chunk's start, D_(j) to its end:

    dr~_i = D_(i) o S dy_i + sum_{j<i} (dy_i^T u_j) E_ij o k_j
    dk_j = D_(j) o dS u_j + sum_{i>j} (dy_i^T u_j) E_ij o r~_i

The gradient of a log decay is the sum of what passes over its step: reads from the chunk's start, writes to its end,
pairs, and the state from end to end. At each level (see diagonal_steps.py) a pair passes over one piece on either side
of a border, so the exponents of that piece get the sums r~ o dr~ and k o dk of that level alone: no difference of sums
over a chunk, which would leave strong decays without digits.

Reads come first, then writes, so that either has the registers to itself. Tiles have time across: what a product
leaves and what a block of four needs then lie in the same registers.
"""

import triton
import triton.language as tl

from .diagonal_steps import (
    blocks,
    decays,
    doubled,
    each,
    from_start,
    inner,
    meet,
    other_half,
    plus,
    put,
    quarters,
    steps,
    times,
    to_border,
    to_end,
)
from .tiles import UNIT, across, chunk_at, down


@triton.jit
def _stacked(x, KIND: tl.constexpr):
    """[N, 64] of four tiles: step 4 a + k in place 16 k + a, so that a thread that holds an entry of one tile in what a
    product leaves holds those of the others."""
    x = tl.join(tl.join(x[0].to(KIND), x[2].to(KIND)), tl.join(x[1].to(KIND), x[3].to(KIND)))
    return tl.reshape(tl.permute(x, (0, 2, 3, 1)), (x.shape[0], 64))


@triton.jit
def _unstacked(x):
    return quarters(tl.permute(tl.reshape(x, (x.shape[0], 2, 2, 16)), (0, 3, 1, 2)))


@triton.jit
def _products(
    S, i, n, p, near, near_t, far, far_t, limit,
    N: tl.constexpr, P: tl.constexpr, KIND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """S near^T [N, 64] and far near^T [64, 64], steps by places; near, far [64, p]."""
    x = tl.arange(0, 64)
    t = 4 * (x % 16) + x // 16
    of_state, pairs = tl.zeros([N, 64], tl.float32), tl.zeros([64, 64], tl.float32)
    for first in range(0, p, P):
        j = first + tl.arange(0, P)
        inside = (i < n)[:, None] & (j < p)[None, :]
        left = tl.load(S + i[:, None] * p + j[None, :], mask=inside, other=0.0).to(KIND)
        right = across(near, t, near_t, j, limit, p).to(KIND)
        of_state += tl.dot(left, right, input_precision=PRECISION)
        pairs += tl.dot(down(far, t, far_t, j, limit, p).to(KIND), right, input_precision=PRECISION)
    return of_state, pairs.to(KIND)


@triton.jit
def _within(pairs):
    """[far][near] of the steps of a block, [1, 16] each."""
    a = tl.arange(0, 64) % 16
    same = tl.where(a[:, None] == a[None, :], pairs.to(tl.float32), 0.0)
    w = tl.reshape(tl.sum(tl.reshape(same, (4, 16, 4, 16)), 3), (2, 2, 1, 16, 2, 2))
    w0, w1, w2, w3 = quarters(tl.permute(w, (2, 3, 4, 5, 0, 1)))
    return quarters(w0), quarters(w1), quarters(w2), quarters(w3)


@triton.jit
def _exponents(E):
    """The decays to the borders at levels 2, 4, 8, and the exponents from the chunk's start and to its end."""
    before, after, whole = doubled(tl.zeros_like(E), tl.zeros_like(E), E, 1, True)
    f2 = to_border(before, after, 2, True)
    before, after, whole = doubled(before, after, whole, 2, True)
    f4 = to_border(before, after, 4, True)
    before, after, whole = doubled(before, after, whole, 4, True)
    f8 = to_border(before, after, 8, True)
    before, after, whole = doubled(before, after, whole, 8, True)
    return (f2, f4, f8), before, after


@triton.jit
def _level(
    h: tl.constexpr, f, near, far, pairs, of_near, over, of_blocks,
    READS: tl.constexpr, KIND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Adds what near gets of the pairs that meet at this level, short of its decay in a block of four.

    over: the gradient of exponents that a tile of near passes in 2 h blocks, and of_blocks that of all of them: from
    those of 2 h blocks to those of h, the transpose of `doubled`.
    """
    a = tl.arange(0, 64) % 16
    if READS:
        pairs = tl.where(meet(a[None, :], a[:, None], h), pairs, 0.0).to(KIND)
    else:
        pairs = tl.where(meet(a[:, None], a[None, :], h), pairs, 0.0).to(KIND)
    passes = ((blocks(over, True) & h) != 0) == READS
    of_blocks += other_half(tl.where(passes, over, 0.0) + of_blocks, h, True)
    more = _unstacked(tl.dot(_stacked(times(far, f), KIND), pairs, input_precision=PRECISION))
    more = times(more, f)
    return plus(of_near, more), over + inner(near, more), of_blocks


@triton.jit
def _side(near, far, pairs, of, f, READS: tl.constexpr, KIND: tl.constexpr, PRECISION: tl.constexpr):
    """What near gets, short of its decay in a block of four; and the exponents of blocks. of: what it has of states."""
    over, of_blocks = inner(near, of), tl.zeros_like(near[0])
    of, over, of_blocks = _level(8, f[2], near, far, pairs, of, over, of_blocks, READS, KIND, PRECISION)
    of, over, of_blocks = _level(4, f[1], near, far, pairs, of, over, of_blocks, READS, KIND, PRECISION)
    of, over, of_blocks = _level(2, f[0], near, far, pairs, of, over, of_blocks, READS, KIND, PRECISION)
    one = tl.full(of_blocks.shape, 1.0, tl.float32)
    of, over, of_blocks = _level(1, one, near, far, pairs, of, over, of_blocks, READS, KIND, PRECISION)
    return of, of_blocks


@triton.jit
def gradients(
    rows, r_b, r_t, r_h,
    columns, k_b, k_t, k_h,
    drive, u_b, u_t, u_h,
    dy, y_b, y_t, y_h,
    g, g_b, g_t, g_h,
    states, dstates, drows, dcolumns, dg, table, owners,
    T, H, n, p, units,
    C: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PACKED: tl.constexpr, BEFORE: tl.constexpr,
    KIND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Grid: units of 64 steps of all sequences, H; blocks of N channels. drows, dcolumns, dg [B, T, H, n]; states,
    dstates [chunks, H, n, p] of chunks of C."""
    unit, h, i = tl.program_id(0).to(tl.int64) // H, tl.program_id(0) % H, tl.program_id(1) * N + tl.arange(0, N)
    batch, t0, limit = chunk_at(table, owners, unit, T, units, UNIT, PACKED)
    at_u, at_y = drive + batch * u_b + h * u_h + t0 * u_t, dy + batch * y_b + h * y_h + t0 * y_t
    at_r, at_k = rows + batch * r_b + h * r_h + t0 * r_t, columns + batch * k_b + h * k_h + t0 * k_t
    at_g, to = g + batch * g_b + h * g_h + t0 * g_t, ((batch * T + t0) * H + h) * n
    first = unit * (UNIT // C) * H + h  # chunk of this head
    S, dS = states + first * n * p, dstates + (first + (tl.cdiv(limit, C) - 1) * H) * n * p

    # reads, and what passes over steps on the way to them
    of_state, pairs = _products(S, i, n, p, at_y, y_t, at_u, u_t, limit, N, P, KIND, PRECISION)
    d, E = decays(at_g, g_t, i, limit, n, True)
    f, before, _ = _exponents(E)
    c, b = steps(at_r, r_t, i, limit, n, True), steps(at_k, k_t, i, limit, n, True)
    if not BEFORE:
        c = each(c, d)
    r = from_start(c, d)
    of = times(_unstacked(of_state), tl.exp2(before))
    of, over = _side(r, to_end(b, d), pairs, of, f, True, KIND, PRECISION)
    state = tl.zeros([N], tl.float32)
    for skipped in range(0, p, P):
        j = skipped + tl.arange(0, P)
        at, inside = i[:, None] * p + j[None, :], (i < n)[:, None] & (j < p)[None, :]
        left = tl.load(S + at, mask=inside, other=0.0).to(tl.float32)
        state += tl.sum(left * tl.load(dS + at, mask=inside, other=0.0).to(tl.float32), 1)
    tl.debug_barrier()  # what follows is read again: it is not kept in registers
    w = _within(pairs)
    d, E = decays(at_g, g_t, i, limit, n, True)
    c, b = steps(at_r, r_t, i, limit, n, True), steps(at_k, k_t, i, limit, n, True)
    if not BEFORE:
        c = each(c, d)
    r = from_start(c, d)
    over += (state * tl.exp2(tl.sum(E, 1)))[:, None]
    g2 = over + r[3] * of[3]
    g1 = g2 + r[2] * of[2]
    g0, g3 = g1 + r[1] * of[1], over
    of = from_start(of, d)
    p20, p31, p30 = w[0][2] * (d[1] * b[0]), w[1][3] * (d[2] * b[1]), w[0][3] * (d[1] * d[2] * b[0])
    g1, g2 = g1 + (c[2] * p20 + c[3] * p30), g2 + c[3] * (p31 + p30)
    of = (of[0], of[1] + w[0][1] * b[0], of[2] + w[1][2] * b[1] + p20, of[3] + w[2][3] * b[2] + p31 + p30)
    if not BEFORE:
        g0, g1, g2, g3 = plus((g0, g1, g2, g3), each(c, of))
        of = plus(each(of, d), (w[0][0] * b[0], w[1][1] * b[1], w[2][2] * b[2], w[3][3] * b[3]))
    put(drows + to, H * n, i, limit, n, of, True)
    tl.debug_barrier()
    # writes, and what passes over steps on the way from them
    of_state, pairs = _products(dS, i, n, p, at_u, u_t, at_y, y_t, limit, N, P, KIND, PRECISION)
    d, E = decays(at_g, g_t, i, limit, n, True)
    f, _, after = _exponents(E)
    own = steps(at_r, r_t, i, limit, n, True)
    c, k = own, to_end(steps(at_k, k_t, i, limit, n, True), d)
    if not BEFORE:
        c = each(c, d)
    of = times(_unstacked(of_state), tl.exp2(after))
    of, over = _side(k, from_start(c, d), pairs, of, f, False, KIND, PRECISION)
    tl.debug_barrier()
    w = _within(pairs)
    d, _ = decays(at_g, g_t, i, limit, n, True)
    own = steps(at_r, r_t, i, limit, n, True)
    c, k = own, to_end(steps(at_k, k_t, i, limit, n, True), d)
    if not BEFORE:
        c = each(c, d)
    g0, over = g0 + over, over + k[0] * of[0]
    g1, over = g1 + over, over + k[1] * of[1]
    g2, g3 = g2 + over, g3 + over + k[2] * of[2]
    put(dg + to, H * n, i, limit, n, (g0, g1, g2, g3), True)
    of0, of1, of2, of3 = to_end(of, d)
    of0 += w[1][0] * c[1] + d[1] * (w[2][0] * c[2] + w[3][0] * (d[2] * c[3]))
    of1, of2 = of1 + w[2][1] * c[2] + w[3][1] * (d[2] * c[3]), of2 + w[3][2] * c[3]
    of = (of0, of1, of2, of3)
    if not BEFORE:
        of = plus(of, (w[0][0] * own[0], w[1][1] * own[1], w[2][2] * own[2], w[3][3] * own[3]))
    put(dcolumns + to, H * n, i, limit, n, of, True)
