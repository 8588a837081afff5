"""DeltaNet in the read - erase - write form.

Yang et al., "Parallelizing linear transformers with the delta rule over sequence length" (NeurIPS 2024, arXiv
2406.06484), section 2.2 (the rule is due to Schlag, Irie, Schmidhuber, ICML 2021, arXiv 2102.11174):
v_old = S_{t-1} k_t, v_new = beta_t v_t + (1 - beta_t) v_old, S_t = S_{t-1} - v_old k_t^T + v_new k_t^T, o_t = S_t q_t.
"""

import torch

from ._loops import over_heads


def sequence(q, k, beta, u):
    S = u.new_zeros(u.shape[-1], k.shape[-1])  # the paper's orientation, d_v x d_k
    o = []
    for t in range(len(u)):
        v_old = S @ k[t]
        v_new = beta[t] * u[t] + (1 - beta[t]) * v_old
        S = S - torch.outer(v_old, k[t]) + torch.outer(v_new, k[t])
        o.append(S @ q[t])
    return torch.stack(o), S.T


def run(signals, u):
    """q, k [B, T, H, n], beta [B, T, H], u [B, T, H, p] -> y [B, T, H, p], state [B, H, n, p]."""
    return over_heads(sequence, signals, u)
