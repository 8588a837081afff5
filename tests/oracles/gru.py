"""The GRU, in cuDNN's form.

Cho et al., "Learning phrase representations using RNN encoder-decoder" (EMNLP 2014, arXiv 1406.1078), section 2.3,
equations (5)-(8) (recalled): reset gate r, update gate z, h_t = z h_{t-1} + (1 - z) n. Deviation, as in cuDNN and
torch.nn.GRU: the reset gate multiplies R_u h + bias instead of h, n = tanh(u + r (R_u h + bias)). The signals z, r
and the drive u are pre-activations: they hold the input weights and the other biases.
"""

import torch

from ._loops import over_heads


def sequence(z, r, Rz, Rr, Ru, bias, u):
    h = torch.zeros_like(u[0])
    y = []
    for t in range(len(u)):
        update = torch.sigmoid(z[t] + Rz @ h)
        reset = torch.sigmoid(r[t] + Rr @ h)
        candidate = torch.tanh(u[t] + reset * (Ru @ h + bias))
        h = (1 - update) * candidate + update * h
        y.append(h)
    return torch.stack(y), (h[:, None], h)


def run(signals, u):
    """z, r, u [B, T, H, n], Rz, Rr, Ru [H, n, n], bias [H, n] -> y [B, T, H, n], state (x [B, H, n, 1], y [B, H, n]),
    here both h."""
    return over_heads(sequence, signals, u, params=("Rz", "Rr", "Ru", "bias"))
