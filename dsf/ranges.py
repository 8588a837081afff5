"""What values a tensor can take, read off the operations that made it: sigmoid(x) * 2.0 lies in [0, 2], whatever x is.

Weights and inputs count as unknown reals, and an operation that is not listed gives an unknown result, so a range holds
for all inputs and all weights, up to rounding. A write in place ends what was known of all tensors of that memory. This
is where the domains of a converted layer's signals come from.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, reduce
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
    "log_sigmoid_forward": Interval(-inf, 0),
    "silu": Interval(SILU_LEAST, inf),
    "rsqrt": Interval(0, inf),
    "sqrt": Interval(0, inf),
}
_SAME_VALUES = set(
    "view _unsafe_view reshape transpose permute t expand slice select split split_with_sizes unbind unsqueeze squeeze "
    "clone _to_copy contiguous detach alias repeat index_select index gather flatten unflatten flip roll".split()
)  # not as_strided, which reaches what lies beside a view
_SOME_OF: dict[str, Callable[[Sequence], Sequence]] = {  # every value of the result is one of these
    "cat": lambda args: args[0],
    "stack": lambda args: args[0],
    "where": lambda args: args[1:],
    "masked_fill": lambda args: (args[0], args[2]),
    "constant_pad_nd": lambda args: (args[0], *(args[2:] or (0.0,))),
}


class Ranges(TorchDispatchMode):
    """While the block runs, follows the ranges of results; `of(tensor)` tells one, None where it is unknown.

    >>> with Ranges() as ranges:
    ...     beta = torch.randn(3).sigmoid() * 2.0
    >>> ranges.of(beta), ranges.of(torch.randn(3))
    ([0, 2], None)
    """

    def __init__(self):
        super().__init__()
        self._known: Any = WeakIdKeyDictionary()  # tensor -> its range, and the writes to its memory until then
        self._writes: Counter[int] = Counter()  # memory -> how often it was written to in place
        self._paused = False

    def of(self, x: Any) -> Interval | None:
        """The range of a tensor or number, None where it is unknown."""
        if isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x):
            return Interval(x, x)
        if not isinstance(x, torch.Tensor) or x not in self._known:
            return None
        found, writes = self._known[x]
        return found if writes == self._writes[_memory(x)] else None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While the block runs, no results are followed, only writes in place: for the loops of a recurrence."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        found = None if self._paused else self._range(name.rstrip("_") if name.endswith("_") else name, args, kwargs)
        for place in _written(func):  # after the range: it is of what the arguments were
            x = kwargs.get(place) if isinstance(place, str) else args[place] if place < len(args) else None
            for tensor in x if isinstance(x, (tuple, list)) else (x,):
                if isinstance(tensor, torch.Tensor):
                    self._writes[_memory(tensor)] += 1
        if found is not None:
            several = isinstance(result, (tuple, list))
            for x in result if several and name in _SAME_VALUES else result[:1] if several else (result,):
                self._keep(x, found)
        return result

    def _keep(self, x: Any, found: Interval) -> None:
        if isinstance(x, torch.Tensor) and x.is_floating_point():
            inside = _within(found, x.dtype)
            if inside is not None:
                self._known[x] = inside, self._writes[_memory(x)]

    def _range(self, name: str, args: tuple, kwargs: dict) -> Interval | None:
        if name in _FIXED:
            return _FIXED[name]
        if name in _SAME_VALUES:
            return self.of(args[0])
        if name in _SOME_OF and not kwargs:
            ranges = [self.of(x) for x in _SOME_OF[name](args)]
            known = [r for r in ranges if r is not None]
            return reduce(Interval.hull, known) if known and len(known) == len(ranges) else None
        if name == "clamp":
            return self._clamped(args, kwargs)
        if name == "softplus":
            return Interval(0, inf) if kwargs.get("beta", (*args, 1)[1]) > 0 else None
        if name in _OF_ANY:
            return _OF_ANY[name](self.of(args[0]) or Interval())
        if name in _OF_TWO and not kwargs and len(args) == 2:  # a third argument is a factor
            a, b = (self.of(x) for x in args)
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


def _within(found: Interval, dtype: torch.dtype) -> Interval | None:
    """The range in a dtype, where what is larger than its numbers is infinite; None where nothing is said."""
    most = torch.finfo(dtype).max
    lo, hi = (end if abs(end) <= most else math.copysign(inf, end) for end in (found.lo, found.hi))
    return None if lo == inf or hi == -inf or (lo, hi) == (-inf, inf) else Interval(lo, hi)


def _memory(x: torch.Tensor) -> int:
    """What tensors that are views of each other have in common."""
    return x.untyped_storage()._cdata if x.layout == torch.strided else id(x)


@cache
def _written(func: Any) -> tuple[int | str, ...]:
    """Which arguments an operation changes: places, and names of keywords."""
    schema = enumerate(func._schema.arguments)
    return tuple(a.name if a.kwarg_only else i for i, a in schema if a.alias_info is not None and a.alias_info.is_write)


def _quotient(a: Interval, b: Interval) -> Any:
    return a * Interval(1 / b.hi, 1 / b.lo) if b.lo > 0 or b.hi < 0 else None


_OF_ANY: dict[str, Callable[[Interval], Any]] = {  # of any real, and tighter where more is known
    "neg": lambda a: -a,
    "exp": sets.exp,
    "relu": lambda a: a.map(lambda x: max(x, 0.0)),
    "abs": lambda a: a.abs,
    "reciprocal": lambda a: _quotient(Interval(1, 1), a),
}
_OF_TWO: dict[str, Callable[[Interval, Interval], Any]] = {
    "mul": lambda a, b: a * b,
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a + -b,
    "rsub": lambda a, b: b + -a,
    "div": _quotient,
}
