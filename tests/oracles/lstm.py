"""The LSTM, gate by gate.

Hochreiter and Schmidhuber, "Long short-term memory" (Neural Computation 1997), with the forget gate of Gers,
Schmidhuber, Cummins, "Learning to forget" (Neural Computation 2000), without peepholes, as in torch.nn.LSTM. The
signals f, i, o and the drive u are pre-activations: they hold the input weights and the biases.
"""

import torch

from ._loops import over_heads


def sequence(f, i, o, Rf, Ri, Ro, Ru, u):
    c = torch.zeros_like(u[0])
    h = torch.zeros_like(u[0])
    y = []
    for t in range(len(u)):
        forget = torch.sigmoid(f[t] + Rf @ h)
        write = torch.sigmoid(i[t] + Ri @ h)
        output = torch.sigmoid(o[t] + Ro @ h)
        candidate = torch.tanh(u[t] + Ru @ h)
        c = forget * c + write * candidate
        h = output * torch.tanh(c)
        y.append(h)
    return torch.stack(y), (c[:, None], h)


def run(signals, u):
    """f, i, o, u [B, T, H, n], Rf, Ri, Ro, Ru [H, n, n] -> y [B, T, H, n], state (c [B, H, n, 1], h [B, H, n])."""
    return over_heads(sequence, signals, u, params=("Rf", "Ri", "Ro", "Ru"))
