"""The loops of cells.py, for numba: a product with the recurrent matrices, then the gates, of up to four sequences.

A step's matrices come from the second-level cache once for all four. Gates are computed in rows of lanes, each padded
to whole rows, and copied to where backward finds them.
"""

from __future__ import annotations

from typing import Any

from .lanes import exponential, load, narrow, pointer, reciprocal, splat, spread, store, wide, width
from .rows import copy, room

TOGETHER = 4  # sequences


def layout(n: Any, G: Any) -> Any:
    """Where a buffer holds: the products (G padded, of each sequence), four gates, x, y; the end. N: n padded."""
    N, size = room(n, 64), room(G, 64)
    gates = TOGETHER * size
    x = gates + TOGETHER * 4 * N
    y = x + TOGETHER * N
    return N, size, gates, x, y, y + TOGETHER * N


def memory(at: Any, steps: Any, sizes: Any, kind: Any, scratch: Any, lo: Any, hi: Any) -> None:
    """x = f x + i v, y = o tanh(x). Rows lo..hi of heads and groups of sequences; at: four parts, W, gates, xs, ys."""
    T, H, B, n, G, keeps = sizes
    buffer, a, xs, ys = pointer(scratch, kind), pointer(at[5], kind), pointer(at[6], kind), pointer(at[7], kind)
    N, size, gates, x, y, _ = layout(n, G)
    like, groups = narrow(buffer), (B + TOGETHER - 1) // TOGETHER
    for row in range(lo, hi):
        h, first = row // groups, (row % groups) * TOGETHER
        count = min(TOGETHER, B - first)
        for s in range(count):
            copy(buffer, x + s * N, xs, (h * B + first + s) * n, n)
            copy(buffer, y + s * N, ys, (h * B + first + s) * n, n)
        for t in range(T):
            place = (t * H + h) * B + first
            for s in range(count):
                for i in range(4):
                    take(buffer, s * size + i * n, at, steps, kind, i, t, h, first + s, n)
            products(buffer, y, N, size, pointer(at[4], kind), h * n * size, n, count)
            for s in range(count):
                g = gates + s * 4 * N
                for j in range(0, n, width(like)):
                    o = sigmoid(load(buffer, s * size + j), like)
                    f = sigmoid(load(buffer, s * size + n + j), like)
                    i = sigmoid(load(buffer, s * size + 2 * n + j), like)
                    v = bent(load(buffer, s * size + 3 * n + j), like)
                    now = i * v + f * load(buffer, x + s * N + j)
                    store(buffer, g + j, o)
                    store(buffer, g + N + j, f)
                    store(buffer, g + 2 * N + j, i)
                    store(buffer, g + 3 * N + j, v)
                    store(buffer, x + s * N + j, now)
                    store(buffer, y + s * N + j, o * bent(now, like))
                keep(buffer, g, N, a, (keeps * t * H * B + h * B + first + s) * 4 * n, n)
                after = place + s + H * B
                copy(xs, after * n, buffer, x + s * N, n)
                copy(ys, after * n, buffer, y + s * N, n)


def leaky(at: Any, steps: Any, sizes: Any, kind: Any, scratch: Any, lo: Any, hi: Any) -> None:
    """y = z y + (1 - z) v, v = tanh(u + r m), m = b + W y. Rows lo..hi of heads and groups; at: as there."""
    T, H, B, n, G, keeps = sizes
    buffer, a, ys = pointer(scratch, kind), pointer(at[5], kind), pointer(at[7], kind)
    N, size, gates, _, y, _ = layout(n, G)
    like, groups = narrow(buffer), (B + TOGETHER - 1) // TOGETHER
    for row in range(lo, hi):
        h, first = row // groups, (row % groups) * TOGETHER
        count = min(TOGETHER, B - first)
        for s in range(count):
            copy(buffer, y + s * N, ys, (h * B + first + s) * n, n)
        for t in range(T):
            place = (t * H + h) * B + first
            for s in range(count):
                for i in range(3):
                    take(buffer, s * size + i * n, at, steps, kind, i, t, h, first + s, n)
                take(buffer, gates + s * 4 * N + 3 * N, at, steps, kind, 3, t, h, first + s, n)
            products(buffer, y, N, size, pointer(at[4], kind), h * n * size, n, count)
            for s in range(count):
                g = gates + s * 4 * N
                for j in range(0, n, width(like)):
                    r = sigmoid(load(buffer, s * size + j), like)
                    z = sigmoid(load(buffer, s * size + n + j), like)
                    m = load(buffer, s * size + 2 * n + j)
                    v = bent(load(buffer, g + 3 * N + j) + r * m, like)
                    before = load(buffer, y + s * N + j)
                    store(buffer, g + j, r)
                    store(buffer, g + N + j, z)
                    store(buffer, g + 2 * N + j, m)
                    store(buffer, g + 3 * N + j, v)
                    store(buffer, y + s * N + j, v + z * (before + v * splat(-1.0, like)))
                keep(buffer, g, N, a, (keeps * t * H * B + h * B + first + s) * 4 * n, n)
                copy(ys, (place + s + H * B) * n, buffer, y + s * N, n)


def products(buffer: Any, y: Any, N: Any, size: Any, W: Any, from_W: Any, n: Any, count: Any) -> None:
    """The first `size` entries of each sequence's products += y^T W, W [n, size]."""
    like = wide(buffer)
    for j in range(0, size, width(like)):
        if count == 1:
            total = load(buffer, j, like)
            for k in range(n):
                total = total + spread(buffer, y + k, like) * load(W, from_W + k * size + j, like)
            store(buffer, j, total)
            continue
        p0, p1 = load(buffer, j, like), load(buffer, size + j, like)
        p2, p3 = load(buffer, 2 * size + j, like), load(buffer, 3 * size + j, like)
        for k in range(n):
            w = load(W, from_W + k * size + j, like)
            p0 = p0 + spread(buffer, y + k, like) * w
            p1 = p1 + spread(buffer, y + N + k, like) * w
            p2 = p2 + spread(buffer, y + 2 * N + k, like) * w
            p3 = p3 + spread(buffer, y + 3 * N + k, like) * w
        store(buffer, j, p0)
        store(buffer, size + j, p1)
        store(buffer, 2 * size + j, p2)
        store(buffer, 3 * size + j, p3)


def take(buffer: Any, to: Any, at: Any, steps: Any, kind: Any, i: Any, t: Any, h: Any, b: Any, n: Any) -> None:
    """Pre-activation i of a step of head h and sequence b."""
    copy(buffer, to, pointer(at[i], kind), t * steps[3 * i] + h * steps[3 * i + 1] + b * steps[3 * i + 2], n)


def keep(buffer: Any, gates: Any, N: Any, a: Any, at: Any, n: Any) -> None:
    """The four gates of a step, for backward (else all in one place)."""
    for i in range(4):
        copy(a, at + i * n, buffer, gates + i * N, n)


def sigmoid(row: Any, like: Any) -> Any:
    """1 / (1 + e^-x)."""
    return reciprocal(splat(1.0, like) + exponential(row * splat(-1.0, like)))


def bent(row: Any, like: Any) -> Any:
    """tanh(x) = 2 sigmoid(2 x) - 1, to the rounding of 1."""
    return sigmoid(row * splat(2.0, like), like) * splat(2.0, like) + splat(-1.0, like)
