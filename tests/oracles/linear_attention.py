"""Linear attention with the identity feature map and without a normaliser.

Katharopoulos et al., "Transformers are RNNs" (ICML 2020, arXiv 2006.16236), section 3.4, the recurrence
S_i = S_{i-1} + phi(x_i W_K) (x_i W_V)^T (equations 18-20, recalled); with phi = identity and without the denominator it
is Yang et al. (GLA, arXiv 2312.06635), equation (1): S_t = S_{t-1} + k_t^T v_t, o_t = q_t S_t.
"""

import torch

from ._loops import over_heads


def sequence(q, k, u):
    S = u.new_zeros(k.shape[-1], u.shape[-1])
    y = []
    for t in range(len(u)):
        S = S + torch.outer(k[t], u[t])
        y.append(q[t] @ S)
    return torch.stack(y), S


def run(signals, u):
    """q, k [B, T, H, n], u [B, T, H, p] -> y [B, T, H, p], state [B, H, n, p]."""
    return over_heads(sequence, signals, u)
