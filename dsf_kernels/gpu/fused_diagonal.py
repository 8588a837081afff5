"""A diagonal recurrence with its gates on a GPU: from raw signals to y in one launch, no operator is ever in memory.

    x_t = a_t o x_{t-1} + b_t o u_t      y_t = c_t^T x_t + d_t u_t      a, b, c, d: the body's own expressions

The body is traced (../fusion.py), and programs are written for it (fused_source.py). Where heads are too few to keep
memory busy, segments of time side by side meet by their exact summaries in a second launch. Kept for backward: the
signals, and one state per EVERY steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from dsf.deferred import Deferred
from dsf.feedback import Feedback
from dsf.reference import scan
from dsf.system import System
from dsf.tree import leaves

from ..costs import Cost, signal_bytes
from ..emission import Plan
from ..expressions import Value
from ..fused_systems import fused_or_why_not, trace
from ..fusion import Fused, plain
from ..packing import Packing
from ..reach import first_state, working_dtype
from ..recurrences import Loops, recur
from ..sizes import Sizes
from .fused_cut import EVERY, WIDEST, Cut, cut_of, sums
from .fused_source import backward_source, forward_source
from .fused_text import program
from .launching import DEVICES, gpu_kernel, launch

CALLS = 30  # operations that take as long as a trace takes


class Run(NamedTuple):
    system: Deferred
    fused: Fused
    packing: Packing | None

    def cut(self, u: torch.Tensor, x: torch.Tensor, back: bool) -> Cut:
        return cut_of(self.system.architecture.name, self.fused, u, x, back, self.packing)


def declines(system: System | Feedback) -> str | None:
    """Why this system's gates are not fused, or None."""
    found = fused_or_why_not(system)
    if isinstance(found, str):
        return found
    assert isinstance(system, Deferred)
    wide = sums(found) and system.state_size > WIDEST
    return f"its programs sum over states of up to {WIDEST} rows, this one has {system.state_size}" if wide else None


def fits(z: Sizes) -> str | None:
    """A run's columns share its gates: with many of them it is cheaper to compute these once."""
    return f"its programs take one column, and this run has {z.p}" if z.p > 1 else None


def cost(system: System | Feedback, z: Sizes) -> Cost:
    """Each signal once, u and y; the states that are kept. An operation costs 4 flops of a product of matrices."""
    assert isinstance(system, Deferred)
    fused = trace(system, False)
    made = sum(bool(v.time and v.children) for v in fused.graph.values)
    entries = z.rows * z.length * z.n
    moved = z.rows * z.length * 2 * (z.n if fused.form.drive else 1) * z.itemsize
    return Cost(4 * (made + 4) * entries, signal_bytes(system) + moved + entries * 4 / EVERY, CALLS)


# ----------------------------------------------------------------------------------------------------------- memories
Placed = tuple[torch.Tensor, tuple[int, ...]]  # memory, and its strides of batch, time, head and row


def _inputs(run: Run, wanted: Sequence[int], signals, **carried: torch.Tensor) -> tuple[tuple[int, ...], list[Placed]]:
    """The places of what a program reads, and where it lies: broadcast axes have a stride of 0."""
    found = run.fused.given(wanted, signals)
    values = run.fused.graph.values
    places = [x for x in run.fused.graph.needed(wanted, found) if x in found or values[x].op in carried]
    placed = []
    for place in places:
        x = found[place] if place in found else carried[values[place].op]
        strides = tuple(0 if size == 1 else step for size, step in zip(x.shape, x.stride(), strict=True))
        placed.append((x, strides))
    return tuple(places), placed


def _output(cut: Cut, value: Value, u: torch.Tensor, like: torch.Tensor) -> Placed:
    """[parts, B | sequences, T | 1, H | 1, n | 1], of whose parts the sum is wanted: what is shared has one per block,
    what has no time one per segment."""
    heads, rows = cut.blocks
    parts = (1 if value.heads else heads) * (1 if value.rows else rows) * (1 if value.time else cut.segments)
    steps = u.shape[:2] if value.time else (cut.sequences, 1)
    shape = (*steps, cut.H if value.heads else 1, cut.n if value.rows else 1)
    x = like.new_empty(parts, *shape, dtype=like.dtype if parts == 1 else torch.float32)
    return x, (x[0].numel(), shape[2] * shape[3], shape[3], 1)  # of parts, steps or sequences, heads and rows


def _over(source, plan: Plan, cut: Cut, x: torch.Tensor, read: list[Placed], written: list[Placed], rest) -> None:
    """With the summaries of segments first, where there are several."""
    split = cut.segments > 1
    start, last, *kept = rest
    ends, products = (x.new_empty(cut.segments, *x.shape) if split else x for _ in range(2))
    room = start, ends, products, last, *(kept or (x,)), cut.table(x)
    for summary in (True, False) if split else (False,):
        memories = [v for pair in (read if summary else read + written) for v in (pair[0], *pair[1])]
        options = {"REST": split, "KEEP": bool(kept), **cut.options}
        launch(program(source(plan, summary)), cut.grid, x, *memories, *room, *cut.sizes, **options)


# --------------------------------------------------------------------------------------------------------- both ways
def _forward(run: Run, keep: bool, inputs):
    u, x, *signals = inputs
    fused, cut = run.fused, run.cut(u, x, False)
    places, read = _inputs(run, fused.forward, signals, drive=u)
    y = torch.empty_like(u, memory_format=torch.contiguous_format)
    if fused.form.read != fused.form.drive:
        y = u.new_empty(*u.shape[:3], cut.n if fused.form.read else 1)
    of_y = Value("y", (), True, True, fused.form.read)
    last, kept = torch.empty_like(x), (x.new_empty(cut.units, cut.H, cut.n),) if keep else ()
    plan = Plan.of(fused, places, [(fused.y, of_y)], False)
    _over(forward_source, plan, cut, x, read, [(y, y.stride())], (x, last, *kept))
    return (y, last), kept


def _backward(run: Run, kept, inputs, outputs, dy, dlast):
    u, x, *signals = inputs
    fused, cut = run.fused, run.cut(u, x, True)
    wanted = [(fused.drive, Value("u", (), True, True, fused.form.drive)), *fused.wanted]
    refs = (fused.factor, fused.write, fused.from_y, *(ref for ref, _ in wanted))
    places, read = _inputs(run, refs, signals, drive=u, dy=dy)
    likes = [u, *(signals[i] if i is not None else x for i in fused.of_wanted)]
    written = [_output(cut, value, u, like) for (_, value), like in zip(wanted, likes, strict=True)]
    dx, plan = torch.empty_like(x), Plan.of(fused, places, wanted, True)
    between = x.new_empty(cut.segments, cut.sequences, EVERY // cut.steps, cut.H, cut.n)
    _over(backward_source, plan, cut, x, read, written, (dlast, dx, *kept, between))
    du, *found = (part[0] if part.shape[0] == 1 else part.sum(0) for part, _ in written)
    return du, dx, *fused.of_signals(signals, found)


def _plain(run: Run, inputs) -> tuple[torch.Tensor, torch.Tensor]:
    """Step after step, in torch; of a pack sequence after sequence."""
    if run.packing is None:
        return plain(run.system, *inputs)
    u, x, *signals = inputs
    each = zip(x.split(1), *(run.packing.apart(v) for v in (u, *signals)), strict=True)
    ys, xs = zip(*(plain(run.system, u, x, *own) for x, u, *own in each), strict=True)
    return torch.cat(ys, 1), torch.cat(xs)


FUSED = Loops(_forward, _backward, _plain)


@gpu_kernel("triton_fused_diagonal", form="system", cost=cost, declines=declines, fits=fits, streams=True, packs=True)
def run(
    system: Deferred, u: torch.Tensor, state: torch.Tensor | None, packing: Packing | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """As dsf.reference.scan; half precision is computed, and its state kept, in fp32."""
    if not u.shape[1]:
        return scan(system, u, state)
    given = leaves(tuple(system.current.values()))
    with torch.autocast(DEVICES[0], enabled=False):
        x = first_state(system.outline, u, state, working_dtype(system, u), packing).contiguous()
        trains = torch.is_grad_enabled() and any(v.requires_grad for v in (u, x, *given))
        return recur(FUSED, Run(system, trace(system, trains), packing), u, x, *given)
