"""One case at one size: every side is checked, then predicted (is it worth the wait), then timed in turn."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import torch

import dsf

from ..costs import Cost, floor
from ..sizes import sizes_of
from .case import Case, Peer, Shape, Tensors, split_drive
from .checks import Refused, check_short, check_whole, too_dear
from .measure import Protocol, in_turn, timer
from .memory import peak
from .peers import absent
from .rates import PASSES, Rates
from .results import Found, Row, Timing
from .sides import Calls, Side, ours, reference, short, theirs


def contest(
    case: Case,
    shape: Shape,
    device: str,
    dtype: torch.dtype,
    packages: Sequence[str],
    rates: Rates,
    protocol: Protocol,
) -> Found:
    """Every side of the case; a peer that fails is told, dsf's own errors are raised."""
    sides, away = _sides(case, shape, device, packages)
    rows = {side.name: Row(side.name, side.package, side.what, side.same, side.length) for side in sides}
    check_short(case, shape, device, dtype, sides, rows)
    sides = [side for side in sides if rows[side.name].because is None]
    refused = too_dear(case, shape, device, dtype, sides, protocol)
    bases = {length: case.base(shape.at(length), device, dtype) for length in {side.length for side in sides}}
    calls = {side.name: side.calls(bases[side.length]) for side in sides}
    kernel, route, cost = _chosen(case, bases[shape.length])
    del bases
    check_whole(shape, dtype, calls, rows, refused)
    for direction in PASSES:
        _time(direction, device, calls, rows, refused, protocol)
        _rate(direction, shape, rows, cost, rates)
    return Found(
        *(case.name, case.found().title, case.about, shape, str(dtype).removeprefix("torch."), kernel, route),
        *(cost.flops, cost.bytes, {direction: rates.floor(cost, direction) for direction in PASSES}),
        [*rows.values(), *away],
    )


def _sides(case: Case, shape: Shape, device: str, packages: Sequence[str]) -> tuple[list[Side], list[Row]]:
    """Who takes part, and the rows of those who cannot."""
    sides, away = [ours(case, shape.length)], []
    for peer in case.peers:
        if peer.package in packages:
            because = absent(peer, device)
            if because:
                away.append(_absent(peer, because))
            else:
                sides.append(theirs(peer, shape.length))
    if not any(side.same for side in sides[1:]):
        sides.append(reference(case, short(shape).length))
    return sides, away


def _absent(peer: Peer, because: str) -> Row:
    return Row(peer.name, peer.package, peer.what, peer.same, because=because)


def _chosen(case: Case, base: Tensors) -> tuple[str, tuple[str, ...], Cost]:
    """The kernel that runs, by which lifts, and the floor."""
    signals, u = split_drive(case.signals(base))
    system = case.found()(**signals)
    explained = dsf.explain(system, u)
    return explained.kernel, explained.route, floor(system, sizes_of(system, u))


def _time(
    direction: str,
    device: str,
    calls: dict[str, Calls],
    rows: dict[str, Row],
    refused: Refused,
    protocol: Protocol,
) -> None:
    for name in calls:
        rows[name].timings[direction] = Timing(because=refused.get((name, direction)))
    running = {name: one.of(direction) for name, one in calls.items() if (name, direction) not in refused}
    times = in_turn(running, timer(device), protocol)
    for name, found in times.seconds.items():
        timing = rows[name].timings[direction]
        timing.milliseconds, timing.quickest = 1e3 * median(found), 1e3 * min(found)
        timing.repeats, timing.warmups = len(found), times.warmups
        timing.memory_bytes = peak(running[name], device)


def _rate(direction: str, shape: Shape, rows: dict[str, Row], cost: Cost, rates: Rates) -> None:
    """The floor's bytes and flops per second: one numerator for every side that computes the same."""
    times = {name: row.timings[direction] for name, row in rows.items() if direction in row.timings}
    whole = {
        name: timing.milliseconds * shape.length / rows[name].length
        for name, timing in times.items()
        if timing.milliseconds is not None
    }
    for name, milliseconds in whole.items():
        timing = times[name]
        timing.ratio = milliseconds / whole["dsf"] if "dsf" in whole else None
        if rows[name].same:
            timing.gb_per_s = PASSES[direction] * cost.bytes / milliseconds / 1e6
            timing.gflop_per_s = PASSES[direction] * cost.flops / milliseconds / 1e6
            timing.share_of_floor = rates.floor(cost, direction) / milliseconds
