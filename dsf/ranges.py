"""What values a tensor can take, read off the operations that made it: sigmoid(x) * 2.0 lies in [0, 2], whatever x is.

Weights and inputs count as unknown reals, and an operation that is not listed gives an unknown result, so a range holds
for all inputs and all weights. This is where the domains of a converted layer's signals come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from . import sets
from .sets import Interval, inf

SILU_LEAST = -0.2784645427610738  # min of x sigmoid(x)

_FIXED = {
    "sigmoid": Interval(0, 1),
    "_softmax": Interval(0, 1),
    "tanh": Interval(-1, 1),
    "softplus": Interval(0, inf),
    "log_sigmoid_forward": Interval(-inf, 0),
    "silu": Interval(SILU_LEAST, inf),
    "rsqrt": Interval(0, inf),
    "sqrt": Interval(0, inf),
}
_SAME_VALUES = set(
    "view _unsafe_view reshape transpose permute t expand slice select split split_with_sizes unbind unsqueeze squeeze "
    "clone _to_copy contiguous detach alias repeat index_select flatten unflatten as_strided flip roll".split()
)


class Ranges(TorchDispatchMode):
    """While the block runs, follows the ranges of results; `of(tensor)` tells one, None where it is unknown.

    >>> with Ranges() as ranges:
    ...     beta = torch.randn(3).sigmoid() * 2.0
    >>> ranges.of(beta), ranges.of(torch.randn(3))
    ([0, 2], None)
    """

    def __init__(self):
        super().__init__()
        self._known: Any = WeakIdKeyDictionary()
        self._paused = False

    def of(self, x: Any) -> Interval | None:
        """The range of a tensor or number, None where it is unknown."""
        if isinstance(x, (int, float)) and not isinstance(x, bool) and not math.isnan(x):
            return Interval(x, x)
        return self._known.get(x) if isinstance(x, torch.Tensor) else None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While the block runs, nothing is followed: for the loops of a recurrence."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if self._paused:
            return result
        name = func.overloadpacket.__name__
        found = self._range(name.rstrip("_") if name.endswith("_") else name, args, kwargs or {})
        for x in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(x, torch.Tensor):
                self._known.pop(x, None)  # an operation in place may have changed it
                if found is not None:
                    self._known[x] = found
        return result

    def _range(self, name: str, args: tuple, kwargs: dict) -> Interval | None:
        if name in _FIXED:
            return _FIXED[name]
        if name in _SAME_VALUES:
            return self.of(args[0])
        if name == "clamp":
            return self._clamped(args, kwargs)
        if name in _OF_ANY:
            return _OF_ANY[name](self.of(args[0]) or Interval())
        if name in _OF_TWO and not kwargs:
            a, b = (self.of(x) for x in args[:2])
            return None if a is None or b is None else _OF_TWO[name](a, b)
        return None

    def _clamped(self, args: tuple, kwargs: dict) -> Interval | None:
        names = dict(zip(("x", "min", "max"), args, strict=False)) | kwargs
        lo, hi = names.get("min"), names.get("max")
        if isinstance(lo, torch.Tensor) or isinstance(hi, torch.Tensor):
            return None
        lo, hi = -inf if lo is None else float(lo), inf if hi is None else float(hi)
        inside = self.of(names["x"]) or Interval()
        return Interval(min(max(inside.lo, lo), hi), min(max(inside.hi, lo), hi))


def _quotient(a: Interval, b: Interval) -> Any:
    return a * Interval(1 / b.hi, 1 / b.lo) if b.lo > 0 or b.hi < 0 else None


_OF_ANY: dict[str, Callable[[Interval], Any]] = {  # of any real, and tighter where more is known
    "neg": lambda a: -a,
    "exp": sets.exp,
    "relu": lambda a: a.map(lambda x: max(x, 0.0)),
    "abs": lambda a: a.abs,
}
_OF_TWO: dict[str, Callable[[Interval, Interval], Any]] = {
    "mul": lambda a, b: a * b,
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a + -b,
    "rsub": lambda a, b: b + -a,
    "div": _quotient,
}
