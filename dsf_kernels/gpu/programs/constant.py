"""A system that is constant in time on chunks of C steps, whose sequences are rows: products with fixed matrices.

    Y = U K + X R        X <- X Q + U W        K Toeplitz [C, C], R [n, C], W [C, n]; Q diagonal, complex or a matrix

Complex states lie in memory as all real parts, then all imaginary ones, and K, R, W are real. Backward in time it is
the transpose: K^T, W^T for R, R^T for W, and Q^T (of a complex diagonal the conjugate).
"""

import triton
import triton.language as tl


@triton.jit
def tile(x, i, rows, j, columns, width):
    """[rows, columns] of a matrix whose rows are `width` entries apart, padded by zeros."""
    return tl.load(x + i[:, None] * width + j[None, :], mask=(i < rows)[:, None] & (j < columns)[None, :], other=0.0)


@triton.jit
def factor(Q, d, n, half, FORM: tl.constexpr):
    """What a state is multiplied by, and its imaginary part (the same again where it has none)."""
    if FORM == "matrix":
        real = tile(Q, d, n, d, n, n)
        imaginary = real
    else:
        real = tl.load(Q + d, mask=d < half, other=0.0)[None, :]
        imaginary = real
        if FORM == "complex":
            imaginary = tl.load(Q + half + d, mask=d < half, other=0.0)[None, :]
    return real, imaginary


@triton.jit
def times(X, X_i, Q, Q_i, FORM: tl.constexpr):
    """X Q."""
    if FORM == "complex":
        real, imaginary = X * Q - X_i * Q_i, X * Q_i + X_i * Q
    elif FORM == "matrix":
        real = tl.dot(X, Q, input_precision="tf32x3")
        imaginary = real
    else:
        real = X * Q
        imaginary = real
    return real, imaginary


@triton.jit
def respond(
    toeplitz, read, write, powers, whole, rows, start, ends, out, last, states,
    count, chunks, n, per,
    C: tl.constexpr, N: tl.constexpr, P: tl.constexpr, FORM: tl.constexpr,
    REVERSE: tl.constexpr, KEEP: tl.constexpr, SUMMARY: tl.constexpr, REST: tl.constexpr,
    KIND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """rows, out [groups, chunks, count, C], start, last [groups, count, n], KEEP: the state before every chunk, to
    states [groups, chunks, count, n]; FORM: "diagonal" or "complex", powers [groups, n], or "matrix" [groups, n, n].
    Where complex, n counts parts: 2 a state. Grid: groups, blocks of rows, segments of `per` chunks.

    SUMMARY: from zero, and what is left goes to ends [segments, groups, count, n]. REST: from what the segments before
    leave, which each that follows multiplies by `whole`, the power of Q over a segment.
    """
    group, segment, groups = tl.program_id(0).to(tl.int64), tl.program_id(2), tl.num_programs(0)
    q, i, d, half = tl.program_id(1) * P + tl.arange(0, P), tl.arange(0, C), tl.arange(0, N), n
    if FORM == "complex":
        half = n // 2
    inside, those = (q < count)[:, None] & (d < half)[None, :], (q < count)[:, None] & (i < C)[None, :]
    of_Q = n
    if FORM == "matrix":
        of_Q = n * n
    at = (group * count + q[:, None]) * n + d[None, :]
    X = tl.zeros([P, N], tl.float32)
    X_i = X
    if not SUMMARY:
        X = tl.load(start + at, mask=inside, other=0.0)
        if FORM == "complex":
            X_i = tl.load(start + at + half, mask=inside, other=0.0)
    if REST:
        Q, Q_i = factor(whole + group * of_Q, d, n, half, FORM)
        for earlier in range(segment):
            left = ends + earlier * groups * count * n + at
            X, X_i = times(X, X_i, Q, Q_i, FORM)
            X += tl.load(left, mask=inside, other=0.0)
            if FORM == "complex":
                X_i += tl.load(left + half, mask=inside, other=0.0)
    Q, Q_i = factor(powers + group * of_Q, d, n, half, FORM)
    W = tile(write + group * C * n, i, C, d, half, n).to(KIND)
    if FORM == "complex":
        W_i = tile(write + group * C * n + half, i, C, d, half, n).to(KIND)
    if not SUMMARY:
        K = tile(toeplitz + group * C * C, i, C, i, C, C).to(KIND)
        R = tile(read + group * n * C, d, half, i, C, C).to(KIND)
        if FORM == "complex":
            R_i = tile(read + (group * n + half) * C, d, half, i, C, C).to(KIND)
    for turn in range(segment * per, min((segment + 1) * per, chunks)):
        chunk = turn
        if REVERSE:
            chunk = chunks - 1 - turn
        place = (group * chunks + chunk) * count + q[:, None]
        if KEEP:
            tl.store(states + place * n + d[None, :], X, mask=inside)
            if FORM == "complex":
                tl.store(states + place * n + d[None, :] + half, X_i, mask=inside)
        U = tl.load(rows + place * C + i[None, :], mask=those, other=0.0).to(KIND)
        if not SUMMARY:
            Y = tl.dot(U, K, input_precision=PRECISION)
            Y = tl.dot(X.to(KIND), R, Y, input_precision=PRECISION)
            if FORM == "complex":
                Y = tl.dot(X_i.to(KIND), R_i, Y, input_precision=PRECISION)
            tl.store(out + place * C + i[None, :], Y.to(out.dtype.element_ty), mask=those)
        X, X_i = times(X, X_i, Q, Q_i, FORM)
        X = tl.dot(U, W, X, input_precision=PRECISION)
        if FORM == "complex":
            X_i = tl.dot(U, W_i, X_i, input_precision=PRECISION)
    if SUMMARY:
        left = ends + segment * groups * count * n + at
        tl.store(left, X, mask=inside)
        if FORM == "complex":
            tl.store(left + half, X_i, mask=inside)
    elif segment * per + per >= chunks:
        tl.store(last + at, X, mask=inside)
        if FORM == "complex":
            tl.store(last + at + half, X_i, mask=inside)
