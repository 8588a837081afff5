"""The loops of dense.py, for numba: a matrix product a step, of four rows at a time with their sums in registers.

    S_t = M_t S_{t-1} + b_t w_t^T      y_t = S_t^T c_t

Backward, the states of a chunk are made again and L, the gradient of S_t, runs through them in reverse:

    dw_t = L^T b_t   db_t = L w_t   dM_t = L S_{t-1}^T   dc_t = S_t dy_t   L <- M_t^T L + c_{t-1} dy_{t-1}^T

(before: S_{t-1}, c_t, dy_t for S_t, c_{t-1}, dy_{t-1}). A tile of columns of S, 256 or 64 bytes wide, runs through a
chunk of tokens, which lie in one buffer.
"""

from __future__ import annotations

from typing import Any

from .heads import CHUNK
from .lanes import load, narrow, pointer, splat, spread, store, wide, width
from .rows import copy, enter, leave, place, room


def layout(n: Any, P: Any, length: Any) -> Any:
    """Where the buffer holds: b (c, db, dc behind it, each a `vector`); the state; w (y, dy, dw behind it, each a
    `signal`); two tiles of L; the states of a tile; the end."""
    slots, size = min(length, CHUNK), room(n * min(P, 64), 16)
    vector, signal = room(slots * n, 16), slots * P
    S = 4 * vector
    w = S + room(n * P, 16)
    two = w + 4 * signal
    return vector, S, w, signal, two, two + 2 * size, two + 2 * size + (slots + 1) * size


def forward(at: Any, strides: Any, sizes: Any, kind: Any, memory: Any, lo: Any, hi: Any) -> None:
    """Rows lo..hi of batch and heads. at: addresses of M, b, c, w, x, y, last, starts (0: not kept)."""
    T, H, n, p, before, _ = sizes
    buffer = pointer(memory, kind)
    like, tail = wide(buffer), narrow(buffer)
    P = room(p, width(tail))
    vector, S, w, signal, _, states, _ = layout(n, P, T)
    chunks = (T + CHUNK - 1) // CHUNK
    for row in range(lo, hi):
        b, h = row // H, row % H
        enter(buffer, S, pointer(at[4], kind), row * n * p, n, p, P)
        for chunk in range(chunks):
            t, length = chunk * CHUNK, min(CHUNK, T - chunk * CHUNK)
            if at[7]:
                copy(pointer(at[7], kind), (row * chunks + chunk) * n * P, buffer, S, n * P)
            gather(at, strides, b, h, t, length, n, p, P, buffer, vector, w, kind)
            M, from_M = pointer(at[0], kind), place(strides, 0, b, t, h)
            j = 0
            while j + width(like) <= P:
                copy(buffer, states, buffer, S + j * n, n * width(like))
                tile(buffer, M, from_M, strides[1], vector, n, length, before, states, w + j, signal, P, 2, like)
                copy(buffer, S + j * n, buffer, states + (length % 2) * n * width(like), n * width(like))
                j += width(like)
            while j < P:
                copy(buffer, states, buffer, S + j * n, n * width(tail))
                tile(buffer, M, from_M, strides[1], vector, n, length, before, states, w + j, signal, P, 2, tail)
                copy(buffer, S + j * n, buffer, states + (length % 2) * n * width(tail), n * width(tail))
                j += width(tail)
            for i in range(length):
                copy(pointer(at[5], kind), ((b * T + t + i) * H + h) * p, buffer, w + signal + i * P, p)
        leave(pointer(at[6], kind), row * n * p, buffer, S, n, p, P)


def gather(at, strides, b, h, t, length, n, p, P, buffer, vector, w, kind) -> None:
    """b, c and w of the tokens of a chunk, each row contiguous."""
    for i in range(length):
        copy(buffer, i * n, pointer(at[1], kind), place(strides, 1, b, t + i, h), n)
        copy(buffer, vector + i * n, pointer(at[2], kind), place(strides, 2, b, t + i, h), n)
        copy(buffer, w + i * P, pointer(at[3], kind), place(strides, 3, b, t + i, h), p)


def tile(buffer, M, from_M, stride, vector, n, length, before, states, w, signal, P, held, like) -> None:
    """The steps of a chunk over one tile: state i in place i of `held`, round and round."""
    size = n * width(like)
    for i in range(length):
        source, target = states + i % held * size, states + (i + 1) % held * size
        product(buffer, target, source, M, from_M + i * stride, n, 1, buffer, i * n, load(buffer, w + i * P, like), n)
        seen, ys = source if before else target, splat(0.0, like)
        for j in range(n):
            ys = ys + spread(buffer, vector + i * n + j, like) * load(buffer, seen + j * width(like), like)
        store(buffer, w + signal + i * P, ys)


def product(buffer, target, source, M, first, row, column, factors, at, added, n) -> None:
    """target = M source + factors added^T, M_ij at first + i row + j column."""
    like = added
    for i in range(0, n - n % 4, 4):
        s0 = spread(factors, at + i, like) * added
        s1 = spread(factors, at + i + 1, like) * added
        s2 = spread(factors, at + i + 2, like) * added
        s3 = spread(factors, at + i + 3, like) * added
        for j in range(n):
            s, m = load(buffer, source + j * width(like), like), first + i * row + j * column
            s0, s1 = (s0 + spread(M, m, like) * s, s1 + spread(M, m + row, like) * s)
            s2, s3 = (s2 + spread(M, m + 2 * row, like) * s, s3 + spread(M, m + 3 * row, like) * s)
        store(buffer, target + i * width(like), s0)
        store(buffer, target + (i + 1) * width(like), s1)
        store(buffer, target + (i + 2) * width(like), s2)
        store(buffer, target + (i + 3) * width(like), s3)
    for i in range(n - n % 4, n):
        s0 = spread(factors, at + i, like) * added
        for j in range(n):
            s = load(buffer, source + j * width(like), like)
            s0 = s0 + spread(M, first + i * row + j * column, like) * s
        store(buffer, target + i * width(like), s0)
