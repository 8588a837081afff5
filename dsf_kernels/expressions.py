"""Small graphs of pointwise arithmetic on signals: what a gate's expression and its derivative are made of.

A value is an operation on earlier values, named by their places, or a number. It knows along which axes it varies: from
step to step, from head to head, from row to row of the state. Equal values are one value.

    >>> g = Graph()
    >>> x = g.input("signal", 0, time=True, heads=True, rows=False)
    >>> g.values[g("mul", x, 2.0)]
    Value(op='mul', args=(0, 1), time=True, heads=True, rows=False)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch

Ref = int | float  # the place of a value, or a number, which becomes one


class Value(NamedTuple):
    """args: places, all smaller than its own; of an input -1 - its key, of a number itself."""

    op: str
    args: tuple[Any, ...]
    time: bool
    heads: bool
    rows: bool

    @property
    def children(self) -> tuple[int, ...]:
        return () if self.op == "number" or self.is_input else self.args

    @property
    def is_input(self) -> bool:
        return self.op != "number" and self.args[:1] < (0,)


_NUMBERS: dict[str, Callable[..., float]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y if y else math.copysign(math.inf, x) if x else math.nan,
    "neg": lambda x: -x,
    "exp": math.exp,
    "expm1": math.expm1,
    "log": lambda x: math.log(x) if x > 0 else -math.inf if x == 0 else math.nan,
    "sqrt": math.sqrt,
    "less": lambda x, y: float(x < y),
    "where": lambda m, x, y: x if m else y,
}
_TENSORS: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "neg": lambda x: -x,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "less": lambda x, y: (x < y).to((x if isinstance(x, torch.Tensor) else y).dtype),
    "where": lambda m, x, y: torch.where(m != 0, x, y),
    "sum_rows": lambda x: x.sum(3, keepdim=True),
    "max_rows": lambda x: x.amax(3, keepdim=True),
    "sum_time": lambda x: x.sum(1, keepdim=True),
}


class Graph:
    """g(op, *args) -> a value; the functions below are compositions of the few operations that kernels know.

    add sub mul div neg exp expm1 log sqrt, less(x, y) = 1 if x < y else 0, where(m, x, y) = x if m else y; and over
    an axis sum_rows, max_rows, sum_time.
    """

    def __init__(self) -> None:
        self.values: list[Value] = []
        self._places: dict[Value, int] = {}

    def _place(self, value: Value) -> int:
        place = self._places.setdefault(value, len(self.values))
        if place == len(self.values):
            self.values.append(value)
        return place

    def input(self, name: str, key: int = 0, *, time: bool, heads: bool, rows: bool) -> int:
        """What a kernel reads, or carries from step to step."""
        return self._place(Value(name, (-1 - key,), time, heads, rows))

    def place(self, x: Ref) -> int:
        return x if isinstance(x, int) else self._place(Value("number", (x,), False, False, False))

    def number(self, x: int) -> float | None:
        """What a value is, if it is a number."""
        return self.values[x].args[0] if self.values[x].op == "number" else None

    def __call__(self, op: str, *args: Ref) -> int:
        places = tuple(map(self.place, args))
        numbers = tuple(map(self.number, places))
        if None not in numbers:
            return self.place(float(_NUMBERS[op](*numbers)))
        if op == "sub" and places[0] == places[1]:
            return self.place(0.0)  # of finite numbers
        if (same := _simpler(op, places, numbers)) is not None:
            return same
        if op == "mul" and -1.0 in numbers:
            return self("neg", places[numbers[0] == -1.0])
        if op in ("add", "mul"):
            places = tuple(sorted(places))  # one order, so that equal values are found
        varies = [self.values[x] for x in places]
        return self._place(Value(op, places, *(any(v[axis] for v in varies) for axis in (2, 3, 4))))

    def varies(self, x: int, axis: str) -> bool:
        return getattr(self.values[x], axis)

    def total(self, x: int, *, time: bool, rows: bool) -> int:
        """x summed over rows, and over time, if so wanted and where it varies along them."""
        for op, wanted, axis in (("sum_rows", rows, "rows"), ("sum_time", time, "time")):
            if wanted and self.varies(x, axis):
                x = self._place(self.values[x]._replace(op=op, args=(x,), **{axis: False}))
        return x

    def over_rows(self, op: str, x: Ref, n: int) -> int:
        """sum_rows or max_rows of x, which has n rows."""
        x = self.place(x)
        if not self.varies(x, "rows"):
            return self("mul", x, float(n)) if op == "sum_rows" else x
        return self._place(self.values[x]._replace(op=op, args=(x,), rows=False))

    # --------------------------------------------------------------------------------------------------- functions
    def log1p(self, x: Ref) -> int:
        one = self("add", x, 1.0)
        inside = self("mul", self("less", 0.0, one), self("less", one, math.inf))
        return self("where", inside, self._log_of_sum(x, one), self("log", one))

    def _log_of_sum(self, x: Ref, one: Ref) -> int:
        """log(1 + x) for 0 < 1 + x < oo, with what 1 + x rounds away put back."""
        lost = self("sub", x, self("sub", one, 1.0))
        return self("add", self("log", one), self("div", lost, one))

    def sigmoid(self, x: Ref) -> int:
        return self("div", 1.0, self("add", self("exp", self("neg", x)), 1.0))

    def tanh(self, x: Ref) -> int:
        """From e^{-2|x|} - 1: exact where x is small, and no overflow."""
        t = self("expm1", self("mul", self.absolute(x), -2.0))
        found = self("div", t, self("add", t, 2.0))
        return self("where", self("less", x, 0.0), found, self("neg", found))

    def absolute(self, x: Ref) -> int:
        return self("where", self("less", x, 0.0), self("neg", x), x)

    def softplus(self, x: Ref, beta: float = 1.0, threshold: float = 20.0) -> int:
        x, scaled = self.place(x), self("mul", x, beta)
        large = self("less", threshold, scaled)
        power = self("exp", self("where", large, 0.0, scaled))
        curved = self._log_of_sum(power, self("add", power, 1.0))
        return self("where", large, x, self("div", curved, beta))

    def log_sigmoid(self, x: Ref) -> int:
        """min(x, 0) - log(1 + e^{-|x|})."""
        power = self("exp", self("neg", self.absolute(x)))
        below = self("where", self("less", x, 0.0), x, 0.0)
        return self("sub", below, self._log_of_sum(power, self("add", power, 1.0)))

    def power(self, x: Ref, k: float) -> int:
        """x^k for small whole k, and for halves of one."""
        if not isinstance(k, float):
            raise ValueError("a power that is no number")
        if k < 0:
            return self("div", 1.0, self.power(x, -k))
        if k == 0.5:
            return self("sqrt", x)
        if k != int(k) or k > 8:
            raise ValueError(f"a power of {k}")
        found = self.place(1.0)
        for _ in range(int(k)):
            found = self("mul", found, x)
        return found

    # --------------------------------------------------------------------------------------------------------- use
    def needed(self, wanted: Iterable[int], given: Iterable[int] = ()) -> list[int]:
        """The places of all values that these are made of, in order; not what `given` ones are made of."""
        found: set[int] = set()
        left, stop = list(wanted), set(given)
        while left:
            x = left.pop()
            if x not in found:
                found.add(x)
                left += () if x in stop else self.values[x].children
        return sorted(found)

    def evaluate(self, wanted: Sequence[int], known: dict[int, torch.Tensor]) -> list[Any]:
        """Values from known ones, by torch: tensors, or numbers."""
        found: dict[int, Any] = dict(known)
        for place in self.needed(wanted, known):
            if place not in found:
                op, args, *_ = self.values[place]
                found[place] = args[0] if op == "number" else _TENSORS[op](*(found[x] for x in args))
        return [found[x] for x in wanted]


def _simpler(op: str, places: tuple[int, ...], numbers: tuple[float | None, ...]) -> int | None:
    """x 1, x + 0, x / 1: x; one of two equal values: that."""
    neutral = {"mul": 1.0, "add": 0.0, "div": 1.0, "sub": 0.0}.get(op)
    if neutral is not None and numbers[1] == neutral:
        return places[0]
    if op in ("mul", "add") and numbers[0] == neutral:
        return places[1]
    return places[1] if op == "where" and places[1] == places[2] else None
