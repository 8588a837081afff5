"""Gated linear attention.

Yang et al., "Gated linear attention transformers with hardware-efficient training" (ICML 2024, arXiv 2312.06635),
section 4.1, equation (3): S_t = (alpha_t^T 1) o S_{t-1} + k_t^T v_t, o_t = q_t S_t, here with alpha_t = exp(g_t).
"""

import torch

from ._loops import over_heads


def sequence(q, k, g, u):
    S = u.new_zeros(k.shape[-1], u.shape[-1])
    y = []
    for t in range(len(u)):
        alpha = torch.exp(g[t])
        gate = torch.outer(alpha, torch.ones_like(u[t]))
        S = gate * S + torch.outer(k[t], u[t])
        y.append(q[t] @ S)
    return torch.stack(y), S


def run(signals, u):
    """q, k, g (log decay) [B, T, H, n], u [B, T, H, p] -> y [B, T, H, p], state [B, H, n, p]."""
    return over_heads(sequence, signals, u)
