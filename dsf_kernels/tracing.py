"""What a body computes, as a graph of pointwise arithmetic: it is run on two steps, and so is its vjp.

Each operation of torch that reaches the dispatcher is written down as what expressions.py has; one that is neither
pointwise nor a sum over all rows, or unknown, or that reads a tensor that is no signal, ends the trace with Untraceable
and the reason. The derivative is torch's own: detached parts and gradients that a body defines itself are respected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .expressions import Graph, Ref
from .pointwise import CONSTANT, OVER_ROWS, POINTWISE

_LAYOUT = ("dtype", "layout", "device", "pin_memory", "memory_format")
_SAME = ("detach", "alias", "clone", "expand", "contiguous", "_to_copy", "view", "_unsafe_view", "reshape")


class Untraceable(Exception):
    """Why not, in a sentence."""


class Trace(TorchDispatchMode):
    """While it is entered, what torch computes from known tensors goes into `graph`."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler here, which takes seconds

    def __init__(self, graph: Graph):
        super().__init__()
        self.graph, self.sums = graph, False  # are other sums legal: of a gradient over what was broadcast
        self._known: dict[int, tuple[int, torch.Tensor]] = {}

    def know(self, x: torch.Tensor, ref: Ref) -> None:
        self._known[id(x)] = self.graph.place(ref), x  # held: its id is not given to another

    def place(self, x: Any) -> int:
        """Of a tensor, or a number."""
        return self.graph.place(self._ref(x))

    def _ref(self, x: Any) -> Ref:
        if not isinstance(x, torch.Tensor):
            return float(x)
        if id(x) not in self._known:
            raise Untraceable("the body reads a tensor that is no signal")
        return self._known[id(x)][0]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func._schema.name.removeprefix("aten::")
        if name.endswith("_") and name not in POINTWISE:
            name = self._in_place(name, args[0])
        found = self._found(name, out, args, kwargs)
        outs = out if isinstance(out, (tuple, list)) else (out,)
        for x, ref in zip(outs, found if isinstance(found, tuple) else (found,), strict=False):
            self.know(x, ref)
        return out

    def _found(self, name: str, out: Any, args: tuple, kwargs: dict) -> Any:
        first: Any = args[0] if args else None
        if name in _SAME and isinstance(out, torch.Tensor) and isinstance(first, torch.Tensor):
            return self._same(name, out, first)
        if name in CONSTANT:
            return CONSTANT[name](*args)
        if name == "sum" and self.sums:
            return self._sum(out, *args)
        if name in ("squeeze", "unsqueeze") and args[1:] in ((3,), (-1,)) and 4 in (out.dim(), first.dim()):
            return self.place(first)  # a sum over rows that keeps no axis, and gets it back
        over = _over_rows(name, out, args)
        dims = {len(x.shape) for x in (*(() if over else (out,)), *args) if _is_tensor(x)}
        if not over and name not in POINTWISE or not dims <= {0, 4}:
            raise Untraceable(f"{name} is no pointwise operation that is known")
        given = [self._ref(x) if _is_tensor(x) or isinstance(x, (int, float)) else x for x in args]
        try:
            if over:
                return OVER_ROWS[name][1](self.graph, first.shape[3], *given[: OVER_ROWS[name][0]])
            return POINTWISE[name](self.graph, *given, **{k: v for k, v in kwargs.items() if k not in _LAYOUT})
        except (TypeError, ValueError, OverflowError) as error:
            raise Untraceable(f"{name} is used in a way that is not known ({error})") from error

    def _same(self, name: str, out: torch.Tensor, x: torch.Tensor) -> int:
        if name in ("view", "_unsafe_view", "reshape") and out.shape != x.shape or out.dim() not in (0, 4):
            raise Untraceable(f"{name} changes the shape of a signal")
        if name == "_to_copy" and (x.dtype, out.dtype) != (out.dtype, out.dtype) and x.dtype != torch.bool:
            raise Untraceable(f"the body computes in {str(out.dtype).removeprefix('torch.')}, unlike its signals")
        return self.place(x)

    def _in_place(self, name: str, x: torch.Tensor) -> str:
        """What is changed has one name, and is no signal: the operation gives it another value."""
        memory = x.untyped_storage().data_ptr()
        names = [y for _, y in self._known.values() if y.untyped_storage().data_ptr() == memory]
        if len(names) > 1 or self.graph.values[self.place(x)].op == "signal":
            raise Untraceable(f"{name} changes what another name has too")
        return name[:-1]

    def _sum(self, out: torch.Tensor, x: torch.Tensor, axes: Sequence[int], keepdim: bool = False) -> int:
        over, ref = {axis % 4 for axis in axes if x.shape[axis] > 1}, self.place(x)
        if not keepdim or x.dim() != 4:
            raise Untraceable("sum is no pointwise operation")
        if 1 in over and not self.graph.varies(ref, "time"):
            raise Untraceable("a gradient is summed over time, along which it does not vary")
        if 3 in over and not self.graph.varies(ref, "rows"):
            ref = self.graph("mul", ref, float(x.shape[3]))
        return self.graph.total(ref, time=1 in over, rows=3 in over)  # over B and H sums of parts: it is linear


def _over_rows(name: str, out: Any, args: tuple) -> bool:
    """Is that something known of all rows of a signal, and of these alone?"""
    where = OVER_ROWS[name][0] if name in OVER_ROWS else len(args)
    if len(args) <= where or args[0].dim() != 4 or out.dtype != args[0].dtype and args[0].dtype != torch.bool:
        return False
    axes = args[where] if isinstance(args[where], (tuple, list)) else [args[where]]
    return [axis % 4 for axis in axes or ()] == [3]


def _is_tensor(x: Any) -> bool:
    return isinstance(x, torch.Tensor)
