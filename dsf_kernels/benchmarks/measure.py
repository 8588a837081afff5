"""The protocol: all sides in one process, in turn, median of 20 after 5 warm-ups; fewer where a round is long."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Call = Callable[[], object]
Timer = Callable[[Call], float]


@dataclass(frozen=True)
class Protocol:
    """Rounds that count, rounds before them that do not, and limits in seconds.

    budget: for all rounds of one comparison; a round too long for it lowers their number, never below `least`.
    longest: a call that is predicted to take longer is not made.
    """

    repeats: int = 20
    warmups: int = 5
    budget: float = 10.0
    longest: float = 10.0
    least: int = 3

    def rounds(self, seconds: float) -> tuple[int, int]:
        """(warm-ups, rounds) where one round takes so long.

        >>> Protocol().rounds(0.1), Protocol().rounds(1.0), Protocol().rounds(9.0)
        ((5, 20), (2, 8), (1, 3))
        """
        fit = int(self.budget / max(seconds, 1e-9))
        if fit >= self.repeats + self.warmups:
            return self.warmups, self.repeats
        repeats = min(self.repeats, max(fit * self.repeats // (self.repeats + self.warmups), self.least))
        return min(self.warmups, max(fit - repeats, 1)), repeats


QUICK = Protocol(repeats=5, warmups=1, budget=3.0, longest=3.0)


def timer(device: str) -> Timer:
    """Seconds that a call takes: by the clock, or by CUDA's events."""
    return _cuda_seconds if torch.device(device).type == "cuda" else _seconds


def _seconds(call: Call) -> float:
    start = time.perf_counter()
    result = call()
    taken = time.perf_counter() - start
    del result  # freed outside the time
    return taken


def _cuda_seconds(call: Call) -> float:
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    result = call()
    stop.record()
    torch.cuda.synchronize()
    del result
    return start.elapsed_time(stop) / 1e3


@dataclass(frozen=True)
class Times:
    """Seconds of every counted call, by side, and the warm-ups that went before."""

    seconds: dict[str, list[float]]
    warmups: int


def in_turn(calls: Mapping[str, Call], clock: Timer, protocol: Protocol) -> Times:
    """Every round calls every side once, in one order; a first round is not counted, and says how many there can be.

    >>> order = []
    >>> times = in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, _seconds, Protocol(2, 1))
    >>> "".join(order), {name: len(found) for name, found in times.seconds.items()}
    ('ababab', {'a': 2, 'b': 2})
    """
    first = sum([clock(call) for call in calls.values()])
    warmups, repeats = protocol.rounds(first)
    for _ in range(warmups - 1):
        for call in calls.values():
            clock(call)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            seconds[name].append(clock(call))
    return Times(seconds, warmups)


def predicted(once: float, twice: float, factor: float) -> float:
    """What a call costs at `factor` times a size where it cost `twice`, and `once` at half of that size.

    >>> predicted(1.0, 2.0, 8), predicted(1.0, 4.0, 8), predicted(1.0, 0.9, 8)
    (16.0, 256.0, 0.9)
    """
    growth = math.log2(twice / once) if once > 0 and twice > 0 else 1.0
    return twice * factor ** min(max(growth, 0.0), 2.0)
