"""Causal softmax attention, one query at a time.

Vaswani et al., "Attention is all you need" (NeurIPS 2017, arXiv 1706.03762), section 3.2.1, equation (1) (recalled):
Attention(Q, K, V) = softmax(Q K^T / sqrt(d_k)) V, with the mask of section 3.2.3.
Deviation: dsf's scale is 1, the factor 1/sqrt(d_k) belongs to q.
"""

import torch

from ._loops import over_heads


def sequence(q, k, u):
    y = []
    for t in range(len(q)):
        scores = k[: t + 1] @ q[t]
        weights = torch.softmax(scores, dim=0)
        y.append(weights @ u[: t + 1])
    return torch.stack(y), k


def run(signals, u):
    """q, k [B, T, H, n], u [B, T, H, p] -> y [B, T, H, p], state (k, u): all of the past."""
    y, _ = over_heads(sequence, signals, u)
    return y, (signals["k"], u)
