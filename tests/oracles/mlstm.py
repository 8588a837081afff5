"""mLSTM, the matrix memory of xLSTM.

Beck et al., "xLSTM" (NeurIPS 2024, arXiv 2405.04517), section 2.3, equations (19) to (27) (recalled):
C_t = f_t C_{t-1} + i_t v_t k_t^T, n_t = f_t n_{t-1} + i_t k_t, h~_t = C_t q_t / max(|n_t^T q_t|, 1),
with i_t = exp(i~_t) and f_t = sigmoid(f~_t). Here f is log f_t; the paper's k carries 1/sqrt(d), its o_t is left out.
"""

import torch

from ._loops import over_heads


def sequence(q, k, f, i, u):
    C, n = u.new_zeros(u.shape[-1], k.shape[-1]), torch.zeros_like(k[0])
    h = []
    for t in range(len(u)):
        C = torch.exp(f[t]) * C + torch.exp(i[t]) * torch.outer(u[t], k[t])
        n = torch.exp(f[t]) * n + torch.exp(i[t]) * k[t]
        h.append(C @ q[t] / torch.clamp(torch.abs(n @ q[t]), min=1.0))
    return torch.stack(h), torch.cat([C.T, n[:, None]], dim=1)


def run(signals, u):
    """q, k [B, T, H, n], f (log forget gate), i (log input gate) [B, T, H], u [B, T, H, p] -> y [B, T, H, p], state
    [B, H, n, p + 1]: the memory, and its normaliser n as the last column."""
    return over_heads(sequence, signals, u)
