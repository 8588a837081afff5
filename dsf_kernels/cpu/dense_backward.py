"""The loops of dense.py backward: see dense_forward.py for the equations."""

from __future__ import annotations

from typing import Any

from .dense_forward import gather, layout, product, tile
from .heads import CHUNK
from .lanes import add_totals, fold, load, narrow, pointer, splat, spread, store, total, wide, width
from .rows import clear, copy, enter, leave, place, room


def backward(at: Any, strides: Any, sizes: Any, kind: Any, memory: Any, lo: Any, hi: Any) -> None:
    """at: addresses of M, b, c, w, starts, dy, dlast; then of the gradients of M (zeros, [B, T | 1, H, n, n]), b, c, w,
    x."""
    T, H, n, p, before, constant = sizes
    buffer = pointer(memory, kind)
    like, tail = wide(buffer), narrow(buffer)
    P = room(p, width(tail))
    vector, L, w, signal, two, states, _ = layout(n, P, T)
    chunks = (T + CHUNK - 1) // CHUNK
    for row in range(lo, hi):
        b, h = row // H, row % H
        enter(buffer, L, pointer(at[6], kind), row * n * p, n, p, P)
        for chunk in range(chunks - 1, -1, -1):
            t, length = chunk * CHUNK, min(CHUNK, T - chunk * CHUNK)
            gather(at, strides, b, h, t, length, n, p, P, buffer, vector, w, kind)
            clear(buffer, 2 * vector, 2 * vector)
            for i in range(length):
                copy(buffer, w + 2 * signal + i * P, pointer(at[5], kind), ((b * T + t + i) * H + h) * p, p)
            M, from_M = pointer(at[0], kind), place(strides, 0, b, t, h)
            dM, step = pointer(at[7], kind), (0 if constant else H * n * n)
            into = (row if constant else (b * T + t) * H + h) * n * n
            start, j = (row * chunks + chunk) * n * P, 0
            kept = pointer(at[4], kind)
            while j + width(like) <= P:
                through(
                    buffer,
                    M,
                    from_M,
                    strides[1],
                    dM,
                    into,
                    step,
                    vector,
                    n,
                    length,
                    before,
                    L + j * n,
                    two,
                    states,
                    kept,
                    start + j * n,
                    w + j,
                    signal,
                    P,
                    like,
                )
                j += width(like)
            while j < P:
                through(
                    buffer,
                    M,
                    from_M,
                    strides[1],
                    dM,
                    into,
                    step,
                    vector,
                    n,
                    length,
                    before,
                    L + j * n,
                    two,
                    states,
                    kept,
                    start + j * n,
                    w + j,
                    signal,
                    P,
                    tail,
                )
                j += width(tail)
            for i in range(length):
                token = (b * T + t + i) * H + h
                copy(pointer(at[8], kind), token * n, buffer, 2 * vector + i * n, n)
                copy(pointer(at[9], kind), token * n, buffer, 3 * vector + i * n, n)
                copy(pointer(at[10], kind), token * p, buffer, w + 3 * signal + i * P, p)
        leave(pointer(at[11], kind), row * n * p, buffer, L, n, p, P)


def through(
    buffer,
    M,
    from_M,
    stride,
    dM,
    into,
    step,
    vector,
    n,
    length,
    before,
    L,
    two,
    states,
    kept,
    start,
    w,
    signal,
    P,
    like,
) -> None:
    """A tile through a chunk: its states once more, then L in reverse."""
    size = n * width(like)
    copy(buffer, states, kept, start, size)
    copy(buffer, two, buffer, L, size)
    tile(buffer, M, from_M, stride, vector, n, length, before, states, w, signal, P, CHUNK + 1, like)
    back(buffer, M, from_M, stride, dM, into, step, vector, n, length, before, two, states, w, signal, P, like)
    copy(buffer, L, buffer, two + (length % 2) * size, size)


def back(buffer, M, from_M, stride, dM, into, step, vector, n, length, before, two, states, w, signal, P, like) -> None:
    """The steps of a chunk backward over one tile; L changes its place at every step."""
    size = n * width(like)
    for back_from_last in range(length):
        i = length - 1 - back_from_last
        L, above = two + back_from_last % 2 * size, two + (back_from_last + 1) % 2 * size
        past = states + i * size
        seen = past if before else past + size
        dys, ws, dws = load(buffer, w + 2 * signal + i * P, like), load(buffer, w + i * P, like), splat(0.0, like)
        for j in range(n):
            at = j * width(like)
            grad = load(buffer, L + at, like)
            if not before:
                grad = grad + spread(buffer, vector + i * n + j, like) * dys
                store(buffer, L + at, grad)
            dws = dws + spread(buffer, i * n + j, like) * grad
            db, dc = 2 * vector + i * n + j, 3 * vector + i * n + j
            buffer[db] = buffer[db] + total(fold(grad, ws))
            buffer[dc] = buffer[dc] + total(fold(load(buffer, seen + at, like), dys))
        store(buffer, w + 3 * signal + i * P, dws)
        outer(buffer, L, past, dM, into + i * step, n, like)
        read = dys if before else splat(0.0, like)
        product(buffer, above, L, M, from_M + i * stride, 1, n, buffer, vector + i * n, read, n)


def outer(buffer, L, S, dM, into, n, like) -> None:
    """dM += L S^T."""
    whole = n - n % 4
    for i in range(n):
        grad = load(buffer, L + i * width(like), like)
        for j in range(0, whole, 4):
            s = S + j * width(like)
            add_totals(
                dM,
                into + i * n + j,
                fold(grad, load(buffer, s, like)),
                fold(grad, load(buffer, s + width(like), like)),
                fold(grad, load(buffer, s + 2 * width(like), like)),
                fold(grad, load(buffer, s + 3 * width(like), like)),
            )
        for j in range(whole, n):
            m = into + i * n + j
            dM[m] = dM[m] + total(fold(grad, load(buffer, S + j * width(like), like)))
