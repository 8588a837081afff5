"""The compiled loops of elementwise.py: channels of one sequence, walked in time.

Channel i of step t: at + t step + i in w, xs and their gradients, place[0] + t place[1] + i place[2] in a.
`along` is for single channels in vectors; `rows` for rows of p channels that share a factor, and for complex numbers.
"""

from __future__ import annotations

import math

import numpy as np

from .lanes import exponential, load, narrow, pointer, spread, store, width


def forward(at, places, sizes, kind, memory, first, last):
    """Pieces first..last of all rows of channels. at: addresses of a, w, x, xs."""
    T, step = sizes[1], sizes[2] * sizes[3]
    a, w, x, xs = pointer(at[0], kind), pointer(at[1], kind), pointer(at[2], kind), pointer(at[3], kind)
    for piece in range(first, last):
        place, here, start, _, lo, hi = of_piece(piece, places, sizes)
        along(a, place, sizes[7], w, xs, x, here, step, start, lo, hi, T)


def forward_rows(at, places, sizes, kind, memory, first, last):
    """The same of rows of p channels."""
    T, step, p = sizes[1], sizes[2] * sizes[3] * sizes[4], sizes[4]
    a, w, x, xs = pointer(at[0], kind), pointer(at[1], kind), pointer(at[2], kind), pointer(at[3], kind)
    for piece in range(first, last):
        place, here, start, _, lo, hi = of_piece(piece, places, sizes)
        rows(a, place, w, xs, x, here, step, start, lo, hi, T, p)


def backward(at, places, sizes, kind, memory, first, last):
    """at: addresses of a, xs, x, g, dw, da, dx."""
    T, step, of_t = sizes[1], sizes[2] * sizes[3], sizes[2] * sizes[3] * int(sizes[6] > 1)
    a, xs, x, grad = pointer(at[0], kind), pointer(at[1], kind), pointer(at[2], kind), pointer(at[3], kind)
    dw, da, dx = pointer(at[4], kind), pointer(at[5], kind), pointer(at[6], kind)
    for piece in range(first, last):
        place, here, start, to, lo, hi = of_piece(piece, places, sizes)
        along_back(a, place, sizes[7], xs, x, grad, dw, da, dx, here, step, start, to, of_t, lo, hi, T)


def backward_rows(at, places, sizes, kind, memory, first, last):
    T, step, of_t = sizes[1], sizes[2] * sizes[3], sizes[2] * sizes[3] * int(sizes[6] > 1)
    a, xs, x, grad = pointer(at[0], kind), pointer(at[1], kind), pointer(at[2], kind), pointer(at[3], kind)
    dw, da, dx = pointer(at[4], kind), pointer(at[5], kind), pointer(at[6], kind)
    for piece in range(first, last):
        place, here, start, to, lo, hi = of_piece(piece, places, sizes)
        rows_back(a, place, xs, x, grad, dw, da, dx, here, step * sizes[4], start, to, of_t, lo, hi, T, sizes[4])


def of_piece(piece, places, sizes):
    """Where its a begins and how it goes on; where its w, its x and its da begin; its channels."""
    B, T, H, n, p, cuts, steps, _ = sizes
    row, cut = piece // cuts, piece % cuts
    batch, head = row // H, row % H
    place = (batch * places[0] + head * places[2], places[1], places[3])
    to = (batch * steps * H + head) * n
    return place, (batch * T * H + head) * n * p, row * n * p, to, n * cut // cuts, n * (cut + 1) // cuts


def along(a, place, log, w, xs, x, at, step, first, lo, hi, T):
    """x_t = a_t x_{t-1} + w_t; x holds the state before, from `first` on."""
    L = width(narrow(w))
    whole = lo + (hi - lo) // L * L
    for t in range(T):
        source, here = place[0] + t * place[1], at + t * step
        before, start = (xs, here - step) if t else (x, first)
        for i in range(lo, whole, L):
            f = load(a, source + i) if place[2] else spread(a, source)
            if log:
                f = exponential(f)
            store(xs, here + i, load(w, here + i) + f * load(before, start + i))
        for i in range(whole, hi):
            f = a[source + i * place[2]]
            xs[here + i] = w[here + i] + (math.exp(f) if log else f) * before[start + i]


def along_back(a, place, log, xs, x, grad, dw, da, dx, at, step, first, to, of_t, lo, hi, T):
    """dw_t = g_t + a_{t+1} dw_{t+1}, da_t = dw_t x_{t-1}; dx holds a_{t+1} dw_{t+1}. da at `to` + t `of_t` + i."""
    L = width(narrow(xs))
    whole = lo + (hi - lo) // L * L
    for t in range(T - 1, -1, -1):
        source, here, target = place[0] + t * place[1], at + t * step, to + t * of_t
        before, start = (xs, here - step) if t else (x, first)
        for i in range(lo, whole, L):
            f = load(a, source + i) if place[2] else spread(a, source)
            if log:
                f = exponential(f)
            lam = load(grad, here + i) + load(dx, first + i)
            store(dw, here + i, lam)
            passed = f * lam
            found = (passed if log else lam) * load(before, start + i)
            store(da, target + i, found if of_t else found + load(da, target + i))
            store(dx, first + i, passed)
        for i in range(whole, hi):
            f = a[source + i * place[2]]
            if log:
                f = math.exp(f)
            lam = grad[here + i] + dx[first + i]
            dw[here + i] = lam
            found = (f * lam if log else lam) * before[start + i]
            da[target + i] = found if of_t else found + da[target + i]
            dx[first + i] = f * lam


def rows(a, place, w, xs, x, at, step, first, lo, hi, T, p):
    """The same, rows lo..hi of p channels: entry i of a is that of row i."""
    for t in range(T):
        source, here = place[0] + t * place[1], at + t * step
        before, start = (xs, here - step) if t else (x, first)
        for i in range(lo, hi):
            f = a[source + i * place[2]]
            for k in range(i * p, i * p + p):
                xs[here + k] = w[here + k] + f * before[start + k]


def rows_back(a, place, xs, x, grad, dw, da, dx, at, step, first, to, of_t, lo, hi, T, p):
    for t in range(T - 1, -1, -1):
        source, here, target = place[0] + t * place[1], at + t * step, to + t * of_t
        before, start = (xs, here - step) if t else (x, first)
        for i in range(lo, hi):
            f, total = np.conj(a[source + i * place[2]]), da[target + i]
            for k in range(i * p, i * p + p):
                lam = grad[here + k] + dx[first + k]
                dw[here + k] = lam
                total += lam * np.conj(before[start + k])
                dx[first + k] = f * lam
            da[target + i] = total
