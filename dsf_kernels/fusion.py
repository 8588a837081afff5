"""A diagonal recurrence together with the gates that its operators are made of, as one graph that kernels are made of.

    x_t = a_t o x_{t-1} + b_t o u_t        y_t = sum_i c_t o x_t + d_t u_t      (before: x_{t-1}), or y_t row by row

a, b, c, d are traced expressions of the signals, and so is the way back from their gradients to those of the signals:

    l_t: gradient of x_t   da = l_t o x_{t-1}   db = l_t o u_t   dc = x_t o dy_t   dd = u_t dy_t   du = sum b o l + d dy

A kernel walks in time and computes what varies from step to step. What is constant in time is computed by torch, from
the signals before the walk (`constants`), and from sums over time after it (`totals`). All of it is linear in l and dy,
so that partial sums over sequences and heads may go all the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from dsf.deferred import Deferred
from dsf.reference import scan
from dsf.tree import tree_map

from .expressions import Graph, Value
from .reach import full_precision


class Form(NamedTuple):
    """How the recurrence reads and writes. log: a is e^(its signal). drive, read: u has an entry per row, y has."""

    log: bool
    before: bool
    drive: bool
    read: bool


@dataclass(frozen=True)
class Fused:
    """One graph; what a kernel is to compute of it forward and backward, as places in it.

    inputs: the places of the signals, in the order of the system's leaves. write: b u. from_y: c dy. gradients: of each
    signal, in that order; drive: of u.
    """

    graph: Graph
    form: Form
    inputs: tuple[int, ...]
    factor: int
    write: int
    y: int
    from_y: int = -1
    drive: int = -1
    gradients: tuple[int, ...] = ()

    @property
    def forward(self) -> tuple[int, ...]:
        """What a kernel computes at every step."""
        return self.factor, self.write, self.y

    @property
    def varying(self) -> tuple[int, ...]:
        """Which signals vary in time."""
        return tuple(i for i, place in enumerate(self.inputs) if self.graph.values[place].time)

    @property
    def across(self) -> bool:
        """Do the gates of a step need sums over the rows of its signals (or the largest ones)?

        Then what needs all rows comes before the state does; other sums, of y and on the way back, come last.
        """
        values, carried, summed = self.graph.values, set(), set()
        back = (self.from_y, self.drive, *self.gradients) if self.gradients else ()
        for place in (x for x in self.graph.needed((*self.forward, *back)) if values[x].time):
            value = values[place]
            if value.is_input and value.op != "signal" or carried.intersection(value.children):
                carried.add(place)
            over = value.op in ("sum_rows", "max_rows")
            if over or summed.intersection(value.children):
                summed.add(place)
            if over and place not in carried or value.rows and place in summed:
                return True
        return False

    @property
    def totals(self) -> list[int]:
        """Sums over time that the gradients of constant signals are made of."""
        constant = [g for i, g in enumerate(self.gradients) if i not in self.varying]
        values = self.graph.values
        return [place for place in self.graph.needed(constant) if values[place].op == "sum_time"]

    def constants(self, wanted: Sequence[int]) -> list[int]:
        """The values, constant in time, from which what varies in `wanted` is made; or that are wanted themselves."""
        values, found = self.graph.values, set()
        for place in self.graph.needed(wanted, self._fixed(wanted)):
            if not values[place].time and values[place].op != "number":
                found.add(place)
        return sorted(found)

    def _fixed(self, wanted: Sequence[int]) -> list[int]:
        return [i for i in self.graph.needed(wanted) if not self.graph.values[i].time]

    def given(self, wanted: Sequence[int], signals: Sequence[torch.Tensor]) -> dict[int, torch.Tensor]:
        """What a kernel reads for that: the signals that vary in time, and the constants that they meet, in fp32 at
        least."""
        constants = self.constants(wanted)
        with torch.no_grad():
            found = self.graph.evaluate(constants, self._constant(signals))
        varying = {self.inputs[i]: signals[i] for i in self.varying}
        return dict(zip(constants, found, strict=True)) | varying

    def _constant(self, signals: Sequence[torch.Tensor]) -> dict[int, torch.Tensor]:
        return {self.inputs[i]: full_precision(x) for i, x in enumerate(signals) if i not in self.varying}

    @property
    def of_wanted(self) -> list[int | None]:
        """Which signal's gradient each of `wanted` is; None: a sum over time that gradients are made of."""
        varying = [i for i in self.varying if self.graph.number(self.gradients[i]) is None]
        return [*varying, *(None for _ in self.totals)]

    @property
    def wanted(self) -> list[tuple[int, Value]]:
        """What the way back gives beside the gradient of u, and along which axes: those of a signal, or, of a sum over
        time, all others."""
        values = self.graph.values
        found = [(self.gradients[i], values[self.inputs[i]]) for i in self.of_wanted if i is not None]
        return found + [(values[t].args[0], values[t]._replace(heads=True)) for t in self.totals]

    def of_signals(self, signals: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The gradients of all signals, from those of `wanted`."""
        gradients: dict[int, Any] = {i: x for i, x in zip(self.of_wanted, found, strict=True) if i is not None}
        totals = [x for i, x in zip(self.of_wanted, found, strict=True) if i is None]
        known = self._constant(signals) | dict(zip(self.totals, totals, strict=True))
        rest = [i for i in range(len(signals)) if i not in gradients]
        gradients |= dict(zip(rest, self.graph.evaluate([self.gradients[i] for i in rest], known), strict=True))
        found = [gradients[i] for i in range(len(signals))]
        return [torch.full_like(x, g) if isinstance(g, float) else g for x, g in zip(signals, found, strict=True)]


def plain(
    system: Deferred, u: torch.Tensor, x: torch.Tensor, *signals: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same step after step, in torch, from a first state in the dtype of the run."""
    turn = iter(signals)
    values = {name: tree_map(lambda leaf: next(turn).to(x.dtype), part) for name, part in system.values.items()}
    y, x = scan(system.architecture.evaluate(values), u.to(x.dtype), x)
    return y.to(u.dtype), x
