"""`dsf tune`: the configurations of Triton programs, measured on this device and kept for it.

Every program that a case runs tries its candidates, one program after the other, forward and backward together. A
candidate that does not compile, or gives other numbers than the configuration that was there, is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
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

CANDIDATES = [Configuration(*how) for how in product((16, 32, 64, 128), (4, 8), (1, 2, 3))]
FASTER = 0.97  # of the time before, at most: what is noise is not kept
SAME = 2e-2  # of the largest entry: products of half precision in another order


@dataclass(frozen=True)
class Tuned:
    """A program at a size: its configuration, and milliseconds of the case with the one before and with this one."""

    key: str
    before: Configuration
    now: Configuration
    milliseconds_before: float
    milliseconds: float


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
        for shape in case.shapes[torch.device(device).type]:
            call = _both_passes(case, shape if length is None else shape.at(length), device, dtype, backend)
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


def _best(key: str, before: Configuration, call: Callable, clock: Timer, protocol: Protocol) -> Tuned:
    _, n, p, _ = key.split()
    expected, best = call(), before
    (at_first,) = (1e3 * median(found) for found in in_turn({"before": call}, clock, protocol).seconds.values())
    least = at_first
    for how in CANDIDATES:
        if how.columns > max(int(n), int(p)) or how == before:
            continue

        def candidate(how: Configuration = how) -> list[torch.Tensor]:
            with forced(key, how):
                return call()

        if not _works(candidate, expected):
            continue
        times = in_turn({"before": call, "now": candidate}, clock, protocol)
        was, now = (1e3 * median(times.seconds[side]) for side in ("before", "now"))
        if now < FASTER * was and now < least:
            best, least = how, now
    return Tuned(key, before, best, at_first, least)


def _works(candidate: Callable[[], list[torch.Tensor]], expected: list[torch.Tensor]) -> bool:
    """Does it compile, fit the device, and compute the same?"""
    try:
        found = candidate()
    except Exception:  # the compiler's own errors have no class in common
        return False
    pairs = zip(found, expected, strict=True)
    return all((a - b).abs().max() <= SAME * b.abs().max().clamp(min=1e-6) for a, b in pairs)
