"""Programs as text, for whatever compiler: what a text depends on, its lines, and what they ask of a graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from .expressions import Graph, Value
from .fusion import Fused

P = TypeVar("P", bound="Plan")
CALLS = {
    "sqrt": "root({})",
    "less": "less({}, {})",
    "where": "choose({}, {}, {})",
    "neg": "-{}",
    "add": "{} + {}",
    "sub": "{} - {}",
    "mul": "{} * {}",
    "div": "{} / {}",
}


@dataclass(frozen=True)
class Plan:
    """What a text depends on.

    values: a graph; inputs: the places of what is read, in the order of its memories; outputs: what is written, and as
    what: its axes are those of the signal whose gradient it is, or say that it is summed over time.
    """

    values: tuple[Value, ...]
    inputs: tuple[int, ...]
    outputs: tuple[tuple[int, Value], ...]
    factor: int
    write: int
    from_y: int
    before: bool

    @classmethod
    def of(
        cls: type[P], fused: Fused, inputs: Sequence[int], outputs: Sequence[tuple[int, Value]], back: bool, **more: Any
    ) -> P:
        values, from_y = tuple(fused.graph.values), fused.from_y if back else fused.y
        places = fused.factor, fused.write, from_y
        return cls(values, tuple(inputs), tuple(outputs), *places, fused.form.before, **more)


class Lines:
    r"""The lines of a text after its head, indented; and what a program asks of the plan's graph.

    >>> text = Lines(Plan((), (), (), 0, 0, 0, False), "import math\n")
    >>> text.block("def f(x):")
    >>> text("y = math.exp(x)", "return y")
    >>> print(text, end="")
    import math
    def f(x):
        y = math.exp(x)
        return y
    """

    def __init__(self, plan: Plan, head: str):
        self.plan, self.made, self.depth = plan, [head], 0
        self.graph = Graph()
        self.graph.values = list(plan.values)
        self.order = {place: k for k, place in enumerate(plan.inputs)}

    def __call__(self, *lines: str) -> None:
        self.made += ["    " * self.depth + line + "\n" for line in lines]

    def block(self, head: str) -> None:
        self(head)
        self.depth += 1

    def end(self, count: int = 1) -> None:
        self.depth -= count

    def __str__(self) -> str:
        return "".join(self.made)

    @property
    def inputs(self) -> dict[int, Value]:
        """What is read, by the numbers of its memories."""
        return {k: self.plan.values[place] for place, k in self.order.items()}

    def needed(self, wanted: Iterable[int], given: Iterable[int] = ()) -> list[int]:
        """The places of the values that these are made of, from inputs and given ones on, in order."""
        return self.graph.needed(wanted, (*self.plan.inputs, *given))

    def after(self, places: Iterable[int], op: str) -> set[int]:
        """Those of the places that are, or need, such an operation."""
        found: set[int] = set()
        for place in places:
            value = self.plan.values[place]
            if value.op == op or place not in self.order and any(x in found for x in value.children):
                found.add(place)
        return found

    def carried(self, op: str, what: str, suffix: str = "") -> None:
        """Names for what goes from step to step, or back."""
        for place, value in enumerate(self.plan.values):
            if value.op == op:
                self(f"v{place}{suffix} = {what}{suffix}")
