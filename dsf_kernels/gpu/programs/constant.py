"""A system that is constant in time on chunks of C steps, whose sequences are rows: products with fixed matrices.

    Y = U K + X R        X <- X Q + U W        K Toeplitz [C, C], R [n, C], W [C, n]; Q diagonal, complex or a matrix

Complex states lie in memory as all real parts, then all imaginary ones, and K, R, W are real. Backward in time it is
the transpose: K^T, W^T for R, R^T for W, and Q^T (of a complex diagonal the conjugate).
"""

import triton
import triton.language as tl


@triton.jit
def respond(
    toeplitz, read, write, powers, rows, start, out, last, states,
    count, chunks, n,
    C: tl.constexpr, N: tl.constexpr, P: tl.constexpr, FORM: tl.constexpr, REVERSE: tl.constexpr, KEEP: tl.constexpr,
    KIND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """rows, out [groups, chunks, count, C], start, last [groups, count, n], KEEP: the state before every chunk, to
    states [groups, chunks, count, n]; FORM: "diagonal" or "complex", powers [groups, n], or "matrix" [groups, n, n].
    Grid: groups, blocks of rows. Where complex, n counts parts: 2 a state."""
    group, q = tl.program_id(0).to(tl.int64), tl.program_id(1) * P + tl.arange(0, P)
    i, d, half = tl.arange(0, C), tl.arange(0, N), n
    if FORM == "complex":
        half = n // 2
    inside, those = (q < count)[:, None] & (d < half)[None, :], (q < count)[:, None] & (i < C)[None, :]
    K = tl.load(toeplitz + group * C * C + i[:, None] * C + i[None, :]).to(KIND)
    at_R, at_W = read + (group * n + d[:, None]) * C + i[None, :], write + (group * C + i[:, None]) * n + d[None, :]
    R = tl.load(at_R, mask=(d < half)[:, None] & (i < C)[None, :], other=0.0).to(KIND)
    W = tl.load(at_W, mask=(i < C)[:, None] & (d < half)[None, :], other=0.0).to(KIND)
    at = (group * count + q[:, None]) * n + d[None, :]
    X = tl.load(start + at, mask=inside, other=0.0)
    if FORM == "matrix":
        Q = tl.load(
            powers + (group * n + d[:, None]) * n + d[None, :], mask=(d < n)[:, None] & (d < n)[None, :], other=0.0
        )
    else:
        Q = tl.load(powers + group * n + d, mask=d < half, other=0.0)[None, :]
    if FORM == "complex":
        R_i = tl.load(at_R + half * C, mask=(d < half)[:, None] & (i < C)[None, :], other=0.0).to(KIND)
        W_i = tl.load(at_W + half, mask=(i < C)[:, None] & (d < half)[None, :], other=0.0).to(KIND)
        X_i = tl.load(start + at + half, mask=inside, other=0.0)
        Q_i = tl.load(powers + group * n + half + d, mask=d < half, other=0.0)[None, :]
    for turn in range(chunks):
        chunk = turn
        if REVERSE:
            chunk = chunks - 1 - turn
        place = (group * chunks + chunk) * count + q[:, None]
        if KEEP:
            tl.store(states + place * n + d[None, :], X, mask=inside)
            if FORM == "complex":
                tl.store(states + place * n + d[None, :] + half, X_i, mask=inside)
        U = tl.load(rows + place * C + i[None, :], mask=those, other=0.0).to(KIND)
        Y = tl.dot(U, K, input_precision=PRECISION)
        Y = tl.dot(X.to(KIND), R, Y, input_precision=PRECISION)
        if FORM == "complex":
            Y = tl.dot(X_i.to(KIND), R_i, Y, input_precision=PRECISION)
            was, was_i = X, X_i
            X = tl.dot(U, W, was * Q - was_i * Q_i, input_precision=PRECISION)
            X_i = tl.dot(U, W_i, was * Q_i + was_i * Q, input_precision=PRECISION)
        elif FORM == "matrix":
            X = tl.dot(U, W, tl.dot(X, Q, input_precision="tf32x3"), input_precision=PRECISION)
        else:
            X = tl.dot(U, W, X * Q, input_precision=PRECISION)
        tl.store(out + place * C + i[None, :], Y.to(out.dtype.element_ty), mask=those)
    tl.store(last + at, X, mask=inside)
    if FORM == "complex":
        tl.store(last + at + half, X_i, mask=inside)
