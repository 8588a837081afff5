"""A diagonal recurrence with its gates: from raw signals to y in one walk, no operator is ever in memory.

    x_t = a_t o x_{t-1} + b_t o u_t      y_t = c_t^T x_t + d_t u_t      a, b, c, d: the body's own expressions

The body is traced (../fusion.py), and loops are written and compiled for it: once for every such expression, and kept
on disk. Kept for backward: the signals, one state per chunk.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch

from dsf.deferred import Deferred
from dsf.feedback import Feedback
from dsf.reference import scan
from dsf.system import System
from dsf.tree import leaves

from ..costs import Cost, signal_bytes
from ..expressions import Value
from ..fused_systems import fused_or_why_not, trace
from ..fusion import Fused, plain
from ..reach import HALF, first_state, working_dtype
from ..recurrences import Loops, recur
from ..registry import REAL, kernel
from ..sizes import Sizes
from .compiling import compiled_text
from .fused_layout import Layout
from .fused_source import backward_source, forward_source
from .fused_text import Plan
from .lanes import NARROW
from .rows import room
from .running import addresses, over_rows

CHUNK = 16  # steps from one kept state to the next
SIDE, PART = 8192, 4096  # entries of the states that are walked side by side: forward, backward
START = 150  # operations that take as long as the trace and the start of a run
WEIGHTS = {"exp": 18, "expm1": 20, "log": 30, "sqrt": 18, "div": 16, "where": 2, "sum_rows": 0}  # else 1
REST = 12  # of a step of an entry: loads, stores, the recurrence


class Run(NamedTuple):
    """What a run is made of: the system's body, its traced graphs, which lanes it takes."""

    system: Deferred
    fused: Fused
    along: bool


def _sizes(run: Run, u: torch.Tensor, x: torch.Tensor) -> tuple[Layout, int]:
    """And how many heads are walked side by side."""
    (B, H, n, p), lanes = x.shape, NARROW // x.element_size()
    step = lanes if run.along else 1
    each = -(-torch.get_num_threads() // (B * p))
    side = min(max(step, SIDE // n // step * step), room(-(-H // each), step))
    return Layout(B, u.shape[1], H, n, p, -(-H // side), lanes, run.along), side


def _inputs(run: Run, layout: Layout, wanted: tuple[int, ...], u, signals, dy=None) -> tuple[list[int], list]:
    """The places of what a loop reads, and where it lies."""
    fused, values = run.fused, run.fused.graph.values
    found = fused.given(wanted, signals)
    places, placed = [], []
    for place in fused.graph.needed(wanted, found):
        value = values[place]
        x = found.get(place, {"drive": u, "dy": dy}.get(value.op))
        if x is not None:
            number = value.op in ("drive", "dy") and not value.rows
            places.append(place)
            placed.append(layout.drive(x) if number else layout.signal(x, value))
    return places, placed


def _plan(run: Run, layout: Layout, inputs: list[int], outputs: list[tuple[int, Value]], back: bool) -> Plan:
    tail = (layout.H if run.along else layout.n) % layout.lanes > 0
    return Plan.of(run.fused, inputs, outputs, back, along=run.along, tail=tail)


def _forward(run: Run, keep: bool, inputs):
    u, x, *signals = inputs
    layout, side = _sizes(run, u, x)
    places, placed = _inputs(run, layout, run.fused.forward, u, signals)
    of_y = Value("y", (), True, True, run.fused.form.read)
    y, y_place = layout.of_drive(u, of_y.rows)
    S, chunks = layout.state(x), -(-layout.T // CHUNK)
    kept = x.new_empty(layout.B, layout.columns, chunks if keep else 0, layout.size)
    loop = compiled_text(forward_source(_plan(run, layout, places, [(run.fused.y, of_y)], False)), "forward")
    _over(loop, layout, side, side, [*placed, (y, y_place)], (S, kept if keep else None), 0)
    return (y, layout.of_state(S)), (kept,)


def _backward(run: Run, kept, inputs, outputs, dy, dx):
    u, x, *signals = inputs
    fused, (layout, side) = run.fused, _sizes(run, u, x)
    step = layout.lanes if run.along else 1
    part = max(step, min(side, PART // layout.n // step * step))
    wanted = [(fused.drive, Value("u", (), True, True, fused.form.drive)), *fused.wanted]
    refs = (fused.factor, fused.write, fused.from_y, *(ref for ref, _ in wanted))
    places, placed = _inputs(run, layout, refs, u, signals, dy)
    made = [layout.of_drive(u, fused.form.drive), *(layout.output(value, x) for _, value in wanted[1:])]
    M, shared = layout.state(dx), sum(run.along and v.rows and not v.heads for _, v in wanted)
    room_ = part * layout.n * (2 * CHUNK + 1) + room(layout.n, layout.lanes) * layout.lanes * shared + layout.lanes
    loop = compiled_text(backward_source(_plan(run, layout, places, wanted, True)), "backward")
    _over(loop, layout, side, part, [*placed, *made], (M, *kept), room_)
    found = [layout.of_output(x, value) for (x, _), (_, value) in zip(made[1:], wanted[1:], strict=True)]
    return made[0][0], layout.of_state(M), *fused.of_signals(signals, found)


def _over(loop: Any, layout: Layout, side: int, part: int, placed: list, rest: tuple, memory: int) -> None:
    at = addresses(*(x for x, _ in placed), *rest)
    places = tuple(stride for _, strides in placed for stride in strides)
    sizes = (layout.T, layout.H, layout.n, layout.columns, layout.groups, side, part, CHUNK, layout.size)
    pieces = layout.B * layout.columns * layout.groups
    over_rows(loop, (at, places, sizes), rest[0], memory, pieces, float(rest[0].numel() * layout.T))


FUSED = Loops(_forward, _backward, lambda run, inputs: plain(run.system, *inputs))


def _along(fused: Fused, H: int, n: int, lanes: int) -> bool:
    """Are lanes heads? Where nothing that varies in time has entries of both, or rows are too few."""
    both = fused.form.drive or fused.form.read or any(v.time and v.heads and v.rows for v in _read(fused))
    return H >= n and (n < lanes or not both) or n == 1


def _by_rows(fused: Fused) -> bool:
    """Does every row of a state live by itself?"""
    return fused.form.read and not fused.across


def _read(fused: Fused) -> list[Value]:
    return [fused.graph.values[place] for place in fused.inputs]


def declines(system: System | Feedback) -> str | None:
    """Why this system's gates are not fused, or None."""
    found = fused_or_why_not(system)
    if isinstance(found, str):
        return found
    largest = any(v.op == "max_rows" and v.time for v in found.graph.values)
    return "its loops sum over rows, and a gate here takes the largest of them" if largest else None


def cost(system: System | Feedback, z: Sizes) -> Cost:
    """The weights of the operations that an entry takes, those of a number once for all rows; what is read once."""
    assert isinstance(system, Deferred)
    fused = trace(system, False)
    values, lanes = fused.graph.values, NARROW // z.itemsize
    made = [values[i] for i in fused.graph.needed(fused.forward) if values[i].time and values[i].children]
    numbers, rows = (sum(WEIGHTS.get(v.op, 1) for v in made if v.rows == each) for each in (False, True))
    whole = _along(fused, z.heads, z.n, lanes)
    entries = z.n if whole else z.n // lanes * lanes + z.n % lanes * lanes
    flops = (
        z.rows
        * z.length
        * z.p
        * ((rows * (1 + fused.across) + REST) * entries + (numbers + REST) * (1 if whole else lanes))
    )
    moved = z.rows * z.length * 2 * (z.n if fused.form.drive else z.p) * z.itemsize
    return Cost(1.3 * flops, signal_bytes(system) + moved, START)


@kernel(
    "compiled_fused_diagonal",
    form="system",
    cost=cost,
    declines=declines,
    dtypes=REAL,
    devices=("cpu",),
    needs=("numba", "cpu"),
    streams=True,
)
def run(system: Deferred, u: torch.Tensor, state: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """As dsf.reference.scan; half precision is computed, and its state kept, in fp32."""
    given = leaves(tuple(system.current.values()))
    if not u.shape[1]:
        return scan(system, u, state)
    with torch.autocast(u.device.type, enabled=False):
        x = first_state(system.outline, u, state, working_dtype(system, u))
        trains = torch.is_grad_enabled() and any(v.requires_grad for v in (u, x, *given))
        pieces = _pieces(x) if u.shape[3] == x.shape[2] > 1 else 1
        if pieces == 1 or not _by_rows(trace(system, False)):
            y, x = _run(system, trains, u, x)
        else:  # every row by itself: as several heads
            y, x = _run(
                system.rearranged(partial(_cut, pieces)), trains, _cut(pieces, u), _cut(pieces, x[..., 0])[..., None]
            )
            y, x = y.flatten(2)[:, :, None], x.flatten(1)[:, None, :, None]
    return (y.to(u.dtype) if u.dtype in HALF else y), x


def _run(system: Deferred, trains: bool, u: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    fused = trace(system, trains)
    along = _along(fused, x.shape[1], x.shape[2], NARROW // x.element_size())
    signals = leaves(tuple(system.current.values()))
    return recur(FUSED, Run(system, fused, along), *(v.to(x.dtype) for v in (u, x, *signals)))


def _pieces(x: torch.Tensor) -> int:
    """Into how many heads a single one is cut, so that every thread has some."""
    B, H, n, p = x.shape
    threads = torch.get_num_threads() if H == p == 1 else 1
    return -(-threads // B) if n % max(1, -(-threads // B)) == 0 else 1


def _cut(pieces: int, x: torch.Tensor) -> torch.Tensor:
    """[..., 1, n] -> [..., pieces, n / pieces]; a number stays one for all of them."""
    return x if x.shape[-1] == 1 else x.unflatten(-1, (pieces, -1)).squeeze(-3)
