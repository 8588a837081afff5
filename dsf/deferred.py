"""A system whose operators are computed when they are asked for: of the whole sequence, or of a stretch of time.

Mamba's decays e^{-dt exp(log_a)} are n times as many numbers as its signals: at 512 channels, n = 16 and T = 1M that is
32 GiB. A body is pointwise in time, so a kernel that walks through time asks for one stretch after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch

from .system import PARTS, System
from .tree import leaves, tree_map

LONG = 256  # tokens; shorter systems are computed at once


class _Late:
    """An attribute that is taken from a computed system at its first use; `early`: from its outline."""

    def __init__(self, early: bool):
        self.source = "outline" if early else "evaluated"

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, system: Any, owner: type) -> Any:
        if system is None:
            return None  # what a field without a value shows on the class
        found = system.__dict__[self.name] = getattr(getattr(system, self.source), self.name)
        return found


class Deferred(System):
    """The System of `architecture` on canonical signals `values` (see Architecture), not computed yet.

    `slice` and `rearranged` are as cheap; everything else that asks for an operator computes all of them, once. Raises
    RuntimeError there if a signal was changed in place after the call.
    """

    values: dict[str, Any]
    versions: tuple[int, ...]

    A, B, C, D, u, sink = (_Late(early=False) for _ in range(6))  # type: ignore[assignment]
    readout, normalised, floor, reads, x0 = (_Late(early=True) for _ in range(5))  # type: ignore[assignment]

    def __new__(cls, *args: Any, **fields: Any) -> System:  # what dataclasses.replace makes of it is a plain System
        return System(*args, **fields)

    @staticmethod
    def of(architecture: Any, values: dict[str, Any], signals: dict | None, varying: bool = False) -> Deferred:
        if not torch.is_grad_enabled():  # as if it were computed here and now
            values = _mapped(torch.Tensor.detach, values)
        system = object.__new__(Deferred)
        known = {"architecture": architecture, "values": values, "signals": signals, "varying": varying}
        vars(system).update(known, versions=_versions(values))
        return system

    @cached_property
    def evaluated(self) -> System:
        """The whole of it."""
        with torch.enable_grad():
            return self.architecture.evaluate(self.current)

    @cached_property
    def outline(self) -> System:
        """Its first two steps: the structure of all of them, and what varies in time."""
        with torch.no_grad():
            return self.architecture.evaluate(_between(self.values, 0, 2))

    @property
    def current(self) -> dict[str, Any]:
        """The canonical signals, which nobody has changed since."""
        if _versions(self.values) != self.versions:
            raise RuntimeError(
                f"a signal of this {self.architecture.name} was changed in place before its operators were computed: "
                "call the architecture again, or change a copy"
            )
        return self.values

    @property
    def is_constant(self) -> bool:
        """Are A, B and C the same at every step, whatever else varies?"""
        system = self.outline
        return all(leaf.shape[1] == 1 for leaf in leaves((system.A, system.B, system.C)))

    @cached_property
    def numbers(self) -> int:
        """How many numbers a step's operators have that are not the signals themselves."""
        system = self.outline
        given = {leaf.untyped_storage().data_ptr() for leaf in self.leaves}
        varying = {id(x): x for x in leaves(tuple(getattr(system, name) for name in PARTS)) if x.shape[1] > 1}
        made = (x for x in varying.values() if x.untyped_storage().data_ptr() not in given)
        return sum(x[:, 0].numel() for x in made)

    def rearranged(self, f: Callable) -> Deferred:
        return Deferred.of(self.architecture, _mapped(f, self.current), None, varying=True)

    @property
    def leaves(self) -> list:
        """Of the signals: they have the sizes, dtypes and device of the operators'."""
        return leaves(tuple(self.values.values()))

    state_size = property(lambda self: self.outline.state_size)
    micro_steps = property(lambda self: self.outline.micro_steps)
    input_is_vector = property(lambda self: self.outline.input_is_vector)
    output_is_vector = property(lambda self: self.outline.output_is_vector)
    input_size = property(lambda self: self.outline.input_size)
    output_size = property(lambda self: self.outline.output_size)

    def __reduce__(self) -> tuple:
        return Deferred.of, (self.architecture, self.current, self.signals, self.varying)


def is_long(values: dict[str, Any]) -> bool:
    """Is the sequence so long that its operators are better computed when they are wanted?"""
    return max((leaf.shape[1] for leaf in leaves(tuple(values.values()))), default=1) > LONG


def _mapped(f: Callable, values: dict[str, Any]) -> dict[str, Any]:
    return {name: tree_map(f, part) for name, part in values.items()}


def _between(values: dict[str, Any], start: int, stop: int) -> dict[str, Any]:
    return _mapped(lambda leaf: leaf[:, start:stop] if leaf.shape[1] > 1 else leaf, values)


def _versions(values: dict[str, Any]) -> tuple[int, ...]:
    return tuple(0 if x.is_inference() else x._version for x in leaves(tuple(values.values())))
