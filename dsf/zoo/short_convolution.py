"""A short causal convolution (FIR filter): the last K inputs in a shift register; every channel is a head with p = 1.

    x_t = (u_t, u_{t-1}, ..., u_{t-K+1})      y_t = w^T x_t = sum_j w_j u_{t-j}      A = S, B = e_1

K = n taps, a constant of the layer, the present token's first. A is nilpotent: all eigenvalues are 0. It stands before
the recurrence in H3, Hyena, Mamba and DeltaNet, and alone in LFM2. Source: fu2023h3 (the shift state space).
"""

from typing import Any

import numpy as np
import sympy as sp
import torch

from dsf import Interval, Param, Shift, System, Vector, architecture
from dsf.values import Bound


def first_unit(like: Any) -> Any:
    """e_1 = (1, 0, ..., 0), of the size of a vector, in its reading."""
    if isinstance(like, Bound):
        return Bound(Interval(0, 1), Interval(1, 1))
    if isinstance(like, sp.Basic):
        return sp.Symbol("e_1")
    if isinstance(like, np.ndarray):
        return np.array([sp.Integer(int(j == 0)) for j in range(len(like))], dtype=object)
    return torch.nn.functional.one_hot(like.new_zeros((), dtype=torch.long), like.shape[-1]).to(like)[None, None, None]


@architecture("Short convolution", year=2023, cite="fu2023h3")
def short_convolution(w=Param(Vector)):
    return System(A=Shift(), B=first_unit(w), C=w)
