"""Gated DeltaNet.

Yang, Kautz, Hatamizadeh, "Gated delta networks" (ICLR 2025, arXiv 2412.06464), section 3.1, equation (10):
S_t = S_{t-1} (alpha_t (I - beta_t k_t k_t^T)) + beta_t v_t k_t^T, o_t = S_t q_t, here with alpha_t = exp(g_t).
"""

import torch

from ._loops import over_heads


def sequence(q, k, beta, g, u):
    identity = torch.eye(k.shape[-1], dtype=k.dtype, device=k.device)
    S = u.new_zeros(u.shape[-1], k.shape[-1])  # the paper's orientation, d_v x d_k
    o = []
    for t in range(len(u)):
        alpha = torch.exp(g[t])
        transition = alpha * (identity - beta[t] * torch.outer(k[t], k[t]))
        S = S @ transition + beta[t] * torch.outer(u[t], k[t])
        o.append(S @ q[t])
    return torch.stack(o), S.T


def run(signals, u):
    """q, k [B, T, H, n], beta, g (log decay) [B, T, H], u [B, T, H, p] -> y [B, T, H, p], state [B, H, n, p]."""
    return over_heads(sequence, signals, u)
