"""Programs in Triton's language as text: values of a graph, where memory lies; and what Triton makes of a text.

Values are tiles [HEADS | 1, ROWS | 1], by the axes along which they vary; `there`: is there such a step?
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from types import ModuleType
from typing import Any, NamedTuple

from ..expressions import Graph, Value

_CALLS = {
    "exp": "tl.exp2({} * LOG2E)",
    "expm1": "exp_less_one({})",
    "log": "tl.log({})",
    "sqrt": "root({})",
    "less": "less({}, {})",
    "where": "choose({}, {}, {})",
    "neg": "-{}",
    "add": "{} + {}",
    "sub": "{} - {}",
    "mul": "{} * {}",
    "div": "{} / {}",
}
HEAD = '''"""Made by dsf_kernels.gpu.fused_source."""
import triton
import triton.language as tl

from dsf_kernels.gpu.programs.gates import INFINITY, LOG2E, NAN, choose, exp_less_one, less, root


'''


STATE = Value("state", (), False, True, True)


class Plan(NamedTuple):
    """What a text depends on.

    values: a graph; inputs: the places of what is read; outputs: what is written, with the axes of the signal whose
    gradient it is, at every step, or summed over time (its last axes then say "no time").
    """

    values: tuple[Value, ...]
    inputs: tuple[int, ...]
    outputs: tuple[tuple[int, Value], ...]
    factor: int
    write: int
    from_y: int
    before: bool


class Text:
    def __init__(self, plan: Plan):
        self.plan, self.lines, self.depth = plan, [HEAD], 0
        self.graph = Graph()
        self.graph.values = list(plan.values)
        self.order = {place: k for k, place in enumerate(plan.inputs)}

    def __call__(self, *lines: str) -> None:
        self.lines += ["    " * self.depth + line + "\n" for line in lines]

    def block(self, head: str) -> None:
        self(head)
        self.depth += 1

    def end(self, count: int = 1) -> None:
        self.depth -= count

    def __str__(self) -> str:
        return "".join(self.lines)

    # -------------------------------------------------------------------------------------------------------- values
    def needed(self, wanted: Iterable[int]) -> list[int]:
        return self.graph.needed(wanted, self.plan.inputs)

    def name(self, place: int) -> str:
        value = self.plan.values[place]
        if value.op != "number":
            return f"v{place}"
        x = value.args[0]
        return "NAN" if x != x else repr(x) if abs(x) < float("inf") else "INFINITY" if x > 0 else "(-INFINITY)"

    def compute(self, places: Iterable[int]) -> None:
        for place in places:
            value = self.plan.values[place]
            if place in self.order or not value.children:
                continue
            names = [self.name(x) for x in value.args]
            if value.op == "sum_rows":
                names[0] = f"tl.where(inside, {names[0]}, 0.0)"
                self(f"v{place} = tl.sum({names[0]}, 1)[:, None]")
            else:
                self(f"v{place} = {_CALLS[value.op].format(*names)}")

    def late(self, places: Iterable[int], ops: tuple[str, ...]) -> set[int]:
        """Those of the places that are, or need, one of these operations."""
        found: set[int] = set()
        for place in places:
            value = self.plan.values[place]
            if value.op in ops or place not in self.order and any(x in found for x in value.children):
                found.add(place)
        return found

    def carried(self, op: str, what: str) -> None:
        for place, value in enumerate(self.plan.values):
            if value.op == op:
                self(f"v{place} = {what}")

    # -------------------------------------------------------------------------------------------------------- memory
    def function(self, name: str, memories: dict[int, Value], rest: str) -> None:
        """Up to where a program knows its tile. p: pointers of inputs and outputs, each with four strides."""
        known = "".join(f"p{k}, b{k}, t{k}, h{k}, i{k}, " for k in memories)
        self("@triton.jit")
        self.block(f"def {name}({known}{rest}, T, H, n, blocks, groups, per, HEADS: tl.constexpr, ROWS: tl.constexpr, "
                   "STEPS: tl.constexpr, PARTS: tl.constexpr, REST: tl.constexpr, KEEP: tl.constexpr):")  # fmt: skip
        self("batch, segment = tl.program_id(1).to(tl.int64), tl.program_id(2)")
        self("segments, block = tl.num_programs(2), tl.program_id(0) % blocks")
        self("h = (tl.program_id(0) // blocks * HEADS + tl.arange(0, HEADS)).to(tl.int64)[:, None]")
        self("i = (block * ROWS + tl.arange(0, ROWS)).to(tl.int64)[None, :]")
        self("inside, size, nothing = (h < H) & (i < n), batch * 0 + H * n, tl.zeros([HEADS, ROWS], tl.float32)")
        self("entries, one = batch * size + h * n + i, tl.full([HEADS, ROWS], 1.0, tl.float32)")
        self("sequences, here = tl.num_programs(1) * size, tl.zeros([1, 1], tl.int64)")

    def places(self, memories: dict[int, Value]) -> None:
        for k, value in memories.items():
            self(f"p{k} += here + batch * b{k}{self.entries(k, value)}")

    def entries(self, k: int, value: Value) -> str:
        """Where those of a step lie."""
        return (f" + h * h{k}" if value.heads else "") + (f" + i * i{k}" if value.rows else "")

    def mask(self, value: Value, when: str = "") -> str:
        """Of the entries that there are; none, unless `when`."""
        first, size = ("h", "H") if value.heads else ("i", "n") if value.rows else ("here", "1")
        found = f"({first} < tl.where({when}, {size}, 0))" if when else f"({first} < {size})"
        return found + (" & (i < n)" if value.heads and value.rows else "")

    def constants(self, places: Iterable[int]) -> None:
        for place in places:
            value = self.plan.values[place]
            if place in self.order and not value.time:
                load = f"tl.load(p{self.order[place]}, mask={self.mask(value)}, other=0.0)"
                self(f"v{place} = {load}.to(tl.float32)")

    def ask(self, places: Iterable[int]) -> list[int]:
        """What the steps of a group read, all of it, in the dtype of memory: nothing waits for it here."""
        read = [x for x in places if x in self.order and self.plan.values[x].time]
        self(*(f"r{x} = ()" for x in read))
        self.block("for k in tl.static_range(STEPS):")
        self("there = t + k < T")
        for x in read:
            k, value = self.order[x], self.plan.values[x]
            self(f"r{x} += (tl.load(p{k} + (t + k) * t{k}, mask={self.mask(value, 'there')}, other=0.0),)")
        self.end()
        return read

    def store(self, at: str, what: str, mask: str) -> None:
        self(f"tl.store({at}, {what}, mask={mask})")


@cache
def program(text: str) -> Any:
    """The program of a module that is written here. Triton reads its text where Python keeps that of notebooks."""
    key = sha256(text.encode()).hexdigest()[:16]
    module = ModuleType(f"{__package__}.text_{key}")
    path = f"<{module.__name__}>"
    linecache.cache[path] = len(text), None, text.splitlines(keepends=True), path
    sys.modules[module.__name__] = module
    exec(compile(text, path, "exec"), vars(module))
    return vars(module).get("forward") or vars(module)["backward"]
