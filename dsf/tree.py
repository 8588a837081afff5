"""The leaves of an operator: tensors, arrays of symbols, bounds. Transforms map them, dependence is read off them."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial)
_STRUCTURE = (bool, int, float, complex, str, *_FUNCTIONS)


class Node:
    """A frozen dataclass whose fields are leaves, numbers, nodes or tuples of them."""


def tree_map(f: Callable, x: Any) -> Any:
    """x with f applied to every leaf; numbers, None and strings are structure and stay."""
    if isinstance(x, tuple):
        return tuple(tree_map(f, e) for e in x)
    if isinstance(x, Node) and dataclasses.is_dataclass(x):
        return type(x)(**{name: tree_map(f, getattr(x, name)) for name in _names(type(x))})
    return x if x is None or isinstance(x, _STRUCTURE) else f(x)


def leaves(x: Any) -> list:
    """Every leaf of x, in the order of the fields.

    >>> from dsf.operators import Scaled
    >>> leaves(Scaled(2)), leaves((Scaled([1.0]), None))
    ([], [[1.0]])
    """
    found: list = []
    tree_map(lambda leaf: found.append(leaf) or leaf, x)
    return found


def tree_steps(x: Any, cut: Callable, length: int) -> Iterator:
    """x at the steps 0..length-1; every leaf is cut into its steps once (one piece: constant in time).

    Slicing leaf[:, t] at every step would give a full-size gradient at every step: a backward quadratic in time.
    """
    pieces: list = []
    tree_map(lambda leaf: pieces.append(cut(leaf)), x)
    for t in range(length):
        turn = iter(pieces)
        yield tree_map(lambda leaf: (p := next(turn))[t if len(p) > 1 else 0], x)  # noqa: B023 (used at once)


@functools.cache
def _names(kind: type) -> tuple[str, ...]:
    """The fields of a kind of node, asked for at every step of a run."""
    return tuple(field.name for field in dataclasses.fields(kind))
