"""What a converter yields: one recurrence at a time, to whoever runs it, and gets its output and final state back.

    def steps(call):                                # call.arguments -> what the call returns
        y, state = yield Core(architecture, signals, drive, state)
        return y.flatten(2)

The same function converts (the core is looked at), verifies (the core is simulated and what `steps` returns is compared
with what the module returned) and executes (the module runs on, with the core run by `dsf.simulate`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .definition import Architecture
from .feedback import Feedback
from .system import System

Signals = dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Core:
    """One recurrence of a call: x_t = A_t x_{t-1} + B_t u_t, y_t = C_t x_t + D_t u_t, in the order in which it runs.

    signals and drive are in dsf's layout [B, T, H, ...]; state is the initial one (None: zero), as `dsf.simulate`
    takes it. part names a core among several of one call ("layer0.reverse"). valid [B, T] (None: all) marks the tokens
    that are no padding: the others are not compared. from_the_end: it runs from the last token to the first.
    """

    architecture: Architecture
    signals: Mapping[str, torch.Tensor]
    drive: torch.Tensor
    state: Any = None
    part: str = ""
    valid: torch.Tensor | None = None
    from_the_end: bool = False

    @property
    def system(self) -> System | Feedback:
        """The architecture on the signals."""
        return self.architecture(**self.signals)


Run = Callable[[Core], tuple[torch.Tensor, Any]]
Steps = Generator[Core, tuple[torch.Tensor, Any], Any]


def simulated(core: Core, method: str = "auto") -> tuple[torch.Tensor, Any]:
    """y and the final state of a core, by `dsf.simulate`."""
    import dsf  # dsf.simulate lives above this package and is found on first use

    return dsf.simulate(core.system, core.drive, core.state, backend=method)


def execute(steps: Steps, run: Run = simulated) -> Any:
    """Runs every core that `steps` yields, and returns what `steps` returns."""
    try:
        core = next(steps)
        while True:
            core = steps.send(run(core))
    except StopIteration as done:
        return done.value
