"""The linear state-space layer as the long convolution, and the HiPPO-LegS matrices it is built on.

Gu et al., "Combining recurrent, convolutional, and continuous-time models with linear state-space layers" (NeurIPS
2021, arXiv 2110.13985), sections 2 and 3 (recalled): the discretisation is the generalised bilinear transform with
alpha = 1/2, the kernel is the Krylov sequence K = (C B_d, C A_d B_d, C A_d^2 B_d, ...), y = K * u + D u.
"""

import torch

from ._discretization import gbt
from ._loops import over_heads


def hippo_legs(n, dtype=torch.float64):
    """(A [n, n], B [n]) of x' = A x + B u, with zero-based r and c for row and column:

        A_rc = -sqrt((2r + 1)(2c + 1)) if r > c,    -(r + 1) if r = c,    0 if r < c;        B_r = sqrt(2r + 1)

    Gu et al., "HiPPO" (NeurIPS 2020, arXiv 2008.07669), theorem 2 (recalled), where the sign is in front of A and time
    rescales both by 1/t; LSSL drops the 1/t, which makes the layer time-invariant.
    """
    A = torch.zeros(n, n, dtype=dtype)
    B = torch.zeros(n, dtype=dtype)
    for r in range(n):
        B[r] = (2 * r + 1) ** 0.5
        A[r, r] = -(r + 1)
        for c in range(r):
            A[r, c] = -(((2 * r + 1) * (2 * c + 1)) ** 0.5)
    return A, B


def sequence(dt, a, b, c, d, u):
    T = len(u)
    A_d, B_d = gbt(a, b[:, None], dt, alpha=0.5)
    krylov = [B_d[:, 0]]
    for _ in range(T - 1):
        krylov.append(A_d @ krylov[-1])
    X = torch.stack(krylov)  # [T, n]: A_d^j B_d
    K = X @ c

    y = torch.stack([K[: t + 1].flip(0) @ u[: t + 1] + d * u[t] for t in range(T)])
    state = X.flip(0).T @ u  # sum_s A_d^(T-1-s) B_d u_s
    return y, state


def run(signals, u):
    """dt, d [H], a [H, n, n], b, c [H, n], u [B, T, H, p] -> y [B, T, H, p], state [B, H, n, p]."""
    return over_heads(sequence, signals, u, params=("dt", "a", "b", "c", "d"))
