"""Tiles of signals as programs read them: steps from a chunk's start on, zeros outside."""

import triton
import triton.language as tl

LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)
UNIT: tl.constexpr = tl.constexpr(64)  # steps: one chunk, or several; every sequence begins with one


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


@triton.jit
def sequence(table, number, T, units, PACKED: tl.constexpr):
    """Where a sequence lies: its row of the batch, its first step there, how many steps it has, its first unit.

    PACKED: by `table` (see dsf_kernels/packing.py), all in one row; else a row of T steps and `units` units each.
    """
    if PACKED:
        first, unit = tl.load(table + 2 * number), tl.load(table + 2 * number + 1)
        row, length = number * 0, (tl.load(table + 2 * number + 2) - first).to(tl.int32)
    else:
        row, first, unit, length = number, number.to(tl.int64) * 0, number.to(tl.int64) * units, T
    return row, first, length, unit


@triton.jit
def owner(owners, unit, units, PACKED: tl.constexpr):
    """The sequence of a unit."""
    if PACKED:
        number = tl.load(owners + unit).to(tl.int64)
    else:
        number = (unit // units).to(tl.int64)
    return number


@triton.jit
def chunk_at(table, owners, chunk, T, units, C: tl.constexpr, PACKED: tl.constexpr):
    """Of the chunk of this number among those of all sequences: its row of the batch, its first step, how many steps.

    A unit is cut into chunks of C steps, as many of them as it may have: behind a sequence's end there are none left.
    """
    PER: tl.constexpr = UNIT // C
    number = owner(owners, chunk // PER, units, PACKED)
    row, first, length, unit = sequence(table, number, T, units, PACKED)
    t0 = (chunk - unit * PER) * C
    return row, first + t0, tl.minimum(length - t0, C).to(tl.int32)
