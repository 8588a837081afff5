"""The gradients of a decay minus a rank-one matrix, of every chunk at once.

With z, what is erased, and f, the gradient of what the triangle (I + P_vu) z = V S + P_vb w is given,

    z = W S + X w        f = -T^T (U dS' + P_cu^T dy)        (walk.py leaves W S, U dS'; low_rank_prepare.py the rest)

there are two rows r, c with the gradient e = dy and v with f, and two columns k, b with w and u with -z, and for each
row and each column what scalar_gradients.py has for its one:

    dr_i = D_(i) S e_i + sum_k sum_j (e_i^T w_j) E_ij k_j        dk_j = D_(j) dS' w_j + sum_r sum_i (e_i^T w_j) E_ij r_i
"""

import triton
import triton.language as tl

from .low_rank_channels import diagonal, gradient_of_pairs, over_steps
from .low_rank_tiles import product
from .tiles import across, between, chunk_at, column, down, log2


@triton.jit
def side(
    own, one, two, w, y, z, f, along, S, dS, turned, known, reached, g, g_t, scale, over, limit, width, p,
    C: tl.constexpr, N: tl.constexpr, P: tl.constexpr, BEFORE: tl.constexpr,
    ROWS: tl.constexpr, SECOND: tl.constexpr, CHANNELS: tl.constexpr, KIND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradient of one vector [C, N], and `over`, that of the log decays: [C], or CHANNELS [C, N], to which it adds.

    ROWS: of c (SECOND: v), which meets the columns b and u, here `one` and `two`, with the state before the chunk; else
    of b (u), which meets c and v, with the gradient of the state after it. Signals are pairs, where they start and the
    stride of a step, which in z and f is `along`. width: the channels from the first of these N on.
    """
    i, d, j = tl.arange(0, C), tl.arange(0, N), tl.arange(0, P)
    found = tl.zeros([C, N], tl.float32)
    passed = tl.zeros([N], tl.float32)
    M_one, M_two = tl.zeros([C, C], tl.float32), tl.zeros([C, C], tl.float32)
    here, here_T = i[:, None] * C + i[None, :], i[None, :] * C + i[:, None]
    for first in tl.range(0, p, P, disable_licm=True):
        left = p - first
        if ROWS:
            from_one = across(w[0] + first, i, w[1], j, limit, left).to(KIND)
            from_two = -across(z + first, i, along, j, limit, left)
            from_two = from_two - product(from_one, tl.load(known + here_T), KIND, PRECISION)
            e = down(y[0] + first, i, y[1], j, limit, left)
            if SECOND:
                e = down(f + first, i, along, j, limit, left) + product(tl.load(reached + here_T), e, KIND, PRECISION)
                e = -product(tl.load(turned + here_T), e, KIND, PRECISION)
        else:
            from_one = across(y[0] + first, i, y[1], j, limit, left).to(KIND)
            from_two = across(f + first, i, along, j, limit, left)
            from_two = from_two + product(from_one, tl.load(reached + here), KIND, PRECISION)
            from_two = -product(from_two, tl.load(turned + here), KIND, PRECISION)
            e = down(w[0] + first, i, w[1], j, limit, left)
            if SECOND:
                e = -product(tl.load(known + here), e, KIND, PRECISION) - down(z + first, i, along, j, limit, left)
        e = e.to(KIND)
        at, inside = first + d[None, :] * p + j[:, None], (d < width)[None, :] & (j < left)[:, None]
        state = tl.load((S if ROWS else dS) + at, mask=inside, other=0.0)  # [P, N]
        if not ROWS and not SECOND:
            passed += tl.sum(tl.load(S + at, mask=inside, other=0.0).to(tl.float32) * state.to(tl.float32), 0)
        found += tl.dot(e, state.to(KIND), input_precision=PRECISION)
        M_one += tl.dot(e, from_one, input_precision=PRECISION)
        M_two += tl.dot(e, from_two.to(KIND), input_precision=PRECISION)
    SHIFT: tl.constexpr = 1 if ROWS and SECOND else BEFORE  # reads the state as it was
    vector = down(own[0], i, own[1], d, limit, width).to(tl.float32)
    if ROWS:
        M_two *= scale[None, :]
    if SECOND and not ROWS:
        vector *= scale[:, None]
    if CHANNELS:
        meets, meets_two = down(one[0], i, one[1], d, limit, width), down(two[0], i, two[1], d, limit, width)
        g_own = log2(down(g, i, g_t, d, limit, width))
        own_pairs = tl.zeros([C, N], tl.float32)
        if not SHIFT:  # what a step writes and reads itself does not decay
            own_pairs = diagonal(M_one, i) * meets
            if ROWS:
                own_pairs += diagonal(M_two, i) * meets_two
                vector *= tl.exp2(g_own)
            else:
                meets = meets * tl.exp2(g_own)
        if ROWS:
            found *= tl.exp2(tl.cumsum(log2(down(g, i - 1, g_t, d, limit, width)), 0))
        else:
            found *= tl.exp2(tl.cumsum(log2(down(g, i + 1, g_t, d, limit, width)), 0, reverse=True))
        LEVELS: tl.constexpr = 6 if C == 64 else 5 if C == 32 else 4
        over += (passed * tl.exp2(tl.sum(g_own, 0)))[None, :]
        over += over_steps(vector * found, i, LEVELS, ROWS, KIND, PRECISION)
        if not ROWS:
            found += own_pairs
        found, over = gradient_of_pairs(
            vector, meets, meets_two, M_one.to(KIND), M_two.to(KIND), found, over, g_own, i,
            LEVELS, ROWS, KIND, PRECISION,
        )  # fmt: skip
        if ROWS and not SHIFT:
            over += vector * found
            found = found * tl.exp2(g_own) + own_pairs
    else:
        g_before, g_own = log2(column(g, i - 1, g_t, limit)), log2(column(g, i, g_t, limit))
        strict = between(g_before, i, 1, not ROWS)
        late = strict
        if ROWS:
            until = tl.exp2(tl.cumsum(log2(column(g, i - SHIFT, g_t, limit)), 0))
            if not SHIFT:
                late = tl.where(i[:, None] == i[None, :], 1.0, tl.exp2(g_own)[:, None] * strict)
            M_one, M_two = M_one * late, M_two * late
        else:
            until = tl.exp2(tl.cumsum(log2(column(g, i + 1, g_t, limit)), 0, reverse=True))
            if not SHIFT:
                late = tl.where(i[:, None] == i[None, :], 1.0, tl.exp2(g_own)[None, :] * strict)
            M_one, M_two = M_one * late, M_two * strict
        found *= until[:, None]
        ends = tl.sum(found * vector, 1)
        if ROWS:
            over += tl.sum(tl.where(i[None, :] >= i[:, None] + SHIFT, ends[None, :], 0.0), 1)
            pairs = M_one * product(vector, across(one[0], i, one[1], d, limit, width), KIND, PRECISION)
            pairs += M_two * product(vector, across(two[0], i, two[1], d, limit, width), KIND, PRECISION)
            pairs = product(i[None, :] >= i[:, None] + SHIFT, pairs, KIND, PRECISION)  # reads at a step or later
            over += tl.sum(tl.where(i[None, :] < i[:, None], pairs, 0.0), 1)
        else:
            over += tl.sum(tl.where(i[None, :] < i[:, None], ends[None, :], 0.0), 1)
        over += tl.sum(passed) * tl.exp2(tl.sum(g_own, 0))
        found += product(M_one, down(one[0], i, one[1], d, limit, width), KIND, PRECISION)
        found += product(M_two, down(two[0], i, two[1], d, limit, width), KIND, PRECISION)
    return found, over


@triton.jit
def gradients(
    read, c_b, c_t, c_h,
    seen, v_b, v_t, v_h,
    write, b_b, b_t, b_h,
    erase, u_b, u_t, u_h,
    drive, w_b, w_t, w_h,
    dy, y_b, y_t, y_h,
    beta, s_b, s_t, s_h,
    g, g_b, g_t, g_h,
    turned, known, reached, states, dstates, erased, derased, dread, dseen, dwrite, derase, dbeta, dg, table, owners,
    T, H, n, p, units,
    C: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PACKED: tl.constexpr,
    BEFORE: tl.constexpr, CHANNELS: tl.constexpr, KIND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Grid: chunks of all sequences, H. In each, blocks of N channels; of a block the vectors c, v, b, u in turn.

    dread, dseen, dwrite, derase [B, T, H, n]; dbeta [B, T, H, 1], dg too, or where CHANNELS decay each on their own
    [B, T, H, n]. turned, known, reached: of low_rank_prepare.py; states, dstates, erased, derased: of walk.py.
    """
    place, h = tl.program_id(0).to(tl.int64), tl.program_id(0) % H
    batch, t0, limit = chunk_at(table, owners, place // H, T, units, C, PACKED)
    if limit <= 0:
        return
    i, d, start = tl.arange(0, C), tl.arange(0, N), (batch * T + t0) * H + h
    w, y = (drive + batch * w_b + h * w_h + t0 * w_t, w_t), (dy + batch * y_b + h * y_h + t0 * y_t, y_t)
    scale = column(beta + batch * s_b + h * s_h + t0 * s_t, i, s_t, limit).to(tl.float32)
    dscale = tl.zeros([C], tl.float32)
    over = tl.zeros([C, N] if CHANNELS else [C], tl.float32)
    for step in tl.range(0, 4 * tl.cdiv(n, N), disable_licm=True):  # what turns share would fill the registers
        skipped = step // 4 * N
        left = n - skipped
        rows = (
            (read + batch * c_b + h * c_h + t0 * c_t + skipped, c_t),
            (seen + batch * v_b + h * v_h + t0 * v_t + skipped, v_t),
        )
        columns = (
            (write + batch * b_b + h * b_h + t0 * b_t + skipped, b_t),
            (erase + batch * u_b + h * u_h + t0 * u_t + skipped, u_t),
        )
        at_g = g + batch * g_b + h * g_h + t0 * g_t
        if CHANNELS:
            at_g += skipped
        S = (place * n + skipped) * p
        for role in tl.static_range(4):
            if step % 4 == role:  # in turn, not at once: each has all registers
                own, others = (rows[role], columns) if role < 2 else (columns[role - 2], rows)
                found, over = side(
                    own, others[0], others[1], w, y, erased + start * p, derased + start * p, H * p, states + S,
                    dstates + S, turned + place * C * C, known + place * C * C, reached + place * C * C, at_g, g_t,
                    scale, over, limit, left, p, C, N, P, BEFORE, role < 2, role % 2 == 1, CHANNELS, KIND, PRECISION,
                )  # fmt: skip
                if role == 3:
                    dscale += tl.sum(found * down(own[0], i, own[1], d, limit, left), 1)
                    found *= scale[:, None]
                at = start * n + skipped + i[:, None] * (H * n) + d[None, :]
                inside = (i < limit)[:, None] & (d < left)[None, :]
                made = (dread, dseen, dwrite, derase)[role]
                tl.store(made + at, found.to(made.dtype.element_ty), mask=inside)
        if CHANNELS:
            if step % 4 == 3:
                at = start * n + skipped + i[:, None] * (H * n) + d[None, :]
                inside = (i < limit)[:, None] & (d < left)[None, :]
                tl.store(dg + at, over.to(dg.dtype.element_ty), mask=inside)
                over = tl.zeros([C, N], tl.float32)
    if not CHANNELS:
        tl.store(dg + start + i * H, over.to(dg.dtype.element_ty), mask=i < limit)
    tl.store(dbeta + start + i * H, dscale.to(dbeta.dtype.element_ty), mask=i < limit)
