"""S4D as the long convolution.

Gu et al., "On the parameterization and initialization of diagonal state space models" (NeurIPS 2022, arXiv
2206.11893), section 3 (recalled): x' = A x + B u with diagonal A, discretised by a zero-order hold,
A_d = exp(dt A), B_d = A^-1 (exp(dt A) - I) B; the kernel is K_j = C A_d^j B_d, y = K * u + D u, and one of each
conjugate pair is kept, hence y = 2 Re(...).
"""

import torch

from ._discretization import zoh
from ._loops import over_heads


def sequence(dt, lam, b, c, d, u):
    T = len(u)
    # n one-dimensional systems; by the exponential, so that lam = 0 is no special case, gradient included
    A_d, B_d = zoh(lam[:, None, None], b[:, None, None], dt)
    A_d, B_d = A_d[:, 0, 0], B_d[:, 0, 0]

    impulse_response = [B_d]  # the state j steps after a unit impulse, A_d^j B_d
    for _ in range(T - 1):
        impulse_response.append(A_d * impulse_response[-1])
    X = torch.stack(impulse_response)  # [T, n]
    K = 2 * (X @ c).real  # [T]

    y = torch.stack([K[: t + 1].flip(0) @ u[: t + 1] + d * u[t] for t in range(T)])
    state = X.flip(0).T @ u.to(X.dtype)  # sum_s A_d^(T-1-s) B_d u_s
    return y, state


def run(signals, u):
    """dt, d [H], lam, b, c [H, n] complex, u [B, T, H, p] real -> y [B, T, H, p] real, state [B, H, n, p] complex."""
    return over_heads(sequence, signals, u, params=("dt", "lam", "b", "c", "d"))
