"""Loops over a graph's steps as text for numba: the recurrence of ../fusion.py in rows of lanes.

Lanes are heads that lie side by side where a step's signals are numbers of a head, or vectors that heads share; else
they are rows of the state. A state, and what else has an entry per head and row, lies in blocks: of as many heads as a
row has lanes, entry after entry; or head after head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .. import emission
from ..emission import CALLS, Lines
from ..expressions import Value

_CALLS = CALLS | {"exp": "exponential({})", "expm1": "exponential_less_one({})", "log": "logarithm({})"}
HEAD = '''"""Made by dsf_kernels.cpu.fused_text."""
from math import inf, nan

from dsf_kernels.cpu.lanes import *
from dsf_kernels.cpu.rows import clear, copy


'''


@dataclass(frozen=True)
class Plan(emission.Plan):
    """along: lanes are heads. tail: less than a row of lanes is left at the end."""

    along: bool
    tail: bool


class Text(Lines):
    """Names of values, and where entries lie."""

    def __init__(self, plan: Plan):
        super().__init__(plan, HEAD)
        self.along, self.tail = plan.along, plan.tail

    # ---------------------------------------------------------------------------------------------------- one value
    def name(self, x: int, like: str) -> str:
        value = self.plan.values[x]
        return f"splat({value.args[0]!r}, {like})" if value.op == "number" else f"v{x}_{like}"

    def compute(self, places: Iterable[int], like: str) -> None:
        for place in places:
            value = self.plan.values[place]
            if place in self.order:
                k, in_lanes = self.order[place], value.heads if self.along else value.rows
                found = f"{'load' if in_lanes else 'spread'}(p{k}, {self.at(k, value)}, {like})"
            elif value.is_input or value.op in ("number", "sum_rows"):
                continue
            else:
                found = _CALLS[value.op].format(*(self.name(x, like) for x in value.args))
            self(f"v{place}_{like} = {found}")

    def at(self, k: int, value: Value) -> str:
        """Where an entry of memory k lies; in blocks if it has no time and an entry per head and row."""
        if value.heads and value.rows and not value.time:
            return f"b{k} + {self.state}"
        return f"b{k}" + (f" + h * h{k}" if value.heads else "") + (f" + i * i{k}" if value.rows else "")

    @property
    def state(self) -> str:
        return "home + i * L" if self.along else "home + i"

    # --------------------------------------------------------------------------------------------------------- loops
    def function(self, name: str, memories: dict[int, Value], sizes: str) -> None:
        """Up to the loop over pieces: a group of heads of a column of a sequence."""
        self.block(f"def {name}(at, places, sizes, kind, memory, lo, hi):")
        self(f"{sizes} = sizes", "work, chunks = pointer(memory, kind), (T + chunk - 1) // chunk")
        self("row, one = narrow(work), single(work)", "L = width(row)")
        self(*(f"p{k} = pointer(at[{k}], kind)" for k in memories))
        self.block("for piece in range(lo, hi):")
        self("sequence, group = piece // groups, piece % groups")
        self("batch, column = sequence // columns, sequence % columns")
        self("first, last = group * side, min(group * side + side, H)")
        for k, value in memories.items():
            of_group = "" if value.heads else f" + group * places[{5 * k + 3}]"
            self(f"c{k} = batch * places[{5 * k}] + column * places[{5 * k + 1}]{of_group}")
            self(f"t{k}, h{k}, i{k} = places[{5 * k + 2}], places[{5 * k + 3}], places[{5 * k + 4}]")

    def step(self, memories: dict[int, Value]) -> None:
        self(*(f"b{k} = c{k} + t * t{k}" if value.time else f"b{k} = c{k}" for k, value in memories.items()))

    def heads(self, first: str, last: str) -> Iterator[str]:
        """Blocks of heads: the row of lanes that each takes, inside its loop."""
        if not self.along:
            self.block(f"for h in range({first}, {last}):")
            self("home = h * n")
            yield "row"
            return self.end()
        self(f"whole = {first} + ({last} - {first}) // L * L")
        self.block(f"for h in range({first}, whole, L):")
        self("home = h * n")
        yield "row"
        self.end()
        if self.tail:
            self.block(f"for h in range(whole, {last}):")
            self("home = whole * n + h - whole")
            yield "one"
            self.end()

    def rows(self, like: str) -> Iterator[str]:
        """Rows of the state, the same way."""
        if self.along:
            self.block("for i in range(n):")
            yield like
            return self.end()
        self.block("for i in range(0, n // L * L, L):")
        yield "row"
        self.end()
        if self.tail:
            self.block("for i in range(n // L * L, n):")
            yield "one"
            self.end()

    def through(self, wanted: list[int], like: str, row: Callable[[list[int], str, bool], None]) -> str:
        """A block of heads: numbers; the rows, by row(places, like, True); what needs sums over rows, in the row
        returned. Rows that need such sums themselves are gone through before, by row(places, like, False)."""
        values = self.plan.values
        sums = [x for x in wanted if values[x].op == "sum_rows" and x not in self.order]
        first, turns = self._first(wanted, sums)
        late = self._late(wanted, [x for x in sums if x not in first])
        numbers = [x for x in wanted if not values[x].rows and x not in late]
        likes = [like] if self.along else ["row", "one"] if self.tail else ["row"]
        last = like if self.along else "one"
        end = max((turns[x] for x in first), default=0)
        for turn in range(end + 1):
            found = [x for x in first if turns[x] == turn + 1] if turn < end else [x for x in sums if x not in first]
            for each in likes:
                self.compute([x for x in numbers if turns[x] == turn], each)
                self(*(f"s{x}_{each} = splat(0.0, {each})" for x in found))
            known = [x for x in first if turns[x] <= turn]
            places = wanted if turn == end else self._made_of(wanted, found, known)
            for each in self.rows(like):
                row([x for x in places if values[x].rows], each, turn == end)
                self(*(f"s{x}_{each} = s{x}_{each} + {self.name(values[x].args[0], each)}" for x in found))
            if turn == end and last not in likes:
                self.compute(numbers, last)
            for x in found:
                parts = " + ".join(f"total(s{x}_{each})" for each in likes)
                for each in [last] if turn == end else dict.fromkeys((*likes, last)):
                    self(f"v{x}_{each} = " + (f"s{x}_{each}" if self.along else f"splat({parts}, {each})"))
        self.compute([x for x in wanted if x in late and not values[x].rows], last)
        return last

    def _first(self, wanted: list[int], sums: list[int]) -> tuple[list[int], dict[int, int]]:
        """The sums that rows need, or the recurrence does; and after how many turns over the rows values are known."""
        plan, turns = self.plan, dict.fromkeys(self.order, 0)
        needs = [x for x in wanted if plan.values[x].rows or x in (plan.factor, plan.write)]
        needed = self._made_of(wanted, needs)
        first = [x for x in sums if x in needed]

        def turn(x: int) -> int:
            if x not in turns:
                turns[x] = max(map(turn, self._parts(x)), default=0) + (x in first)
            return turns[x]

        return first, {x: turn(x) for x in wanted}

    def _parts(self, x: int) -> tuple[int, ...]:
        """What a value is made of; the gradient of a state has in it what comes from its y."""
        value = self.plan.values[x]
        return (self.plan.from_y,) if value.op == "lam" and not self.plan.before else value.children

    def _made_of(self, wanted: list[int], places: Iterable[int], known: Iterable[int] = ()) -> list[int]:
        """Those of `wanted` that these are made of."""
        found, left, stop = set(), list(places), {*self.order, *known}
        while left:
            x = left.pop()
            if x not in found:
                found.add(x)
                left += () if x in stop else self._parts(x)
        return [x for x in wanted if x in found]

    def _late(self, wanted: list[int], sums: list[int]) -> set[int]:
        """Those that need the sums, which come last."""
        found = set(sums)
        for x in wanted:
            if x not in self.order and found.intersection(self.plan.values[x].children):
                found.add(x)
        return found
