"""Kimi Delta Attention (KDA).

Kimi Team, "Kimi Linear" (arXiv 2510.26692), section 3, equation (1) (recalled):
S_t = (I - beta_t k_t k_t^T) Diag(alpha_t) S_{t-1} + beta_t k_t v_t^T, o_t = S_t^T q_t, here with alpha_t = exp(g_t).
Written in three moves: decay the rows of the memory, take out what it holds at the key, put in the value.
"""

import torch

from ._loops import over_heads


def sequence(q, k, beta, g, u):
    S = u.new_zeros(k.shape[-1], u.shape[-1])
    o = []
    for t in range(len(u)):
        S = torch.exp(g[t])[:, None] * S
        held = k[t] @ S
        S = S + beta[t] * torch.outer(k[t], u[t] - held)
        o.append(S.T @ q[t])
    return torch.stack(o), S


def run(signals, u):
    """q, k, g (log decay) [B, T, H, n], beta [B, T, H], u [B, T, H, p] -> y [B, T, H, p], state [B, H, n, p]."""
    return over_heads(sequence, signals, u)
