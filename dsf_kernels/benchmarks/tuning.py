"""`dsf tune`: the configurations of Triton programs, measured on this device and kept for it.

Every program that a case runs is tuned, one after the other, forward and backward together: what is beside the best
configuration so far is tried, until nothing of it is faster. What does not compile, does not fit the device, or gives
other numbers than the configuration that was there, is left out, and told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import median

import torch

import dsf

from ..gpu import configurations
from ..gpu.configurations import Configuration, asked, forced
from ..gpu.launching import DEVICES
from .case import Case, Shape, split_drive
from .cases import cases_named
from .machine import check_device
from .measure import QUICK, Protocol, Timer, in_turn, timer

FASTER = 0.97  # of the time before, at most: what is noise is not kept
SAME = 2e-2  # of the largest entry: products of half precision in another order


@dataclass(frozen=True)
class Tuned:
    """A program at a size: its configuration, milliseconds of the case with the one before and with this one, and what
    was left out, and why."""

    key: str
    before: Configuration
    now: Configuration
    milliseconds_before: float
    milliseconds: float
    left_out: tuple[str, ...] = ()


def tune(
    cases: Iterable[str] = (),
    device: str = "cuda",
    dtype: torch.dtype = torch.bfloat16,
    length: int | None = None,
    protocol: Protocol = QUICK,
    clock: Timer | None = None,
    backend: str = "auto",
) -> Iterator[Tuned]:
    """Measures the cases (default: all of `dsf bench`) and keeps what is faster, program after program.

    Yields what each program ends with. Raises ValueError where there is no such device or case.
    """
    check_device(device)
    if torch.device(device).type not in DEVICES:
        raise ValueError(f"what is tuned are Triton programs, which run on {' or '.join(DEVICES)}, not on {device}")
    name, clock = configurations.name_of(torch.device(device)), clock or timer(device)
    for case in cases_named(cases):
        shapes = case.shapes[torch.device(device).type]
        for shape in dict.fromkeys(shape if length is None else shape.at(length) for shape in shapes):
            call = _both_passes(case, shape, device, dtype if case.half else torch.float32, backend)
            with asked() as programs:
                call()
            for key, before in programs.items():
                found = _best(key, before, call, clock, protocol)
                if found.now != before:
                    configurations.keep(name, {key: found.now})
                yield found


def _both_passes(case: Case, shape: Shape, device: str, dtype: torch.dtype, backend: str) -> Callable:
    """() -> y and the gradient of every input."""
    signals, u = split_drive(case.signals(case.base(shape, device, dtype)))
    given = {k: x.detach().requires_grad_(x.is_floating_point()) for k, x in {**signals, "u": u}.items()}
    wanted = [x for x in given.values() if x.requires_grad]
    architecture = case.found()

    def call() -> list[torch.Tensor]:
        signals, u = split_drive(given)
        y, _ = dsf.simulate(architecture(**signals), u, backend=backend)
        return [y.detach(), *torch.autograd.grad(y, wanted, torch.ones_like(y), materialize_grads=True)]

    return call


def beside(how: Configuration, most: int) -> list[Configuration]:
    """Half and twice the columns (up to `most`), the warps, and both; a stage more or less.

    >>> [(one.columns, one.warps, one.stages) for one in beside(Configuration(16, 8, 1), 16)]
    [(8, 8, 1), (16, 4, 1), (8, 4, 1), (16, 8, 2)]
    """
    columns, warps, stages = how.columns, how.warps, how.stages
    found = [
        Configuration(2 * columns, warps, stages),
        Configuration(columns // 2, warps, stages),
        Configuration(columns, 2 * warps, stages),
        Configuration(columns, warps // 2, stages),
        Configuration(2 * columns, 2 * warps, stages),
        Configuration(columns // 2, warps // 2, stages),
        Configuration(columns, warps, stages + 1),
        Configuration(columns, warps, stages - 1),
    ]
    return [one for one in found if one.possible and one.columns <= max(most, columns)]


def _best(key: str, before: Configuration, call: Callable, clock: Timer, protocol: Protocol) -> Tuned:
    most = max(map(int, key.rsplit(" ", 3)[1:3]))

    def forcing(how: Configuration) -> Callable[[], list[torch.Tensor]]:
        def candidate() -> list[torch.Tensor]:
            with forced(key, how):
                return call()

        return candidate

    expected, best, left_out = call(), before, []
    (at_first,) = (1e3 * median(found) for found in in_turn({"before": call}, clock, protocol).seconds.values())
    least, tried, ahead = at_first, {before}, beside(before, most)
    while ahead:
        how = ahead.pop(0)
        if how in tried:
            continue
        tried.add(how)
        because = _why_not(forcing(how), expected)
        if because is not None:
            left_out.append(f"{how}: {because}")
            continue
        times = in_turn({"best": forcing(best), "now": forcing(how)}, clock, protocol)
        was, now = (1e3 * median(times.seconds[side]) for side in ("best", "now"))
        if now < FASTER * was and now < least:
            best, least, ahead = how, now, beside(how, most)
    return Tuned(key, before, best, at_first, least, tuple(left_out))


def _why_not(candidate: Callable[[], list[torch.Tensor]], expected: list[torch.Tensor]) -> str | None:
    """Why a candidate is left out: it does not compile, does not fit the device, computes something else; or None."""
    try:
        found = candidate()
    except Exception as error:  # the compiler's own errors have no class in common
        said = str(error).strip()
        return f"{type(error).__name__}: {said.splitlines()[-1]}" if said else type(error).__name__
    pairs = zip(found, expected, strict=True)
    same = all((a - b).abs().max() <= SAME * b.abs().max().clamp(min=1e-6) for a, b in pairs)
    return None if same else "it computes something else"
