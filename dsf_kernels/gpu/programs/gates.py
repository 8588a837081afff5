"""Functions of gates, as traced bodies use them: masks are numbers, 1 or 0."""

import triton
import triton.language as tl

from .tiles import LOG2E  # noqa: F401  (for the texts of fused_source.py)

INFINITY: tl.constexpr = tl.constexpr(float("inf"))
NAN: tl.constexpr = tl.constexpr(float("nan"))


@triton.jit
def less(x, y):
    return tl.where(x < y, 1.0, 0.0)


@triton.jit
def choose(mask, x, y):
    return tl.where(mask != 0.0, x, y)


@triton.jit
def root(x):
    return tl.sqrt_rn(x)


@triton.jit
def exp_less_one(x):
    """e^x - 1: by its series where |x| < 1/2."""
    series = 1.0 + x / 9
    for k in tl.static_range(7):
        series = 1.0 + x / (8 - k) * series
    return tl.where(tl.abs(x) < 0.5, x * series, tl.exp(x) - 1.0)
