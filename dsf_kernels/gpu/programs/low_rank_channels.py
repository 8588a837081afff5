"""A chunk whose channels decay each on their own, by doubling: what meets at the border of two halves of a block.

For h = 1, 2, 4, .. a read in the right half of 2 h steps meets a write in the left one at their border: the write
decays up to it, the read from it on, and a level is one product of matrices. One factor serves both, since a step is on
one side of a border. Exponents are summed over segments; nothing is subtracted, no factor outgrows its segment.
"""

import triton
import triton.language as tl

from .low_rank_tiles import product


@triton.jit
def border(before, after, i, level):
    """[C, N]: the decay between a step and the border of its two halves of 2^level steps."""
    return tl.exp2(tl.where(((i >> level) % 2 == 1)[:, None], before, after))


@triton.jit
def meet(i, level, ROWS: tl.constexpr):
    """[C, C]: does the read (ROWS: of its row, else of its column) meet the write at this level?"""
    if ROWS:
        read, write = (i >> level)[:, None], (i >> level)[None, :]
    else:
        read, write = (i >> level)[None, :], (i >> level)[:, None]
    return (read % 2 == 1) & (write == read - 1)


@triton.jit
def doubled(before, after, whole, i, level):
    """Exponents [C, N] in a block of 2^level steps, before a step, after it and of all: the same in blocks twice as
    long."""
    other = tl.gather(whole, (i ^ (1 << level))[:, None] + tl.zeros(whole.shape, tl.int32), 0)
    right = ((i >> level) % 2 == 1)[:, None]
    return before + tl.where(right, other, 0.0), after + tl.where(right, 0.0, other), whole + other


@triton.jit
def diagonal(M, i):
    """[C, 1]: what stands on the diagonal of M."""
    return tl.sum(tl.where(i[:, None] == i[None, :], M, 0.0), 1)[:, None]


@triton.jit
def pairs_of(v, c, b, u, g, i, A, X, reach, P, LEVELS: tl.constexpr, KIND: tl.constexpr, PRECISION: tl.constexpr):
    """With more channels [C, N]: v with u (A) and b (X), c with u (reach) and b (P); each row sees what was written
    before its own step. g: the exponents of the steps."""
    before, after, whole = tl.zeros(g.shape, tl.float32), tl.zeros(g.shape, tl.float32), g
    for level in range(LEVELS):
        f, met = border(before, after, i, level), meet(i, level, True)
        u_T, b_T = tl.trans((u * f).to(KIND)), tl.trans((b * f).to(KIND))
        v_f, c_f = (v * f).to(KIND), (c * f).to(KIND)
        A += tl.where(met, tl.dot(v_f, u_T, input_precision=PRECISION), 0.0)
        X += tl.where(met, tl.dot(v_f, b_T, input_precision=PRECISION), 0.0)
        reach += tl.where(met, tl.dot(c_f, u_T, input_precision=PRECISION), 0.0)
        P += tl.where(met, tl.dot(c_f, b_T, input_precision=PRECISION), 0.0)
        before, after, whole = doubled(before, after, whole, i, level)
    return A, X, reach, P


@triton.jit
def over_steps(x, i, level, ROWS: tl.constexpr, KIND: tl.constexpr, PRECISION: tl.constexpr):
    """[C, N]: of each step the sum of x over those of its block of 2^level that come later (ROWS), or before it."""
    if ROWS:
        of = i[None, :] > i[:, None]
    else:
        of = i[None, :] < i[:, None]
    return product(of & ((i >> level)[None, :] == (i >> level)[:, None]), x, KIND, PRECISION)


@triton.jit
def gradient_of_pairs(
    own, one, two, M_one, M_two, found, over, g, i,
    LEVELS: tl.constexpr, ROWS: tl.constexpr, KIND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Adds to the gradients found of `own` [C, N], which meets one and two [C, N] in the products whose gradients are M
    [C, C], and over of the exponents g."""
    before, after, whole = tl.zeros(g.shape, tl.float32), tl.zeros(g.shape, tl.float32), g
    for level in range(LEVELS):
        f, met = border(before, after, i, level), meet(i, level, ROWS)
        part = product(tl.where(met, M_one, 0.0), one * f, KIND, PRECISION)
        part = f * (part + product(tl.where(met, M_two, 0.0), two * f, KIND, PRECISION))
        found += part
        over += over_steps(own * part, i, level, ROWS, KIND, PRECISION)
        before, after, whole = doubled(before, after, whole, i, level)
    return found, over
