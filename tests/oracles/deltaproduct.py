"""DeltaProduct: J steps of the delta rule per token, one read after the last.

Siems et al., "DeltaProduct" (NeurIPS 2025, arXiv 2502.10297), section 3 (recalled):
H_{i,j} = (I - beta_{i,j} k_{i,j} k_{i,j}^T) H_{i,j-1} + beta_{i,j} k_{i,j} v_{i,j}^T for j = 1 .. n_h, with
H_{i,0} = H_{i-1} and H_i = H_{i,n_h}. Written here as the paper's unrolled form H_i = A_i H_{i-1} + B_i, where
A_i = prod_j (I - beta_{i,j} k k^T) (later factors to the left) and B_i sums what the later factors leave of each write.
"""

import torch

from ._loops import over_heads


def sequence(q, k, beta, u):
    T, J, n = k.shape
    identity = torch.eye(n, dtype=k.dtype, device=k.device)
    H = u.new_zeros(n, u.shape[-1])
    o = []
    for i in range(T):
        A, B = identity, torch.zeros_like(H)
        for j in reversed(range(J)):  # A is the product of the factors after j
            B = B + A @ (beta[i, j] * torch.outer(k[i, j], u[i, j]))
            A = A @ (identity - beta[i, j] * torch.outer(k[i, j], k[i, j]))
        H = A @ H + B
        o.append(H.T @ q[i])
    return torch.stack(o), H


def run(signals, u):
    """q [B, T, H, n], k [B, T, H, J, n], beta [B, T, H, J], u [B, T, H, J, p] -> y [B, T, H, p], state [B, H, n, p]."""
    return over_heads(sequence, signals, u)
