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
from typing import Any

from ..emission import CALLS, Lines, Plan
from ..expressions import Value

_CALLS = CALLS | {"exp": "tl.exp2({} * LOG2E)", "expm1": "exp_less_one({})", "log": "tl.log({})"}
_OVER_ROWS = {"sum_rows": ("tl.sum", "0.0"), "max_rows": ("tl.max", "-INFINITY")}
HEAD = '''"""Made by dsf_kernels.gpu.fused_source."""
import triton
import triton.language as tl

from dsf_kernels.gpu.programs.gates import INFINITY, LOG2E, NAN, choose, exp_less_one, less, root
from dsf_kernels.gpu.programs.tiles import sequence


'''
CONSTANTS = ("HEADS", "ROWS", "STEPS", "PARTS", "REST", "KEEP", "PACKED")
STATE = Value("state", (), False, True, True)


class Text(Lines):
    """Values, and memory: of every head, row and step; `there` and `inside` say which of a tile's there are."""

    def __init__(self, plan: Plan):
        super().__init__(plan, HEAD)

    # -------------------------------------------------------------------------------------------------------- values
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
            if value.op in _OVER_ROWS:
                over, nothing = _OVER_ROWS[value.op]
                there = "inside" if value.heads else "(i < n)"
                self(f"v{place} = {over}(tl.where({there}, {names[0]}, {nothing}), 1)[:, None]")
            else:
                self(f"v{place} = {_CALLS[value.op].format(*names)}")

    # -------------------------------------------------------------------------------------------------------- memory
    def function(self, name: str, memories: dict[int, Value], rest: str) -> None:
        """Up to where a program knows its tile. p: pointers of inputs and outputs, each with four strides."""
        known = "".join(f"p{k}, b{k}, t{k}, h{k}, i{k}, " for k in memories)
        sizes = "".join(f", {constant}: tl.constexpr" for constant in CONSTANTS)
        self("@triton.jit")
        self.block(f"def {name}({known}{rest}, table, T, H, n, blocks, per{sizes}):")
        self("segment, segments, tiles = tl.program_id(1), tl.num_programs(1), blocks * tl.cdiv(H, HEADS)")
        self("number, tile = (tl.program_id(0) // tiles).to(tl.int64), tl.program_id(0) % tiles")
        self("batch, first, length, unit = sequence(table, number, T, tl.cdiv(T, STEPS * PARTS), PACKED)")
        self("h = (tile // blocks * HEADS + tl.arange(0, HEADS)).to(tl.int64)[:, None]")
        self("i = (tile % blocks * ROWS + tl.arange(0, ROWS)).to(tl.int64)[None, :]")
        self("inside, size, nothing = (h < H) & (i < n), number * 0 + H * n, tl.zeros([HEADS, ROWS], tl.float32)")
        self("own, one = h * n + i, tl.full([HEADS, ROWS], 1.0, tl.float32)")
        self("entries, here = number * size + own, tl.zeros([1, 1], tl.int64)")
        self("sequences = tl.num_programs(0) // tiles * size")

    def places(self, memories: dict[int, Value]) -> None:
        """From where on a sequence lies; what has no time is one for all of a pack."""
        for k, value in memories.items():
            start = f" + first * t{k}" if value.time else ""
            self(f"p{k} += here + batch * b{k}{start}{self.entries(k, value)}")

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
        self("there = t + k < length")
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
