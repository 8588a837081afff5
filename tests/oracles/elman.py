"""The Elman network.

Elman, "Finding structure in time" (Cognitive Science 1990): the hidden units see the input and, through the context
units, their own previous values; with torch.nn.RNN's tanh, h_t = tanh(u_t + R h_{t-1}), where u_t holds the input
weights and the bias.
"""

import torch

from ._loops import over_heads


def sequence(R, u):
    h = torch.zeros_like(u[0])
    y = []
    for t in range(len(u)):
        h = torch.tanh(u[t] + R @ h)
        y.append(h)
    return torch.stack(y), (h[:, None], h)


def run(signals, u):
    """R [H, n, n], u [B, T, H, n] -> y [B, T, H, n], state (x [B, H, n, 1], y [B, H, n]), here both h."""
    return over_heads(sequence, signals, u, params=("R",))
