"""The loops of one_hot.py, for numba: a step gathers or scatters the rows of a tile of S.

    S_t = P_t diag(d_t) S_{t-1} + b_t w_t^T      (transposed: diag(d_t) P_t^T S_{t-1} + b_t w_t^T)      y_t = S_t^T c_t

Backward, the states of a chunk are made again and L, the gradient of S_t, runs through them in reverse:

    dw_t = L^T b_t   db_t = L w_t   dc_t = S_t dy_t   dd_j = L_{p_j} . S_{t-1, j}   (transposed: L_j . S_{t-1, p_j})
    L <- diag(d_t) P_t^T L   (transposed: P_t diag(d_t) L)   + c_{t-1} dy_{t-1}^T

(before: S_{t-1}, c_t, dy_t for S_t, c_{t-1}, dy_{t-1}). A tile of columns of S, 256 or 64 bytes wide, runs through a
chunk of tokens, which lie in one buffer. Row i of the sums: db, dc, dd and nothing, side by side.
"""

from __future__ import annotations

from typing import Any

from .heads import CHUNK
from .lanes import add_totals, fold, load, narrow, pointer, splat, spread, store, wide, width
from .rows import clear, copy, enter, every_fourth_out, leave, place, room


def layout(n: Any, P: Any, length: Any) -> Any:
    """Where the buffer holds: d (b, c behind it, each a `vector`); the sums; the state; w (y, dy, dw behind it, each a
    `signal`); two tiles of L; the states of a tile; the end."""
    slots, size = min(length, CHUNK), room(n * min(P, 64), 16)
    vector, signal = room(slots * n, 16), slots * P
    sums = 3 * vector
    S = sums + 4 * vector
    w = S + room(n * P, 16)
    two = w + 4 * signal
    return vector, sums, S, w, signal, two, two + 2 * size, two + 2 * size + (slots + 1) * size


def forward(at: Any, strides: Any, sizes: Any, kind: Any, memory: Any, lo: Any, hi: Any) -> None:
    """Rows lo..hi of batch and heads. at: addresses of p, d, b, c, w, x, y, last, starts (0: not kept), and of a
    flag that is raised where an index is no row, which ends the run."""
    T, H, n, p, before, transposed = sizes
    buffer = pointer(memory, kind)
    like, tail = wide(buffer), narrow(buffer)
    P = room(p, width(tail))
    vector, sums, S, w, signal, _, states, _ = layout(n, P, T)
    chunks = (T + CHUNK - 1) // CHUNK
    for row in range(lo, hi):
        b, h = row // H, row % H
        enter(buffer, S, pointer(at[5], kind), row * n * p, n, p, P)
        for chunk in range(chunks):
            t, length = chunk * CHUNK, min(CHUNK, T - chunk * CHUNK)
            if at[8]:
                copy(pointer(at[8], kind), (row * chunks + chunk) * n * P, buffer, S, n * P)
            gather(at, strides, b, h, t, length, n, p, P, buffer, vector, w, kind)
            index, first = pointer(at[0], 1), place(strides, 0, b, t, h)
            if strays(index, first, strides[1], n, length):
                pointer(at[9], 1)[0] = 1
                return
            j = 0
            while j < P:
                size = n * (width(like) if j + width(like) <= P else width(tail))
                copy(buffer, states, buffer, S + j * n, size)
                if j + width(like) <= P:
                    tile(buffer, index, first, strides[1], vector, n, length, sizes, states, w + j, signal, P, 2, like)
                else:
                    tile(buffer, index, first, strides[1], vector, n, length, sizes, states, w + j, signal, P, 2, tail)
                copy(buffer, S + j * n, buffer, states + (length % 2) * size, size)
                j += size // n
            for i in range(length):
                copy(pointer(at[6], kind), ((b * T + t + i) * H + h) * p, buffer, w + signal + i * P, p)
        leave(pointer(at[7], kind), row * n * p, buffer, S, n, p, P)


def backward(at: Any, strides: Any, sizes: Any, kind: Any, memory: Any, lo: Any, hi: Any) -> None:
    """at: addresses of p, d, b, c, w, starts, dy, dlast; then of the gradients of d, b, c, w, x."""
    T, H, n, p, before, transposed = sizes
    buffer = pointer(memory, kind)
    like, tail = wide(buffer), narrow(buffer)
    P = room(p, width(tail))
    vector, sums, L, w, signal, two, states, _ = layout(n, P, T)
    chunks = (T + CHUNK - 1) // CHUNK
    for row in range(lo, hi):
        b, h = row // H, row % H
        enter(buffer, L, pointer(at[7], kind), row * n * p, n, p, P)
        for chunk in range(chunks - 1, -1, -1):
            t, length = chunk * CHUNK, min(CHUNK, T - chunk * CHUNK)
            gather(at, strides, b, h, t, length, n, p, P, buffer, vector, w, kind)
            clear(buffer, sums, 4 * vector)
            for i in range(length):
                copy(buffer, w + 2 * signal + i * P, pointer(at[6], kind), ((b * T + t + i) * H + h) * p, p)
            index, first = pointer(at[0], 1), place(strides, 0, b, t, h)
            start, j, step = (row * chunks + chunk) * n * P, 0, strides[1]
            while j < P:
                size = n * (width(like) if j + width(like) <= P else width(tail))
                copy(buffer, states, pointer(at[5], kind), start + j * n, size)
                copy(buffer, two, buffer, L + j * n, size)
                held, at_j = CHUNK + 1, w + j
                if j + width(like) <= P:
                    tile(buffer, index, first, step, vector, n, length, sizes, states, at_j, signal, P, held, like)
                    back(buffer, index, first, step, vector, sums, n, length, sizes, two, states, at_j, signal, P, like)
                else:
                    tile(buffer, index, first, step, vector, n, length, sizes, states, at_j, signal, P, held, tail)
                    back(buffer, index, first, step, vector, sums, n, length, sizes, two, states, at_j, signal, P, tail)
                copy(buffer, L + j * n, buffer, two + (length % 2) * size, size)
                j += size // n
            for i in range(length):
                token = (b * T + t + i) * H + h
                every_fourth_out(pointer(at[9], kind), token * n, buffer, sums + 4 * i * n, n)
                every_fourth_out(pointer(at[10], kind), token * n, buffer, sums + 4 * i * n + 1, n)
                every_fourth_out(pointer(at[8], kind), token * n, buffer, sums + 4 * i * n + 2, n)
                copy(pointer(at[11], kind), token * p, buffer, w + 3 * signal + i * P, p)
        leave(pointer(at[12], kind), row * n * p, buffer, L, n, p, P)


def strays(index, first, step, n, length):
    """Is an index of these tokens no row of the state?"""
    outside = 0
    for i in range(length):
        for j in range(first + i * step, first + i * step + n):
            outside |= (index[j] < 0) | (index[j] >= n)
    return outside


def gather(at, strides, b, h, t, length, n, p, P, buffer, vector, w, kind) -> None:
    """d, b, c and w of the tokens of a chunk, each row contiguous."""
    for i in range(length):
        for leaf in range(3):
            start = place(strides, leaf + 1, b, t + i, h)
            copy(buffer, leaf * vector + i * n, pointer(at[leaf + 1], kind), start, n)
        copy(buffer, w + i * P, pointer(at[4], kind), place(strides, 4, b, t + i, h), p)


def tile(buffer, index, first, step, vector, n, length, sizes, states, w, signal, P, held, like) -> None:
    """The steps of a chunk over one tile: state i in place i of `held`, round and round."""
    before, transposed = sizes[4], sizes[5]
    size = n * width(like)
    for i in range(length):
        source, target = states + i % held * size, states + (i + 1) % held * size
        d, b, c, p = i * n, vector + i * n, 2 * vector + i * n, first + i * step
        ws, ys = load(buffer, w + i * P, like), splat(0.0, like)
        for j in range(n):
            written = spread(buffer, b + j, like) * ws
            if transposed:
                written = written + spread(buffer, d + j, like) * load(
                    buffer, source + index[p + j] * width(like), like
                )
            store(buffer, target + j * width(like), written)
        if not transposed:
            scatter(buffer, target, source, index, p, d, n, like)
        seen = source if before else target
        for j in range(n):
            ys = ys + spread(buffer, c + j, like) * load(buffer, seen + j * width(like), like)
        store(buffer, w + signal + i * P, ys)


def scatter(buffer, target, source, index, p, d, n, like) -> None:
    """target += P diag(d) source."""
    for j in range(n):
        to = target + index[p + j] * width(like)
        moved = spread(buffer, d + j, like) * load(buffer, source + j * width(like), like)
        store(buffer, to, load(buffer, to, like) + moved)


def back(buffer, index, first, step, vector, sums, n, length, sizes, two, states, w, signal, P, like) -> None:
    """The steps of a chunk backward over one tile; L changes its place at every step."""
    before, transposed = sizes[4], sizes[5]
    size, nothing = n * width(like), narrow(buffer)
    for from_last in range(length):
        i = length - 1 - from_last
        L, above = two + from_last % 2 * size, two + (from_last + 1) % 2 * size
        past, d, b, c, p = states + i * size, i * n, vector + i * n, 2 * vector + i * n, first + i * step
        seen = past if before else past + size
        dys, ws, dws = load(buffer, w + 2 * signal + i * P, like), load(buffer, w + i * P, like), splat(0.0, like)
        for j in range(n):
            at = j * width(like)
            if not before:
                store(buffer, L + at, load(buffer, L + at, like) + spread(buffer, c + j, like) * dys)
            first_share = spread(buffer, c + j, like) * dys if before else splat(0.0, like)
            store(buffer, above + at, first_share)
        for j in range(n):
            at, other = j * width(like), index[p + j] * width(like)
            grad, scale = load(buffer, L + at, like), spread(buffer, d + j, like)
            dws = dws + spread(buffer, b + j, like) * grad
            if transposed:
                moved = fold(grad, load(buffer, past + other, like))
                store(buffer, above + other, load(buffer, above + other, like) + scale * grad)
            else:
                reached = load(buffer, L + other, like)
                moved = fold(reached, load(buffer, past + at, like))
                store(buffer, above + at, load(buffer, above + at, like) + scale * reached)
            seen_here = fold(load(buffer, seen + at, like), dys)
            add_totals(buffer, sums + 4 * (i * n + j), fold(grad, ws), seen_here, moved, nothing)
        store(buffer, w + 3 * signal + i * P, dws)
