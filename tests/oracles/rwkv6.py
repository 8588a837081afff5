"""RWKV-6 (Finch): the read comes before the update, the current token enters with a bonus.

Peng et al., "Eagle and Finch" (COLM 2024, arXiv 2404.05892), section 4.2.2, equations (19), (21), (22) (numbers from
secondary sources): wkv_t = s + diag(bonus) k_t^T v_t, s' = diag(w_t) s + k_t^T v_t, output r_t wkv_t, here with
w_t = exp(w[t]).
Deviation: no group normalisation and no output gate, which act after the memory.
"""

import torch

from ._loops import over_heads


def sequence(r, k, w, bonus, u):
    s = u.new_zeros(k.shape[-1], u.shape[-1])
    y = []
    for t in range(len(u)):
        kv = torch.outer(k[t], u[t])
        wkv = s + torch.diag(bonus) @ kv
        y.append(r[t] @ wkv)
        s = torch.diag(torch.exp(w[t])) @ s + kv
    return torch.stack(y), s


def run(signals, u):
    """r, k, w (log decay) [B, T, H, n], bonus [H, n], u [B, T, H, p] -> y [B, T, H, p], state [B, H, n, p] (the memory
    AFTER the last update, which the next token will read)."""
    return over_heads(sequence, signals, u, params=("bonus",))
