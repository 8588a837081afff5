"""The loops of low_rank.py backward: see low_rank_forward.py for the equations."""

from __future__ import annotations

from typing import Any

from .heads import CHUNK
from .lanes import add_totals, fold, load, narrow, pointer, splat, spread, store, total, wide, width
from .low_rank_forward import gather, layout, tile
from .rows import clear, copy, copy_scaled, enter, every_fourth_out, leave, place, room


def backward(at: Any, strides: Any, sizes: Any, kind: Any, memory: Any, lo: Any, hi: Any) -> None:
    """at: addresses of d, b, u, v, k, c, w, starts, dy, dlast; then of the gradients of d, b, u, v, k, c, w, x."""
    T, H, n, p, before, scalar = sizes
    buffer, starts, dy, dlast = (
        pointer(memory, kind),
        pointer(at[7], kind),
        pointer(at[8], kind),
        pointer(at[9], kind),
    )
    like, tail = wide(buffer), narrow(buffer)
    P = room(p, width(tail))
    vector, L, z, signal, sums, states, _ = layout(n, P, T, 1)
    w, out, gy, gw, gz = z + signal, z + 2 * signal, z + 3 * signal, z + 4 * signal, z + 5 * signal
    chunks = (T + CHUNK - 1) // CHUNK
    for row in range(lo, hi):
        b, h = row // H, row % H
        enter(buffer, L, dlast, row * n * p, n, p, P)
        for chunk in range(chunks - 1, -1, -1):
            t, length = chunk * CHUNK, min(CHUNK, T - chunk * CHUNK)
            gather(at, strides, b, h, t, length, n, p, P, scalar, buffer, vector, w, kind)
            clear(buffer, gy, P)
            clear(buffer, gy + (length + 1) * P, P)
            for i in range(length):
                copy(buffer, gy + (i + 1) * P, dy, ((b * T + t + i) * H + h) * p, p)
            clear(buffer, gz + (length + 1) * P, P)
            clear(buffer, sums, 5 * vector)
            start = (row * chunks + chunk) * n * P
            j = 0
            while j + width(like) <= P:
                copy(buffer, states, starts, start + j * n, n * width(like))
                tile(buffer, vector, n, length, before, states, n * width(like), z + j, w + j, out + j, P, like)
                tile_back(buffer, vector, n, length, before, L + j * n, states, z + j, signal, sums, scalar, P, like)
                j += width(like)
            while j < P:
                copy(buffer, states, starts, start + j * n, n * width(tail))
                tile(buffer, vector, n, length, before, states, n * width(tail), z + j, w + j, out + j, P, tail)
                tile_back(buffer, vector, n, length, before, L + j * n, states, z + j, signal, sums, scalar, P, tail)
                j += width(tail)
            for i in range(length):
                token = (b * T + t + i) * H + h
                copy(pointer(at[16], kind), token * p, buffer, gw + (i + 1) * P, p)
                scatter(at, strides, b, h, t + i, token, buffer, sums, vector, i + 1, before, n, scalar, kind)
        leave(pointer(at[17], kind), row * n * p, buffer, L, n, p, P)


def tile_back(buffer, vector, n, length, before, L, states, z, signal, sums, scalar, P, like) -> None:
    """The sweeps of a chunk backward over one tile. Of every row of slot s the sums dk, de, dv, dc lie together, dd
    behind all of them: dk, de, dd of token s, dv of the token behind, dc of the token that reads S_s."""
    size = n * width(like)
    w, dy, dw, dz = z + signal, z + 3 * signal, z + 4 * signal, z + 5 * signal
    for s in range(length, -1, -1):
        read, here, past = s + before, states + s * size, states + max(s - 1, 0) * size
        dzs, dys = load(buffer, dz + (s + 1) * P, like), load(buffer, dy + read * P, like)
        ws, zs = load(buffer, w + s * P, like), load(buffer, z + s * P, like)
        dws = splat(0.0, like)
        dzs_here, dds = dws, dws
        for j in range(n):
            d, v = (spread(buffer, (s + 1) * n + j, like), spread(buffer, 2 * vector + (s + 1) * n + j, like))
            c, at = (spread(buffer, 4 * vector + read * n + j, like), j * width(like))
            grad = c * dys + v * dzs + d * load(buffer, L + at, like)
            store(buffer, L + at, grad)
            dws = dws + spread(buffer, 3 * vector + s * n + j, like) * grad
            dzs_here = dzs_here + spread(buffer, vector + s * n + j, like) * grad
            before_it, it = load(buffer, past + at, like), load(buffer, here + at, like)
            if scalar:
                dds = dds + grad * before_it
            else:
                dd = sums + 4 * vector + s * n + j
                buffer[dd] = buffer[dd] + total(fold(grad, before_it))
            add_totals(buffer, sums + 4 * (s * n + j), fold(grad, ws), fold(grad, zs), fold(it, dzs), fold(it, dys))
        store(buffer, dw + s * P, dws)
        store(buffer, dz + s * P, dzs_here)
        if scalar:
            dd = sums + 4 * vector + s * n
            buffer[dd] = buffer[dd] + total(fold(dds, splat(1.0, like)))


def scatter(at, strides, b, h, t, token, buffer, sums, vector, slot, before, n, scalar, kind) -> None:
    """The gradients of one token's d, b, u, v, k, c; of e = -b u: db = -u.de, du = -b de."""
    here, dd = sums + 4 * slot * n, sums + 4 * vector + slot * n
    every_fourth_out(pointer(at[14], kind), token * n, buffer, here, n)
    every_fourth_out(pointer(at[12], kind), token * n, buffer, here + 1, n)
    every_fourth_out(pointer(at[13], kind), token * n, buffer, here - 4 * n + 2, n)
    every_fourth_out(pointer(at[15], kind), token * n, buffer, here - before * 4 * n + 3, n)
    du, u, from_u = pointer(at[12], kind), pointer(at[2], kind), place(strides, 2, b, t, h)
    scale = -pointer(at[1], kind)[place(strides, 1, b, t, h)]
    row = narrow(du)
    along = row
    whole = n - n % width(row)
    for i in range(0, whole, width(row)):
        along = along + load(du, token * n + i, row) * load(u, from_u + i, row)
    db = total(along)
    for i in range(whole, n):
        db += du[token * n + i] * u[from_u + i]
    pointer(at[11], kind)[token] = -db
    copy_scaled(du, token * n, du, token * n, n, scale)
    copy(pointer(at[10], kind), token * (1 if scalar else n), buffer, dd, 1 if scalar else n)
