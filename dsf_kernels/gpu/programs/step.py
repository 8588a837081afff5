"""A few tokens on a state that is read once and written once: what decoding does.

S <- D_t S - beta_t a_t (v_t^T S) + b_t u_t^T        y_t = c_t^T S        (before: y_t = c_t^T of the S that was)
"""

import triton
import triton.language as tl

from .tiles import LOG2E, sequence, square


@triton.jit
def step(
    rows, r_b, r_t, r_h,
    columns, k_b, k_t, k_h,
    drive, u_b, u_t, u_h,
    decays, d_b, d_t, d_h,
    scales, s_b, s_t, s_h,
    along, a_b, a_t, a_h,
    seen, v_b, v_t, v_h,
    rate, scale, start, y, last, table,
    T, H, n, p,
    N: tl.constexpr, P: tl.constexpr, STEPS: tl.constexpr, DECAY: tl.constexpr, CHANNELS: tl.constexpr,
    SCALES: tl.constexpr, RANK: tl.constexpr, BEFORE: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    """DECAY: "none", "number" (rate), "log" or "factor": decays [B, T, H, 1], CHANNELS [B, T, H, n]. RANK: along a and
    seen v [B, T, H, n], beta in scales [B, T, H, 1] (SCALES) or the number `scale`. What STEPS steps read is asked for
    at once. Grid: N H of N sequences, blocks of p."""
    head = tl.program_id(0).to(tl.int64)
    number, h = head // H, head % H
    batch, first, length, _ = sequence(table, number, T, 0, PACKED)
    i, j = tl.arange(0, N), tl.program_id(1) * P + tl.arange(0, P)
    at_r, at_k, at_u = (
        rows + batch * r_b + h * r_h + i,
        columns + batch * k_b + h * k_h + i,
        drive + batch * u_b + h * u_h + j,
    )
    at_d, at_s = decays + batch * d_b + h * d_h, scales + batch * s_b + h * s_h
    at_a, at_v, to = (
        along + batch * a_b + h * a_h + i,
        seen + batch * v_b + h * v_h + i,
        y + (batch * T * H + h) * p + j,
    )
    if CHANNELS:
        at_d = at_d + i
    S = square(start + head * n * p, i, n, j, p)
    for t0 in range(0, length, STEPS):
        rs, ks, us, ds, ss, al, vs = (), (), (), (), (), (), ()
        for k in tl.static_range(STEPS):
            t = first + tl.minimum(t0 + k, length - 1)
            rs += (tl.load(at_r + t * r_t, mask=i < n, other=0.0),)
            ks += (tl.load(at_k + t * k_t, mask=i < n, other=0.0),)
            us += (tl.load(at_u + t * u_t, mask=j < p, other=0.0),)
            if DECAY == "log" or DECAY == "factor":
                if CHANNELS:
                    ds += (tl.load(at_d + t * d_t, mask=i < n, other=0.0),)
                else:
                    ds += (tl.load(at_d + t * d_t),)
            if RANK:
                al += (tl.load(at_a + t * a_t, mask=i < n, other=0.0),)
                vs += (tl.load(at_v + t * v_t, mask=i < n, other=0.0),)
                if SCALES:
                    ss += (tl.load(at_s + t * s_t),)
        for k in tl.static_range(STEPS):
            t = first + t0 + k
            r = rs[k].to(tl.float32)[:, None]
            now = S
            if DECAY == "number":
                now = rate * S
            if DECAY == "log" or DECAY == "factor":
                d = ds[k].to(tl.float32)
                if DECAY == "log":
                    d = tl.exp2(d * LOG2E)
                if CHANNELS:
                    now = d[:, None] * S
                else:
                    now = d * S
            if RANK:
                erased = tl.sum(vs[k].to(tl.float32)[:, None] * S, 0)
                if SCALES:
                    erased *= ss[k].to(tl.float32)
                else:
                    erased *= scale
                now -= al[k].to(tl.float32)[:, None] * erased[None, :]
            now += ks[k].to(tl.float32)[:, None] * us[k].to(tl.float32)[None, :]
            if BEFORE:
                found = tl.sum(r * S, 0)
            else:
                found = tl.sum(r * now, 0)
            tl.store(to + t * H * p, found.to(y.dtype.element_ty), mask=j < tl.where(t0 + k < length, p, 0))
            if STEPS == 1:
                S = now
            else:
                S = tl.where(t0 + k < length, now, S)
    inside = (i < n)[:, None] & (j < p)[None, :]
    tl.store(last + head * n * p + i[:, None] * p + j[None, :], S, mask=inside)
