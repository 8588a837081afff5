"""Titans with a linear memory: gradient descent with momentum and weight decay, the gradient taken by autograd.

Behrouz, Zhong, Mirrokni, "Titans: learning to memorize at test time" (NeurIPS 2025, arXiv 2501.00663), section 3.1,
equations (12)-(14) (numbers from secondary sources):
loss l(M; x_t) = |M k_t - v_t|^2, S_t = eta_t S_{t-1} - theta_t grad l(M_{t-1}; x_t), M_t = (1 - alpha_t) M_{t-1} + S_t;
the output is M_t q_t (equation (15), with the updated memory).
"""

import torch

from ._loops import over_heads


def loss(M, k, v):
    return ((M @ k - v) ** 2).sum()


# differentiates with respect to M only; gradients with respect to the signals still flow through the result
surprise = torch.func.grad(loss)


def sequence(q, k, alpha, eta, theta, u):
    M = u.new_zeros(u.shape[-1], k.shape[-1])
    S = torch.zeros_like(M)
    y = []
    for t in range(len(u)):
        S = eta[t] * S - theta[t] * surprise(M, k[t], u[t])
        M = (1 - alpha[t]) * M + S
        y.append(M @ q[t])
    return torch.stack(y), torch.cat([M.T, S.T])


def run(signals, u):
    """q, k [B, T, H, n], alpha, eta, theta [B, T, H], u [B, T, H, p] -> y [B, T, H, p], state [B, H, 2n, p]: memory
    above, momentum below."""
    return over_heads(sequence, signals, u)
