"""Retention in the parallel form: one masked T x T matrix.

Sun et al., "Retentive network" (arXiv 2307.08621), section 2.1, equations (5) and (6) (numbers from secondary
sources): Retention(X) = (Q K^T o D) V with D_nm = gamma^(n-m) for n >= m, else 0. The state is (6) unrolled,
S_T = sum_m gamma^(T-m) K_m^T V_m.
Deviation: no xPos rotation (it can be absorbed in q, k), no group normalisation.
"""

import torch

from ._loops import over_heads


def sequence(q, k, log_gamma, u):
    n = torch.arange(len(u), device=u.device)
    lag = n[:, None] - n[None, :]
    # a power of gamma, not exp(lag log gamma): 0^0 = 1, whereas 0 * -inf would be NaN
    D = torch.exp(log_gamma) ** lag.clamp(min=0)
    D = torch.tril(D)
    y = (q @ k.T * D) @ u
    state = (k * D[-1][:, None]).T @ u
    return y, state


def run(signals, u):
    """q, k [B, T, H, n], log_gamma [H], u [B, T, H, p] -> y [B, T, H, p], state [B, H, n, p]."""
    return over_heads(sequence, signals, u, params=("log_gamma",))
