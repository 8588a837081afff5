"""Before anything is timed: does every side compute the same, and is it worth the wait?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from .case import Case, Shape
from .measure import Protocol, Timer, predicted, timer
from .memory import available, peak
from .rates import PASSES
from .results import Row
from .sides import Calls, Side, distance, in_double, reference, short

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 3e-2}
LOOSER = 10  # of gradients: sums over all tokens
HEADS = 16  # on which that is checked: they do not see each other
ROOM = 0.7  # of the memory that is free
Refused = dict[tuple[str, str], str]  # (side, direction) -> why it is not run at this length


def check_short(case: Case, shape: Shape, device: str, dtype: torch.dtype, sides: Sequence[Side], rows: dict[str, Row]):
    """y and all gradients on a short piece, against the reference in fp64 on the same rounded numbers.

    A peer's failure is a result: its row says so. dsf's own is raised.
    """
    piece = replace(short(shape), batch=min(shape.batch, 2), heads=min(shape.heads, HEADS))
    base = case.base(piece, device, dtype)
    expected, gradients = reference(case, piece.length).gradients(in_double(base))
    for side in sides:
        row = rows[side.name]
        if side.name == "reference" or not side.same:
            continue
        try:
            y, found = side.gradients(base)
        except Exception as error:
            if side.package == "dsf":
                raise
            line = next(iter(str(error).splitlines()), "")
            row.because = f"it failed: {type(error).__name__}: {line[:200]}"
            continue
        row.error = distance(y, expected)
        row.gradient_error = max(distance(found[name], gradients[name]) for name in gradients)
        row.agrees = row.error <= TOLERANCES[dtype] and row.gradient_error <= LOOSER * TOLERANCES[dtype]


def check_whole(shape: Shape, dtype: torch.dtype, calls: dict[str, Calls], rows: dict[str, Row], refused: Refused):
    """y at full length: every side that computes the same against dsf."""
    if ("dsf", "forward") in refused:
        return
    y = calls["dsf"].forward()
    for name, call in calls.items():
        row, side = rows[name], call.side
        if name in ("dsf", "reference") or not side.same or (name, "forward") in refused:
            continue
        row.apart = distance(side.back(call.forward()), y)
        row.agrees = bool(row.agrees) and row.apart <= TOLERANCES[dtype]


def too_dear(
    case: Case, shape: Shape, device: str, dtype: torch.dtype, sides: Sequence[Side], protocol: Protocol
) -> Refused:
    """What would take too long or too much memory, if it goes on as from half of a short piece to the whole of it."""
    T = short(shape).length
    if T == shape.length:
        return {}
    bases = [case.base(shape.at(length), device, dtype) for length in (T // 2, T)]
    room, refused, clock, factor = available(device), {}, timer(device), shape.length / T
    for side in sides:
        if side.length != shape.length:
            continue
        both = [side.calls(base) for base in bases]
        for direction in PASSES:
            calls = [one.of(direction) for one in both]
            seconds = _foreseen(lambda call: _second(clock, call), calls, factor, protocol.longest)
            size = _foreseen(lambda call: peak(call, device) or 0, calls, factor, ROOM * (room or 0))
            if seconds > protocol.longest:
                refused[side.name, direction] = f"it would take about {seconds:.0f} s a call"
            elif room and size > ROOM * room:
                refused[side.name, direction] = f"it would take about {size / 1e9:.0f} GB"
    return refused


def _foreseen(measure: Callable, calls: Sequence[Callable], factor: float, limit: float) -> float:
    """Of the whole length; the half piece is run only where growth with the square of the length could be too much."""
    found = measure(calls[1])
    return found * factor if found * factor**2 <= limit else predicted(measure(calls[0]), found, factor)


def _second(clock: Timer, call: Callable[[], object]) -> float:
    """A second call: the first may compile."""
    return [clock(call) for _ in range(2)][1]
