"""RG-LRU, the recurrence of Griffin and RecurrentGemma: a gate per channel, and an input that keeps the variance.

    x_t = diag(e^{g_t}) x_{t-1} + diag(sqrt(1 - e^{2 g_t}) i_t) u_t      y_t = x_t      g_t <= 0, i_t in [0, 1]

g = -8 r softplus(Lambda) with a gate r in [0, 1]; g = -oo is a reset, whose input passes as i u. The slope of the
square root is bounded by 1000, as in the released model: at g = 0 it would be infinite. Source: de2024griffin.
"""

import math

import sympy as sp
import torch

from dsf import I, System, Vector, architecture, decay, diag, elementwise, inf
from dsf.functions import increasing

SLOPE = 1000.0  # the gradient is exact where the root is at least 1 / (2 SLOPE), so where g <= -1.25e-7


def _bounded_slope(x: torch.Tensor) -> torch.Tensor:
    steep = x < 1 / (2 * SLOPE) ** 2
    linear = x.detach().sqrt() + SLOPE * (x - x.detach())  # its value is the root's
    return torch.where(steep, linear, torch.where(steep, torch.ones_like(x), x).sqrt())


_root = increasing(lambda x: math.sqrt(max(x, 0)), 0.0, inf)
sqrt = elementwise("sqrt", _bounded_slope, sp.sqrt, _root, "The square root of x >= 0, with a slope of at most 1000.")


@architecture("RG-LRU", year=2024, cite="de2024griffin")
def rglru(g=Vector(-inf, 0), i=Vector(0, 1)):
    return System(A=diag(decay(g)), B=diag(sqrt(1 - decay(g) ** 2) * i), C=I)
