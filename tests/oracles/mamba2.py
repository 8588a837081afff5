"""Mamba-2 (state space duality) in the quadratic form: one masked T x T matrix.

Dao and Gu, "Transformers are SSMs" (ICML 2024, arXiv 2405.21060), section 2.4, "dual (quadratic) form":
Y = (L o Q K^T) V with L_ij = a_i ... a_{j+1} for i >= j, else 0. Here a_t = exp(-dt_t exp(log_a)), the written
vector is dt_t k_t, and d u_t is the skip connection.
"""

import torch

from ._loops import over_heads


def decay_mask(a):
    """L [T, T], row by row: L_t = (a_t L_{t-1}, 1). Products only, so that a decay of exactly 0 is exact."""
    T = len(a)
    rows = [torch.cat([a.new_ones(1), a.new_zeros(T - 1)])]
    for t in range(1, T):
        rows.append(torch.cat([a[t] * rows[-1][:t], a.new_ones(1), a.new_zeros(T - 1 - t)]))
    return torch.stack(rows)


def sequence(q, k, dt, log_a, d, u):
    a = torch.exp(-dt * torch.exp(log_a))
    L = decay_mask(a)
    K = dt[:, None] * k
    y = (L * (q @ K.T)) @ u + d * u
    state = (L[-1][:, None] * K).T @ u
    return y, state


def run(signals, u):
    """q, k [B, T, H, n], dt [B, T, H], log_a, d [H], u [B, T, H, p] -> y [B, T, H, p], state [B, H, n, p]."""
    return over_heads(sequence, signals, u, params=("log_a", "d"))
