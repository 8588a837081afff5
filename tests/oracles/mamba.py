"""Mamba's selective scan (S6): every head is a channel with its own step dt and its own diagonal A.

Gu and Dao, "Mamba" (arXiv 2312.00752), equations (2a, 2b) with the discretisation (4) and algorithm 2 (recalled):
h_t = A_t h_{t-1} + B_t x_t, y_t = C_t h_t. A = -exp(log_a) is held by zero-order hold, A_t = exp(dt_t A); B is
discretised by Euler, B_t = dt_t b_t, as in the released code (the paper's text writes the exact zero-order hold).
"""

import torch

from ._loops import over_heads


def sequence(b, c, dt, log_a, d, u):
    A = -torch.exp(log_a)
    h = u.new_zeros(b.shape[-1], u.shape[-1])
    y = []
    for t in range(len(u)):
        A_t = torch.exp(dt[t] * A)
        B_t = dt[t] * b[t]
        h = A_t[:, None] * h + torch.outer(B_t, u[t])
        y.append(c[t] @ h + d * u[t])
    return torch.stack(y), h


def run(signals, u):
    """b, c [B, T, 1, n] for all heads, dt [B, T, H], log_a [H, n], d [H], u [B, T, H, p] (p = 1 in Mamba)
    -> y [B, T, H, p], state [B, H, n, p]."""
    return over_heads(sequence, signals, u, params=("log_a", "d"), shared=("b", "c"))
