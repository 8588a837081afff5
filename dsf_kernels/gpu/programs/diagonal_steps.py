"""A chunk of 64 steps in blocks of four, for one decay per channel: steps 4 a + k, those of one k in a tile of 16.

So what passes over steps of a block is arithmetic between four tiles, in registers, and exponents of blocks are few,
summed by doubling. At level h (1, 2, 4, 8 blocks) pairs meet whose write lies in the left half of 2 h blocks and whose
read lies in the right one: the write decays to the border, the read from it on, so that a level is one masked product.
Nothing is subtracted, and no factor outgrows its segment.

Sub-blocks of 16 would take an exponential for every pair and channel of a diagonal block, 16 a step and channel, and
an exponential takes a GPU as long as eight multiplications; here it is fewer than six.
"""

import triton
import triton.language as tl

from .tiles import across, down, log2


@triton.jit
def steps(x, stride, d, limit, n, ACROSS: tl.constexpr):
    """The tiles k = 0..3 of a signal in fp32, [16, N], or across [N, 16]."""
    t = 4 * tl.arange(0, 16)
    if ACROSS:
        x0, x1 = across(x, t, stride, d, limit, n), across(x, t + 1, stride, d, limit, n)
        x2, x3 = across(x, t + 2, stride, d, limit, n), across(x, t + 3, stride, d, limit, n)
    else:
        x0, x1 = down(x, t, stride, d, limit, n), down(x, t + 1, stride, d, limit, n)
        x2, x3 = down(x, t + 2, stride, d, limit, n), down(x, t + 3, stride, d, limit, n)
    return x0.to(tl.float32), x1.to(tl.float32), x2.to(tl.float32), x3.to(tl.float32)


@triton.jit
def decays(g, stride, d, limit, n, ACROSS: tl.constexpr):
    """Those of the steps, and the exponents of blocks."""
    g0, g1, g2, g3 = steps(g, stride, d, limit, n, ACROSS)
    g0, g1, g2, g3 = log2(g0), log2(g1), log2(g2), log2(g3)
    return (tl.exp2(g0), tl.exp2(g1), tl.exp2(g2), tl.exp2(g3)), (g0 + g1) + (g2 + g3)


@triton.jit
def _put(x, t, stride, d, limit, n, tile, ACROSS: tl.constexpr):
    if ACROSS:
        at, inside = t[None, :] * stride + d[:, None], (t < limit)[None, :] & (d < n)[:, None]
    else:
        at, inside = t[:, None] * stride + d[None, :], (t < limit)[:, None] & (d < n)[None, :]
    tl.store(x + at, tile.to(x.dtype.element_ty), mask=inside)


@triton.jit
def put(x, stride, d, limit, n, tiles, ACROSS: tl.constexpr):
    """Stores the tiles k = 0..3 of a signal."""
    t = 4 * tl.arange(0, 16)
    _put(x, t, stride, d, limit, n, tiles[0], ACROSS)
    _put(x, t + 1, stride, d, limit, n, tiles[1], ACROSS)
    _put(x, t + 2, stride, d, limit, n, tiles[2], ACROSS)
    _put(x, t + 3, stride, d, limit, n, tiles[3], ACROSS)


@triton.jit
def times(x, f):
    """Four tiles, times one."""
    return x[0] * f, x[1] * f, x[2] * f, x[3] * f


@triton.jit
def plus(x, y):
    return x[0] + y[0], x[1] + y[1], x[2] + y[2], x[3] + y[3]


@triton.jit
def each(x, y):
    return x[0] * y[0], x[1] * y[1], x[2] * y[2], x[3] * y[3]


@triton.jit
def inner(x, y):
    return (x[0] * y[0] + x[1] * y[1]) + (x[2] * y[2] + x[3] * y[3])


@triton.jit
def from_start(x, d):
    """Four tiles, decayed by the steps of their block before them."""
    return x[0], x[1] * d[0], x[2] * (d[0] * d[1]), x[3] * (d[0] * d[1] * d[2])


@triton.jit
def to_end(x, d):
    """The same by those after them."""
    return x[0] * (d[1] * d[2] * d[3]), x[1] * (d[2] * d[3]), x[2] * d[3], x[3]


@triton.jit
def stacked(x, KIND: tl.constexpr, ACROSS: tl.constexpr):
    """[64, N], or across [N, 64], of four tiles."""
    y = tl.join(tl.join(x[0].to(KIND), x[2].to(KIND)), tl.join(x[1].to(KIND), x[3].to(KIND)))
    if ACROSS:
        stack = tl.reshape(y, (y.shape[0], 64))
    else:
        stack = tl.reshape(tl.permute(y, (0, 2, 3, 1)), (64, y.shape[1]))
    return stack


@triton.jit
def quarters(x):
    """[..., 2, 2] -> four of [...]."""
    even, odd = tl.split(x)
    x0, x2 = tl.split(even)
    x1, x3 = tl.split(odd)
    return x0, x1, x2, x3


@triton.jit
def blocks(like, ACROSS: tl.constexpr):
    """Which block an entry of a tile belongs to."""
    if ACROSS:
        a = tl.arange(0, 16)[None, :] + tl.zeros(like.shape, tl.int32)
    else:
        a = tl.arange(0, 16)[:, None] + tl.zeros(like.shape, tl.int32)
    return a


@triton.jit
def other_half(x, h: tl.constexpr, ACROSS: tl.constexpr):
    """Of 2 h blocks each, what stands in the other half."""
    if ACROSS:
        y = tl.gather(x, blocks(x, ACROSS) ^ h, 1)
    else:
        y = tl.gather(x, blocks(x, ACROSS) ^ h, 0)
    return y


@triton.jit
def doubled(before, after, whole, h: tl.constexpr, ACROSS: tl.constexpr):
    """Of h blocks the exponents before a block, after it and of all: the same of 2 h blocks."""
    other, right = other_half(whole, h, ACROSS), (blocks(whole, ACROSS) & h) != 0
    return before + tl.where(right, other, 0.0), after + tl.where(right, 0.0, other), whole + other


@triton.jit
def to_border(before, after, h: tl.constexpr, ACROSS: tl.constexpr):
    """At level h the decay between a block and its border, from the exponents in h blocks."""
    return tl.exp2(tl.where((blocks(before, ACROSS) & h) != 0, before, after))


@triton.jit
def meet(a, b, h: tl.constexpr):
    """Do a read of block a and a write of block b meet at level h?"""
    return (a // (2 * h) == b // (2 * h)) & ((a & h) != 0) & ((b & h) == 0)
