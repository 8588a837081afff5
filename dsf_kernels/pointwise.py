"""The operations of torch that a trace knows, each as what expressions.py has: functions, masks, and their gradients;
and what they make of all rows of a state.

Arguments are places of values, and numbers as they stand in the call.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .expressions import Graph, Ref

CONSTANT: dict[str, Callable[..., float]] = {
    **dict.fromkeys(("zeros", "zeros_like", "new_zeros"), lambda *args: 0.0),
    **dict.fromkeys(("ones", "ones_like", "new_ones"), lambda *args: 1.0),
    **dict.fromkeys(("full", "full_like"), lambda x, value: float(value)),
    "new_full": lambda x, size, value: float(value),
    "fill": lambda x, value: float(value),
    **dict.fromkeys(("empty", "empty_like", "new_empty"), lambda *args: math.nan),  # to be filled
    "scalar_tensor": float,
}


def _not(g: Graph, m: Ref) -> Ref:
    return g("sub", 1.0, m)


def _clamp(g: Graph, x: Ref, lo: Ref | None = None, hi: Ref | None = None) -> Ref:
    x = x if lo is None else g("where", g("less", x, lo), lo, x)
    return x if hi is None else g("where", g("less", hi, x), hi, x)


def _either(g: Graph, x: Ref, y: Ref) -> Ref:
    return _not(g, g("mul", _not(g, x), _not(g, y)))


def _equal(g: Graph, x: Ref, y: Ref) -> Ref:
    return _not(g, _either(g, g("less", x, y), g("less", y, x)))


def _sign(g: Graph, x: Ref) -> Ref:
    return g("sub", g("less", 0.0, x), g("less", x, 0.0))


def _elu(g: Graph, x: Ref, alpha: float = 1.0, scale: float = 1.0, inner: float = 1.0) -> Ref:
    below = g("mul", g("expm1", g("mul", x, inner)), alpha * scale)
    return g("where", g("less", 0.0, x), g("mul", x, scale), below)


def _of_elu(g: Graph, d: Ref, alpha: float, scale: float, inner: float, of_result: float, x: Ref) -> Ref:
    if of_result:
        below = g("mul", g("add", x, alpha * scale), inner)
    else:
        below = g("mul", g("exp", g("mul", x, inner)), alpha * scale * inner)
    return g("mul", d, g("where", g("less", 0.0, x), scale, below))


def _of_softplus(g: Graph, d: Ref, x: Ref, beta: float, threshold: float) -> Ref:
    scaled = g("mul", x, beta)
    return g("mul", d, g("where", g("less", threshold, scaled), 1.0, g.sigmoid(scaled)))


def _of_silu(g: Graph, d: Ref, x: Ref) -> Ref:
    s = g.sigmoid(x)
    slope = g("mul", s, g("add", g("mul", x, g("sub", 1.0, s)), 1.0))
    return g("mul", d, slope)


POINTWISE: dict[str, Callable[..., Any]] = {
    **{name: lambda g, x, name=name: g(name, x) for name in ("neg", "exp", "expm1", "log", "sqrt")},
    **{name: lambda g, x, y, name=name: g(name, x, y) for name in ("mul", "div")},
    "add": lambda g, x, y, alpha=1: g("add", x, g("mul", y, float(alpha))),
    "sub": lambda g, x, y, alpha=1: g("sub", x, g("mul", y, float(alpha))),
    "rsub": lambda g, x, y, alpha=1: g("sub", y, g("mul", x, float(alpha))),
    "reciprocal": lambda g, x: g("div", 1.0, x),
    "rsqrt": lambda g, x: g("div", 1.0, g("sqrt", x)),
    "exp2": lambda g, x: g("exp", g("mul", x, math.log(2))),
    "log2": lambda g, x: g("div", g("log", x), math.log(2)),
    "log1p": Graph.log1p,
    "pow": Graph.power,
    "sigmoid": Graph.sigmoid,
    "tanh": Graph.tanh,
    "abs": Graph.absolute,
    "softplus": Graph.softplus,
    "relu": lambda g, x: g("where", g("less", 0.0, x), x, 0.0),
    "silu": lambda g, x: g("mul", x, g.sigmoid(x)),
    "elu": _elu,
    "log_sigmoid_forward": lambda g, x: (g.log_sigmoid(x), 0.0),  # and a buffer that is not read
    "sgn": _sign,
    "sign": _sign,
    "where": lambda g, m, x, y: g("where", m, x, y),
    "maximum": lambda g, x, y: g("where", g("less", x, y), y, x),
    "minimum": lambda g, x, y: g("where", g("less", y, x), y, x),
    "clamp": _clamp,
    "clamp_min": lambda g, x, lo: _clamp(g, x, lo),
    "clamp_max": lambda g, x, hi: _clamp(g, x, None, hi),
    "lt": lambda g, x, y: g("less", x, y),
    "gt": lambda g, x, y: g("less", y, x),
    "ge": lambda g, x, y: _not(g, g("less", x, y)),
    "le": lambda g, x, y: _not(g, g("less", y, x)),
    "eq": _equal,
    "ne": lambda g, x, y: _not(g, _equal(g, x, y)),
    "logical_and": lambda g, x, y: g("mul", x, y),
    "bitwise_and": lambda g, x, y: g("mul", x, y),
    "logical_or": _either,
    "bitwise_or": _either,
    "logical_not": _not,
    "bitwise_not": _not,
    "masked_fill": lambda g, x, m, value: g("where", m, value, x),
    "sigmoid_backward": lambda g, d, y: g("mul", d, g("mul", y, g("sub", 1.0, y))),
    "tanh_backward": lambda g, d, y: g("mul", d, g("sub", 1.0, g("mul", y, y))),
    "softplus_backward": _of_softplus,
    "threshold_backward": lambda g, d, x, least: g("where", g("less", least, x), d, 0.0),
    "silu_backward": _of_silu,
    "elu_backward": _of_elu,
    "log_sigmoid_backward": lambda g, d, x, buffer: g("mul", d, g.sigmoid(g("neg", x))),
}


def _sum(g: Graph, n: int, x: Ref) -> Ref:
    return g.over_rows("sum_rows", x, n)


def _norm(g: Graph, n: int, x: Ref, order: float) -> Ref:
    if order not in (1, 2):
        raise ValueError(f"a norm of order {order}")
    return _sum(g, n, g.absolute(x)) if order == 1 else g("sqrt", _sum(g, n, g("mul", x, x)))


def _softmax(g: Graph, n: int, x: Ref) -> Ref:
    power = g("exp", g("sub", x, g.over_rows("max_rows", x, n)))
    return g("div", power, _sum(g, n, power))


def _logsumexp(g: Graph, n: int, x: Ref) -> Ref:
    """An infinite largest one is not subtracted."""
    most = g.over_rows("max_rows", x, n)
    most = g("where", g("less", g.absolute(most), math.inf), most, 0.0)
    return g("add", g("log", _sum(g, n, g("exp", g("sub", x, most)))), most)


def _of_softmax(g: Graph, n: int, d: Ref, y: Ref) -> Ref:
    return g("mul", y, g("sub", d, _sum(g, n, g("mul", d, y))))


OVER_ROWS: dict[str, tuple[int, Callable[..., Ref]]] = {  # where in a call the axes are; of values of n rows
    "sum": (1, _sum),
    "mean": (1, lambda g, n, x: g("div", _sum(g, n, x), float(n))),
    "amax": (1, lambda g, n, x: g.over_rows("max_rows", x, n)),
    "linalg_vector_norm": (2, _norm),
    "logsumexp": (1, _logsumexp),
    "_softmax": (1, _softmax),
    "_log_softmax": (1, lambda g, n, x: g("sub", x, _logsumexp(g, n, x))),
    "_softmax_backward_data": (2, _of_softmax),
    "_log_softmax_backward_data": (2, lambda g, n, d, y: g("sub", d, g("mul", g("exp", y), _sum(g, n, d)))),
}
