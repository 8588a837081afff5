"""The loops of low_rank.py, for numba: one sweep over the rows of S a step, on chunks of tokens that lie in one buffer.

    S_t = diag(d_t) S_{t-1} + e_t z_t^T + k_t w_t^T      z_t = S_{t-1}^T v_t,  e_t = -b_t u_t      y_t = S_t^T c_t

A sweep makes S_t from S_{t-1} and, of each row while it is in registers, z_{t+1} and y_t: one load and one store of S.
Backward, the states of a chunk are made again; L is the gradient of S_t. The sweep of t = s adds to it what comes from
the token behind, L <- diag(d_{s+1}) L + v_{s+1} dz_{s+1}^T + c_s dy_s^T, and reads off it, in the same pass,

    dw_s = L^T k_s   dz_s = L^T e_s   dk_s = L w_s   de_s = L z_s   dd_s = (L o S_{s-1}) 1
    dv_{s+1} = S_s dz_{s+1}           dc_s = S_s dy_s               (before: c_{s+1}, dy_{s+1} for c_s, dy_s)

Columns of S do not meet: a tile of them (256 or 64 bytes wide) runs through the whole chunk. A chunk's tokens have the
slots 1..length; slots 0 and length + 1 hold d = 1, all else 0, so that the sweeps at both ends are as all others.
"""

from __future__ import annotations

from typing import Any

from .heads import CHUNK
from .lanes import load, narrow, pointer, splat, spread, store, wide, width
from .rows import clear, copy, copy_scaled, enter, fill, leave, place, room


def layout(n: Any, P: Any, length: Any, states: Any) -> Any:
    """Where the buffer holds: d, e, v, k, c (a vector each); the state; z, w, y, dy, dw, dz; sums, dd; states."""
    slots = min(length, CHUNK) + 2
    vector, signal = room(slots * n, 16), slots * P
    S = 5 * vector
    z = S + room(n * P, 16)
    sums = z + 6 * signal
    kept = sums + 5 * vector
    return vector, S, z, signal, sums, kept, kept + (slots * room(n * min(P, 64), 16) if states else 0)


def forward(at: Any, strides: Any, sizes: Any, kind: Any, memory: Any, lo: Any, hi: Any) -> None:
    """Rows lo..hi of batch and heads. at: addresses of d, b, u, v, k, c, w, x, y, last, starts (0: not kept)."""
    T, H, n, p, before, scalar = sizes
    buffer, x, y, last = (pointer(memory, kind), pointer(at[7], kind), pointer(at[8], kind), pointer(at[9], kind))
    like, tail = wide(buffer), narrow(buffer)
    P = room(p, width(tail))
    vector, S, z, signal, _, _, _ = layout(n, P, T, 0)
    w, out = z + signal, z + 2 * signal
    chunks = (T + CHUNK - 1) // CHUNK
    for row in range(lo, hi):
        b, h = row // H, row % H
        enter(buffer, S, x, row * n * p, n, p, P)
        for chunk in range(chunks):
            t, length = chunk * CHUNK, min(CHUNK, T - chunk * CHUNK)
            if at[10]:
                copy(pointer(at[10], kind), (row * chunks + chunk) * n * P, buffer, S, n * P)
            gather(at, strides, b, h, t, length, n, p, P, scalar, buffer, vector, w, kind)
            j = 0
            while j + width(like) <= P:
                tile(buffer, vector, n, length, before, S + j * n, 0, z + j, w + j, out + j, P, like)
                j += width(like)
            while j < P:
                tile(buffer, vector, n, length, before, S + j * n, 0, z + j, w + j, out + j, P, tail)
                j += width(tail)
            for i in range(length):
                copy(y, ((b * T + t + i) * H + h) * p, buffer, out + (i + 1) * P, p)
        leave(last, row * n * p, buffer, S, n, p, P)


def gather(at, strides, b, h, t, length, n, p, P, scalar, buffer, vector, w, kind) -> None:
    """The tokens of a chunk into slots 1..length, each row contiguous; and the slots beside them."""
    for i in range(2):
        end = i * (length + 1)
        fill(buffer, end * n, n, 1.0)
        for j in range(1, 5):
            clear(buffer, j * vector + end * n, n)
        clear(buffer, w + end * P, P)
    for i in range(length):
        slot = (i + 1) * n
        d = place(strides, 0, b, t + i, h)
        if scalar:
            fill(buffer, slot, n, pointer(at[0], kind)[d])
        else:
            copy(buffer, slot, pointer(at[0], kind), d, n)
        scale = -pointer(at[1], kind)[place(strides, 1, b, t + i, h)]
        copy_scaled(buffer, vector + slot, pointer(at[2], kind), place(strides, 2, b, t + i, h), n, scale)
        copy(buffer, 2 * vector + slot, pointer(at[3], kind), place(strides, 3, b, t + i, h), n)
        copy(buffer, 3 * vector + slot, pointer(at[4], kind), place(strides, 4, b, t + i, h), n)
        copy(buffer, 4 * vector + slot, pointer(at[5], kind), place(strides, 5, b, t + i, h), n)
        copy(buffer, w + (i + 1) * P, pointer(at[6], kind), place(strides, 6, b, t + i, h), p)


def tile(buffer, vector, n, length, before, S, step, z, w, y, P, like) -> None:
    """The sweeps of a chunk over one tile; S_t is written `step` entries behind S_{t-1} (0: over it)."""
    store(buffer, z, splat(0.0, like))
    for i in range(length + 1):
        source, target, read = S + max(i - 1, 0) * step, S + i * step, i + before
        zs, ws = load(buffer, z + i * P, like), load(buffer, w + i * P, like)
        ys = splat(0.0, like)
        behind = ys
        for j in range(n):
            e, v = (spread(buffer, vector + i * n + j, like), spread(buffer, 2 * vector + (i + 1) * n + j, like))
            k, c = (spread(buffer, 3 * vector + i * n + j, like), spread(buffer, 4 * vector + read * n + j, like))
            d, at = (spread(buffer, i * n + j, like), j * width(like))
            s = d * load(buffer, source + at, like) + k * ws + e * zs
            ys, behind = (ys + c * s, behind + v * s)
            store(buffer, target + at, s)
        store(buffer, y + read * P, ys)
        store(buffer, z + (i + 1) * P, behind)
