"""RWKV-4's time mixing, one channel at a time.

Peng et al., "RWKV" (Findings of EMNLP 2023, arXiv 2305.13048), section 3.1, the equation of wkv_t (recalled):
wkv_t = (sum_{i<t} exp(-(t-1-i) w + k_i) v_i + exp(u + k_t) v_t) / (sum_{i<t} exp(-(t-1-i) w + k_i) + exp(u + k_t)).
Here -w is called w, u the bonus, v the drive; the sums are written as they stand. Every channel is a head.
"""

import torch

from ._loops import over_heads


def sequence(k, w, bonus, u):
    y = []
    for t in range(len(u)):
        num, den = torch.exp(bonus + k[t]) * u[t], torch.exp(bonus + k[t])
        for i in range(t):
            weight = torch.exp((t - 1 - i) * w + k[i])
            num, den = num + weight * u[i], den + weight
        y.append(num / den)
    last = [torch.exp((len(u) - 1 - i) * w + k[i]) for i in range(len(u))]
    state = torch.cat([sum(a * v for a, v in zip(last, u, strict=True)), sum(last)[None]])
    return torch.stack(y), state[None]


def run(signals, u):
    """k [B, T, H], w (log decay), bonus [H], u [B, T, H, p] (p = 1 in RWKV-4) -> y [B, T, H, p], state
    [B, H, 1, p + 1]: numerator and denominator."""
    return over_heads(sequence, signals, u, params=("w", "bonus"))
