"""The gradients of a decay minus a rank-one matrix, of every chunk at once.

With z, what is erased, and f, the gradient of what the triangle (I + P_vu) z = V S + P_vb w is given,

    z = W S + X w        f = -T^T (U dS' + P_cu^T dy)        (walk.py leaves W S, U dS'; low_rank_prepare.py the rest)

there are two rows r, c with the gradient e = dy and v with f, and two columns k, b with w and u with -z, and for each
row and each column what scalar_gradients.py has for its one:

    dr_i = D_(i) S e_i + sum_k sum_j (e_i^T w_j) E_ij k_j        dk_j = D_(j) dS' w_j + sum_r sum_i (e_i^T w_j) E_ij r_i
"""

import triton
import triton.language as tl

from .low_rank_channels import diagonal, gradient_of_pairs
from .low_rank_tiles import product
from .tiles import across, between, column, down, log2


@triton.jit
def side(
    own, own_t, one, one_t, two, two_t, w, w_t, y, y_t, z, f, along, states, before, turned, known, reached,
    g, g_t, scale, gradient, dg, dscale, limit, n, width, p, step,
    C: tl.constexpr, N: tl.constexpr, P: tl.constexpr, BEFORE: tl.constexpr,
    ROWS: tl.constexpr, SECOND: tl.constexpr, CHANNELS: tl.constexpr, KIND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradient of one vector. ROWS: of c (SECOND: v), which meets the columns b and u, here `one` and `two`, with
    the state before the chunk; else of b (u), which meets c and v, with the gradient of the state after it.

    What it adds to the gradient of the log decays goes to dg, and that of the scale of u to dscale where it is u's; a
    time step is `step` entries, or vectors, long. width: the channels from the first of these N on.
    """
    i, d, j = tl.arange(0, C), tl.arange(0, N), tl.arange(0, P)
    found = tl.zeros([C, N], tl.float32)
    passed = tl.zeros([N], tl.float32)
    M_one, M_two = tl.zeros([C, C], tl.float32), tl.zeros([C, C], tl.float32)
    here, here_T = i[:, None] * C + i[None, :], i[None, :] * C + i[:, None]
    for first in range(0, p, P):
        left = p - first
        if ROWS:
            from_one = across(w + first, i, w_t, j, limit, left).to(KIND)
            from_two = -across(z + first, i, along, j, limit, left)
            from_two = from_two - product(from_one, tl.load(known + here_T), KIND, PRECISION)
            e = down(y + first, i, y_t, j, limit, left)
            if SECOND:
                e = down(f + first, i, along, j, limit, left) + product(tl.load(reached + here_T), e, KIND, PRECISION)
                e = -product(tl.load(turned + here_T), e, KIND, PRECISION)
        else:
            from_one = across(y + first, i, y_t, j, limit, left).to(KIND)
            from_two = across(f + first, i, along, j, limit, left)
            from_two = from_two + product(from_one, tl.load(reached + here), KIND, PRECISION)
            from_two = -product(from_two, tl.load(turned + here), KIND, PRECISION)
            e = down(w + first, i, w_t, j, limit, left)
            if SECOND:
                e = -product(tl.load(known + here), e, KIND, PRECISION) - down(z + first, i, along, j, limit, left)
        e = e.to(KIND)
        inside = (d < width)[None, :] & (j < left)[:, None]
        S_T = tl.load(states + first + d[None, :] * p + j[:, None], mask=inside, other=0.0)  # [P, N]
        if not ROWS and not SECOND:
            S = tl.load(before + first + d[None, :] * p + j[:, None], mask=inside, other=0.0)
            passed += tl.sum(S.to(tl.float32) * S_T.to(tl.float32), 0)
        found += tl.dot(e, S_T.to(KIND), input_precision=PRECISION)
        M_one += tl.dot(e, from_one, input_precision=PRECISION)
        M_two += tl.dot(e, from_two.to(KIND), input_precision=PRECISION)
    SHIFT: tl.constexpr = 1 if ROWS and SECOND else BEFORE  # reads the state as it was
    vector = down(own, i, own_t, d, limit, width).to(tl.float32)
    if ROWS:
        M_two *= scale[None, :]
    if SECOND and not ROWS:
        vector *= scale[:, None]
    if CHANNELS:
        one, two = down(one, i, one_t, d, limit, width), down(two, i, two_t, d, limit, width)
        g_own = log2(down(g, i, g_t, d, limit, width))
        own_pairs = tl.zeros([C, N], tl.float32)
        if not SHIFT:  # what a step writes and reads itself does not decay
            own_pairs = diagonal(M_one, i) * one
            if ROWS:
                own_pairs += diagonal(M_two, i) * two
                vector *= tl.exp2(g_own)
            else:
                one = one * tl.exp2(g_own)
        if ROWS:
            found *= tl.exp2(tl.cumsum(log2(down(g, i - 1, g_t, d, limit, width)), 0))
        else:
            found *= tl.exp2(tl.cumsum(log2(down(g, i + 1, g_t, d, limit, width)), 0, reverse=True))
        LEVELS: tl.constexpr = 6 if C == 64 else 5 if C == 32 else 4
        found, over = gradient_of_pairs(
            vector, one, two, M_one.to(KIND), M_two.to(KIND), found, g_own, i, LEVELS, ROWS, KIND, PRECISION,
        )  # fmt: skip
        if ROWS and not SHIFT:
            over += vector * found
            found *= tl.exp2(g_own)
        found += own_pairs
        over += (passed * tl.exp2(tl.sum(g_own, 0)))[None, :]
        at_g, inside = i[:, None] * (step * n) + d[None, :], (i < limit)[:, None] & (d < width)[None, :]
        tl.store(dg + at_g, over, mask=inside)
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
        over = tl.sum(found * vector, 1)
        if ROWS:
            over = tl.sum(tl.where(i[None, :] >= i[:, None] + SHIFT, over[None, :], 0.0), 1)
            pairs = M_one * product(vector, across(one, i, one_t, d, limit, width), KIND, PRECISION)
            pairs += M_two * product(vector, across(two, i, two_t, d, limit, width), KIND, PRECISION)
            pairs = product(i[None, :] >= i[:, None] + SHIFT, pairs, KIND, PRECISION)  # reads at a step or later
            over += tl.sum(tl.where(i[None, :] < i[:, None], pairs, 0.0), 1)
        else:
            over = tl.sum(tl.where(i[None, :] < i[:, None], over[None, :], 0.0), 1)
        over += tl.sum(passed) * tl.exp2(tl.sum(g_own, 0))
        tl.store(dg + i * step, over, mask=i < limit)
        found += product(M_one, down(one, i, one_t, d, limit, width), KIND, PRECISION)
        found += product(M_two, down(two, i, two_t, d, limit, width), KIND, PRECISION)
    if SECOND and not ROWS:
        vector = down(own, i, own_t, d, limit, width)
        tl.store(dscale + i * step, tl.sum(found * vector, 1), mask=i < limit)
        found *= scale[:, None]
    inside = (i < limit)[:, None] & (d < width)[None, :]
    tl.store(gradient + i[:, None] * (step * n) + d[None, :], found.to(gradient.dtype.element_ty), mask=inside)


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
    turned, known, reached, states, dstates, erased, derased, dread, dseen, dwrite, derase, dbeta, dg,
    T, H, n, p, chunks,
    C: tl.constexpr, N: tl.constexpr, P: tl.constexpr, BEFORE: tl.constexpr, CHANNELS: tl.constexpr,
    KIND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Grid: one program for each of the vectors c, v, b, u of a chunk, B H, blocks of N channels.

    dread, dseen, dwrite, derase [B, T, H, n]; dg, in parts to be summed, [blocks, 4, B, T, H, 1], or where CHANNELS
    decay each on their own [4, B, T, H, n]; dbeta [blocks, B, T, H, 1]. turned, known, reached: of low_rank_prepare.py;
    states, dstates, erased, derased: of walk.py.
    """
    role, chunk, block = tl.program_id(0) % 4, tl.program_id(0) // 4 % chunks, tl.program_id(1)
    head = tl.program_id(0).to(tl.int64) // (4 * chunks)
    batch, h, t0 = head // H, head % H, tl.full([], 0, tl.int64) + chunk * C
    limit, width, skipped = min(T - chunk * C, C), n - block * N, block * N
    place, start = head * chunks + chunk, (batch * T + t0) * H + h
    steps = tl.num_programs(0).to(tl.int64) // (4 * chunks) * T
    c, v = read + batch * c_b + h * c_h + t0 * c_t + skipped, seen + batch * v_b + h * v_h + t0 * v_t + skipped
    b, u = write + batch * b_b + h * b_h + t0 * b_t + skipped, erase + batch * u_b + h * u_h + t0 * u_t + skipped
    w, y = drive + batch * w_b + h * w_h + t0 * w_t, dy + batch * y_b + h * y_h + t0 * y_t
    z, f = erased + start * p, derased + start * p
    S, dS = states + (place * n + skipped) * p, dstates + (place * n + skipped) * p
    turned, known, reached = turned + place * C * C, known + place * C * C, reached + place * C * C
    g = g + batch * g_b + h * g_h + t0 * g_t
    if CHANNELS:
        g, dg = g + skipped, dg + (role * steps + start) * n + skipped
    else:
        dg = dg + (block * 4 + role) * steps + start
    scale = column(beta + batch * s_b + h * s_h + t0 * s_t, tl.arange(0, C), s_t, limit).to(tl.float32)
    dbeta, to = dbeta + block * steps + start, start * n + skipped
    if role == 0:
        side(
            c, c_t, b, b_t, u, u_t, w, w_t, y, y_t, z, f, H * p, S, S, turned, known, reached,
            g, g_t, scale, dread + to, dg, dbeta, limit, n, width, p, H,
            C, N, P, BEFORE, True, False, CHANNELS, KIND, PRECISION,
        )  # fmt: skip
    elif role == 1:
        side(
            v, v_t, b, b_t, u, u_t, w, w_t, y, y_t, z, f, H * p, S, S, turned, known, reached,
            g, g_t, scale, dseen + to, dg, dbeta, limit, n, width, p, H,
            C, N, P, BEFORE, True, True, CHANNELS, KIND, PRECISION,
        )  # fmt: skip
    elif role == 2:
        side(
            b, b_t, c, c_t, v, v_t, w, w_t, y, y_t, z, f, H * p, dS, S, turned, known, reached,
            g, g_t, scale, dwrite + to, dg, dbeta, limit, n, width, p, H,
            C, N, P, BEFORE, False, False, CHANNELS, KIND, PRECISION,
        )  # fmt: skip
    else:
        side(
            u, u_t, c, c_t, v, v_t, w, w_t, y, y_t, z, f, H * p, dS, S, turned, known, reached,
            g, g_t, scale, derase + to, dg, dbeta, limit, n, width, p, H,
            C, N, P, BEFORE, False, True, CHANNELS, KIND, PRECISION,
        )  # fmt: skip
