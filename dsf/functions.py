"""The functions that bodies use, one row each: what it does to tensors, to symbols, to the set of a bound."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import sympy as sp
import torch
import torch.nn.functional as F

from . import sets
from .sets import Interval, inf
from .values import Bound, Log, is_name, is_number, value, widest


def elementwise(name: str, tensor: Callable, symbol: Callable, bound: Callable, doc: str) -> Callable[[Any], Any]:
    """A function of signals from its three readings; on names it prints as itself."""

    def f(x):
        x = value(x)
        if isinstance(x, torch.Tensor):
            return tensor(x)
        if is_name(x):
            return getattr(sp, name, sp.Function(name))(x)  # sympy prints its own ones better: e^g
        if isinstance(x, np.ndarray):
            return np.vectorize(symbol, otypes=[object])(x)
        if isinstance(x, Bound):
            return x.map(bound)
        raise TypeError(f"dsf.{name} takes a signal (tensor, symbols or bounds), got {type(x).__name__}")

    f.__name__ = f.__qualname__ = name
    f.__doc__ = doc
    return f


def increasing(f: Callable[[float], float], at_minus_oo: float, at_oo: float) -> Callable:
    """An increasing function of a real interval, from its values and its two limits."""

    def image(s):
        if not isinstance(s, Interval):
            raise TypeError(f"this function is enclosed on real sets only, got {s}")
        return s.map(lambda x: at_minus_oo if x == -inf else at_oo if x == inf else f(x))

    return image


def _tanh_secant(x: torch.Tensor) -> torch.Tensor:
    small = x.abs() < 1e-4  # tanh(x)/x = 1 - x^2/3 + 2x^4/15: exact to rounding there, and 0/0 has no gradient
    safe = torch.where(small, torch.ones_like(x), x)
    return torch.where(small, 1 - x * x / 3 + 2 * x**4 / 15, torch.tanh(safe) / safe)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _softplus(x: float) -> float:
    return x if x > 700 else math.log1p(math.exp(x))


_E = sp.exp
exp = elementwise("exp", torch.exp, sp.exp, sets.exp, "e^x, as a plain value (`decay` keeps the exponent).")
sigmoid = elementwise(
    "sigmoid", torch.sigmoid, lambda x: 1 / (1 + _E(-x)), increasing(_sigmoid, 0.0, 1.0), "1 / (1 + e^-x), in [0, 1]."
)
softplus = elementwise(
    "softplus", F.softplus, lambda x: sp.log(1 + _E(x)), increasing(_softplus, 0.0, inf), "log(1 + e^x), in [0, oo]."
)
tanh = elementwise("tanh", torch.tanh, sp.tanh, increasing(math.tanh, -1.0, 1.0), "tanh(x), in [-1, 1].")
relu = elementwise(
    "relu",
    torch.relu,
    lambda x: sp.Piecewise((x, x > 0), (0, True)),
    increasing(lambda x: max(x, 0.0), 0.0, inf),
    "max(x, 0).",
)
elu = elementwise(
    "elu",
    F.elu,
    lambda x: sp.Piecewise((x, x > 0), (_E(x) - 1, True)),
    increasing(lambda x: x if x > 0 else math.expm1(x), -1.0, inf),
    "x if x > 0 else e^x - 1, in [-1, oo].",
)
sqrt = elementwise(
    "sqrt", torch.sqrt, sp.sqrt, increasing(lambda x: math.sqrt(max(x, 0)), 0.0, inf), "The square root of x >= 0."
)
tanh_secant = elementwise(
    "tanh_secant",
    _tanh_secant,
    lambda x: sp.tanh(x) / x,
    lambda s: Interval(0, 1),
    "tanh(x) / x, in [0, 1]: the gain with tanh(x) = tanh_secant(x) x exactly.",
)
relu_secant = elementwise(
    "relu_secant",
    lambda x: (x > 0).to(x.dtype),
    lambda x: sp.Piecewise((1, x > 0), (0, True)),
    lambda s: Interval(0, 1),
    "1 if x > 0 else 0: the gain with relu(x) = relu_secant(x) x exactly.",
)


def decay(log: Any) -> Any:
    """e^log that remembers its logarithm, so that kernels sum exponents; log = -oo is a reset.

    >>> import torch
    >>> (1 - decay(torch.tensor([-1e-9]))).item()  # no cancellation, in float32
    9.999999717180685e-10
    """
    return Log(log) if isinstance(log, torch.Tensor) else exp(log)


def known(x: Any, lo: float, hi: float) -> Any:
    """x, of which its author proved lo <= x <= hi although interval arithmetic cannot see it (one signal twice).

    The claim enters the bounds; `arch.sample` and the shared tests check it on numbers.
    """
    if not isinstance(x, Bound):
        return x
    assert isinstance(x.set, Interval)
    return Bound(Interval(max(x.set.lo, lo), min(x.set.hi, hi)), x.norm2, x.dependence, x.steps)


class Inner(sp.Function):
    """a^T b on names."""

    def _latex(self, printer, exp=None):
        a, b = (f"({printer._print(x)})" if x.is_Add else printer._print(x) for x in self.args)
        return rf"{a}^\top {b}" if exp is None else rf"({a}^\top {b})^{{{exp}}}"

    def _sympystr(self, printer):
        a, b = (f"({printer._print(x)})" if not x.is_Atom else printer._print(x) for x in self.args)
        return f"{a}^T {b}"


def inner(a: Any, b: Any) -> Any:
    """a^T b: a scalar. No conjugate, also of complex vectors."""
    if is_name(a):
        return Inner(a, b)
    if isinstance(a, Bound):
        if a is b and isinstance(a.set, Interval):
            return Bound(a.norm2 or Interval(0, inf), None, a.dependence, a.steps)
        assert a.norm2 and b.norm2
        most = sets._times(a.norm2.hi, b.norm2.hi) ** 0.5  # Cauchy-Schwarz
        real = isinstance(a.set, Interval) and isinstance(b.set, Interval)
        s = Interval(-most, most) if real else sets.disc(most)
        return Bound(s, None, widest((a.dependence, b.dependence)), max(a.steps, b.steps))
    return (value(a) * value(b)).sum(-1, keepdims=True)


class Stack(sp.Function):
    """[a; b] on names."""

    def _latex(self, printer, exp=None):
        return r"\begin{pmatrix}" + r"\\".join(map(printer._print, self.args)) + r"\end{pmatrix}"

    def _sympystr(self, printer):
        return "[" + "; ".join(map(printer._print, self.args)) + "]"


def stack(*parts: Any) -> Any:
    """[a; b; ...]: vectors one below the other, the partner of `block`; also of one list, stack([a, b])."""
    if len(parts) == 1 and isinstance(parts[0], (list, tuple)):
        parts = tuple(parts[0])
    parts = tuple(value(p) for p in parts)
    first: Any = next((p for p in parts if not is_number(p)), None)
    if is_name(first):
        return Stack(*parts)
    if isinstance(first, Bound):
        s = sets.hull([p.set if isinstance(p, Bound) else sets.point(p) for p in parts])
        vectors = [p for p in parts if isinstance(p, Bound)]
        unknown = any(is_number(p) and p != 0 for p in parts)  # a number stands n times, and n is unknown
        norm2 = Interval(0, inf if unknown else sum(p.norm2.hi if p.norm2 else inf for p in vectors))
        return Bound(s, norm2, widest(p.dependence for p in vectors), max(p.steps for p in vectors))
    if isinstance(first, torch.Tensor):
        tensors = [p if isinstance(p, torch.Tensor) else torch.full_like(first, p) for p in parts]
        lead = torch.broadcast_shapes(*(p.shape[:-1] for p in tensors))  # sizes along n are their own
        return torch.cat([p.expand(*lead, p.shape[-1]) for p in tensors], -1)
    return np.concatenate([p if isinstance(p, np.ndarray) else 0 * first + p for p in parts], -1)


def real(x: Any) -> Any:
    """The real part."""
    if isinstance(x, torch.Tensor):
        return x.real if x.is_complex() else x
    return np.vectorize(sp.re, otypes=[object])(x)
