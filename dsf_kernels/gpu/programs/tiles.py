"""Tiles of signals as programs read them: steps from a chunk's start on, zeros outside."""

import triton
import triton.language as tl

LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)


@triton.jit
def column(x, t, stride, limit):
    """[C]: a number of each step t, 0 where t is not in 0..limit."""
    return tl.load(x + t * stride, mask=(t >= 0) & (t < limit), other=0.0)


@triton.jit
def down(x, t, stride, d, limit, n):
    """[C, N]: a vector of each step, steps from top to bottom."""
    inside = ((t >= 0) & (t < limit))[:, None] & (d < n)[None, :]
    return tl.load(x + t[:, None] * stride + d[None, :], mask=inside, other=0.0)


@triton.jit
def across(x, t, stride, d, limit, n):
    """[N, C]: the same, transposed as it is read; a transposed result of a product is not safe on every compiler."""
    inside = ((t >= 0) & (t < limit))[None, :] & (d < n)[:, None]
    return tl.load(x + t[None, :] * stride + d[:, None], mask=inside, other=0.0)


@triton.jit
def square(x, i, rows, j, columns):
    """[N, P] of a matrix [rows, columns] in fp32."""
    inside = (i < rows)[:, None] & (j < columns)[None, :]
    return tl.load(x + i[:, None] * columns + j[None, :], mask=inside, other=0.0).to(tl.float32)


@triton.jit
def log2(x):
    """Natural logarithms as those of 2, in fp32."""
    return x.to(tl.float32) * LOG2E


@triton.jit
def between(g_row, i, BEFORE: tl.constexpr, REVERSE: tl.constexpr):
    """[read at i, write at j]: 2^(the log decays between), summed over the segment; 0 where i does not read j.

    g_row: the log decay that the read at i has and one at i - 1 has not. Backward in time the transpose.
    """
    if REVERSE:
        E = tl.exp2(tl.cumsum(tl.where(i[None, :] > i[:, None] + BEFORE, g_row[None, :], 0.0), 1))
        return tl.where(i[None, :] >= i[:, None] + BEFORE, E, 0.0)
    E = tl.exp2(tl.cumsum(tl.where(i[:, None] > i[None, :] + BEFORE, g_row[:, None], 0.0), 0))
    return tl.where(i[:, None] >= i[None, :] + BEFORE, E, 0.0)
