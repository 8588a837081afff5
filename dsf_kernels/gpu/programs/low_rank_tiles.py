"""What both programs of low rank share: products of tiles, and the inverse of a unit triangle."""

import triton
import triton.language as tl

BLOCK: tl.constexpr = tl.constexpr(16)  # the narrowest side of a product


@triton.jit
def product(a, b, KIND: tl.constexpr, PRECISION: tl.constexpr):
    """a b, of factors in KIND."""
    return tl.dot(a.to(KIND), b.to(KIND), input_precision=PRECISION)


@triton.jit
def corners(A, h: tl.constexpr, ROW: tl.constexpr, COLUMN: tl.constexpr):
    """[C / 2h, h, h]: of each block of 2h on the diagonal of A [C, C], the part at ROW and COLUMN, 0 or 1 each."""
    count: tl.constexpr = A.shape[0] // (2 * h)
    parts = tl.reshape(A, [count, 2, h, count, 2, h])
    block, half = tl.arange(0, count), tl.arange(0, 2)
    own = block[:, None, None, None, None, None] == block[None, None, None, :, None, None]
    own &= half[None, :, None, None, None, None] == ROW
    own &= half[None, None, None, None, :, None] == COLUMN
    return tl.sum(tl.sum(tl.sum(tl.where(own, parts, 0.0), 4), 3), 1)


@triton.jit
def with_corners(T, corner, h: tl.constexpr):
    """T [C, C], and `corner` [C / 2h, h, h] in the lower left of each of its blocks of 2h."""
    count: tl.constexpr = T.shape[0] // (2 * h)
    block, half = tl.arange(0, count), tl.arange(0, 2)
    own = block[:, None, None, None, None, None] == block[None, None, None, :, None, None]
    own &= half[None, :, None, None, None, None] == 1
    own &= half[None, None, None, None, :, None] == 0
    parts = tl.where(own, corner[:, None, :, None, None, :], 0.0)
    return T + tl.reshape(parts, [T.shape[0], T.shape[0]])


@triton.jit
def within(T, stack, h: tl.constexpr):
    """The inverses of blocks of 2h from those T of blocks of h, all of them inside the blocks of a stack."""
    i = tl.arange(0, BLOCK)
    row, column = i[:, None], i[None, :]
    meet = (row // (2 * h) == column // (2 * h)) & (row // h > column // h)
    corner = tl.where(meet[None], stack, 0.0)
    return T - tl.dot(tl.dot(T, corner, input_precision="tf32x3"), T, input_precision="tf32x3")


@triton.jit
def joined(T, A, h: tl.constexpr):
    """The same of whole matrices [C, C], of which the blocks on the diagonal are read."""
    right = tl.dot(corners(T, h, 1, 1), corners(A, h, 1, 0), input_precision="tf32x3")
    return with_corners(T, -tl.dot(right, corners(T, h, 0, 0), input_precision="tf32x3"), h)


@triton.jit
def inverse(A, C: tl.constexpr):
    """(I + A)^-1 of A [C, C], of which what is below the diagonal counts, in fp32; C is 16, 32 or 64.

    Two halves of a block meet at its lower left: T_21 = -T_22 A_21 T_11, from blocks of 1 on, and no power of A, which
    may be large where the inverse is not. Blocks up to 16 lie in one stack of those on the diagonal.
    """
    count: tl.constexpr = C // BLOCK
    block, i = tl.arange(0, count), tl.arange(0, BLOCK)
    own = block[:, None, None, None] == block[None, None, :, None]
    stack = tl.sum(tl.where(own, tl.reshape(A, [count, BLOCK, count, BLOCK]), 0.0), 2)
    row, column = i[:, None], i[None, :]
    pairs = (row // 2 == column // 2) & (row > column)
    T = tl.where((row == column)[None], 1.0, tl.where(pairs[None], -stack, 0.0))
    T = within(within(within(T, stack, 2), stack, 4), stack, 8)
    T = tl.reshape(tl.where(own, T[:, :, None, :], 0.0), [C, C])
    if C > BLOCK:
        T = joined(T, A, 16)
    if C > 2 * BLOCK:
        T = joined(T, A, 32)
    return T
