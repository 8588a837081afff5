"""A causal finite impulse response: y_t = sum_j w_j u_{t-j}, one tap after the other.

Fu et al., "Hungry hungry hippos" (ICLR 2023, arXiv 2212.14052), section 3 (recalled): the shift state space, whose
A shifts the state by one and whose B is the first unit vector, is a convolution with the taps C.
"""

import torch

from ._loops import over_heads


def sequence(w, u):
    taps = len(w)
    padded = torch.cat([u.new_zeros(taps, u.shape[-1]), u])
    y = sum(w[j] * padded[taps - j : taps - j + len(u)] for j in range(taps))
    return y, padded[-taps:].flip(0)


def run(signals, u):
    """w [H, n]: n taps, that of the present token first, u [B, T, H, p] -> y [B, T, H, p], state [B, H, n, p]: the
    last n inputs, the present one first."""
    return over_heads(sequence, signals, u, params=("w",))
