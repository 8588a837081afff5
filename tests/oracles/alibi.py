"""Causal softmax attention with linear biases, one query at a time.

Press, Smith, Lewis, "Train short, test long" (ICLR 2022, arXiv 2108.12409), section 3 (recalled):
softmax(q_i K^T + m [-(i-1), ..., -2, -1, 0]), with a slope m per head.
Deviation: dsf's scale is 1, the factor 1/sqrt(d_k) belongs to q.
"""

import torch

from ._loops import over_heads


def sequence(q, k, slope, u):
    y = []
    for t in range(len(q)):
        distance = torch.arange(t, -1, -1, dtype=q.dtype)
        weights = torch.softmax(k[: t + 1] @ q[t] - slope * distance, dim=0)
        y.append(weights @ u[: t + 1])
    return torch.stack(y), -slope * torch.arange(len(q) - 1, -1, -1, dtype=q.dtype)


def run(signals, u):
    """q, k [B, T, H, n], slope [H], u [B, T, H, p] -> y [B, T, H, p], state (k, u, w): all of the past, and the bias
    of each of its tokens [B, T, H] for the last query."""
    y, bias = over_heads(sequence, signals, u, params=("slope",))
    return y, (signals["k"], u, bias.transpose(1, 2))
