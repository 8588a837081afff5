"""The Real-Gated Linear Recurrent Unit of Griffin.

De et al., "Griffin" (arXiv 2402.19427), section 2.4, equations (1) to (4) (recalled):
a_t = a^{c r_t} with c = 8, h_t = a_t h_{t-1} + sqrt(1 - a_t^2) (i_t x_t), elementwise; here a_t = exp(g_t).
The released code bounds the derivative of that square root by 1000; so does this.
"""

import torch

from ._loops import over_heads


class BoundedRoot(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sqrt(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad / torch.sqrt(torch.clamp(4 * x, min=1e-6))


def sequence(g, i, u):
    h = torch.zeros_like(u[0])
    y = []
    for t in range(len(u)):
        a_squared_short_of_one = -torch.expm1(2 * g[t])
        h = torch.exp(g[t]) * h + BoundedRoot.apply(a_squared_short_of_one) * (i[t] * u[t])
        y.append(h)
    return torch.stack(y), h[:, None]


def run(signals, u):
    """g (log decay), i, u [B, T, H, n] -> y [B, T, H, n], state [B, H, n, 1]."""
    return over_heads(sequence, signals, u)
