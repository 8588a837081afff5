"""One recurrence of a module, as an architecture with its signals: what `dsf.convert` finds, and how it is checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from .definition import Architecture
from .feedback import Feedback
from .system import System

BLOCK = 256  # steps that are re-simulated at a time: signals are several times as wide as outputs
LAYOUTS = {"BTF": "[B, T, features]", "TBF": "[T, B, features]", "TF": "[T, features]"}

Signals = dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class ConvertedLayer:
    """A layer and direction of a module: x_t = A_t x_{t-1} + B_t u_t, y_t = C_t x_t + D_t u_t, then its stages.

    `input` and `output` are what the module itself read and returned there, in the module's layout. `signals`,
    `drive`, `tapped` and `system` are in dsf's layout [B, T, H, ...] and in the order in which the layer RUNS: of a
    `reverse` layer, from the end of the sequence. All are copies: training the module on leaves them as they are.

    encode: the layer's input x [B, T, features] in running order -> (signals, drive), pointwise in time.
    stages: what follows the recurrence, by name; "projection" is the matrix P of output = P y.
    state, final: the initial (None: zero) and the final state of the module, as `dsf.simulate` takes and returns them.

    >>> import dsf, torch
    >>> layer = dsf.convert(torch.nn.LSTM(3, 5), torch.randn(20, 2, 3)).layers["layer0"]
    >>> layer.architecture.name, layer.drive.shape, layer.tapped.shape
    ('lstm', torch.Size([2, 20, 1, 5]), torch.Size([2, 20, 1, 5]))
    >>> y, state = dsf.simulate(layer.system, layer.drive, layer.state)
    >>> torch.allclose(y, layer.tapped, atol=1e-6)
    True
    """

    path: str
    architecture: Architecture
    encode: Callable[[torch.Tensor], tuple[Signals, torch.Tensor]] = field(repr=False)
    input: torch.Tensor
    output: torch.Tensor
    layout: str
    state_size: int
    state: tuple[torch.Tensor, torch.Tensor] | None = None
    final: tuple[torch.Tensor, torch.Tensor] | None = None
    reverse: bool = False
    stages: Mapping[str, torch.Tensor] = field(default_factory=dict)

    # ------------------------------------------------------------------------------------------- as a dynamical system
    @cached_property
    def _encoded(self) -> tuple[Signals, torch.Tensor]:
        return self.encode(self._steps(self.input))

    @property
    def signals(self) -> Signals:
        """The architecture's signals on the recorded input."""
        return self._encoded[0]

    @property
    def drive(self) -> torch.Tensor:
        """u [B, T, H, p] on the recorded input."""
        return self._encoded[1]

    @property
    def system(self) -> System | Feedback:
        """The system on the recorded input."""
        return self.architecture(**self.signals)

    @property
    def tapped(self) -> torch.Tensor:
        """The module's own output of this layer and direction, [B, T, H, p], computed by torch alone."""
        return self._steps(self.output)[:, :, None]

    @property
    def length(self) -> int:
        """T of the recorded input."""
        return self.input.shape[self.layout.index("T")]

    # ------------------------------------------------------------------------------------------------ running it
    def simulate(self, x: torch.Tensor | None = None, method: str = "auto", state: Any = None) -> torch.Tensor:
        """Runs the layer by dsf on an input of its own, in the module's layout, and returns its output there.

        x: [B, T, features] (or as the module has it); None: the recorded input. method: a backend of `dsf.simulate`.
        state: the initial state (x, y); None: the recorded one.
        Raises TypeError or ValueError where x does not fit the layer.
        """
        x = self.input if x is None else self._fitting(x)
        state = self.state if state is None else state
        x = self._steps(x)
        if state is not None and state[0].shape[0] != x.shape[0]:
            raise ValueError(
                f"{self.path} starts from states of a batch of {state[0].shape[0]}, but x has a batch of {x.shape[0]}; "
                "pass state=(x, y) of that batch"
            )
        y = self._run(x, state, method)[0][:, :, 0]
        y = y.flip(1) if self.reverse else y
        return y[0] if self.layout == "TF" else y.transpose(0, 1) if self.layout == "TBF" else y

    def verify(self, reset_every: int | None = None, method: str = "auto") -> float:
        """Re-simulates the layer against the module's output and final state: the largest max |error| / max |value|.

        reset_every: set the state to zero after every so many tokens, a control that must fail where memory matters.
        Works in blocks of time: needs little memory beside the recorded tensors.
        """
        if reset_every is not None and reset_every < 1:
            raise ValueError(f"reset_every is a number of tokens, at least 1, got {reset_every}")
        state, size = self.state, reset_every or BLOCK
        error, scale = self.output.new_zeros(()), self.output.new_zeros(())
        for start in range(0, self.length, size):
            y, after = self._run(self._steps(self.input, start, start + size), state, method)
            tapped = self._steps(self.output, start, start + size)[:, :, None]
            error = torch.maximum(error, (y - tapped).abs().max())  # keeps NaN, which Python's max may lose
            scale = torch.maximum(scale, tapped.abs().max())
            state = None if reset_every else after
        worst = _relative(error, scale)
        if self.final is None or reset_every:
            return worst.item()
        x, y = after
        for found, expected in ((x, self.final[0]), (self._project(y), self.final[1])):
            worst = torch.maximum(worst, _relative((found - expected).abs().max(), expected.abs().max()))
        return worst.item()

    def visit(self, times: Iterable[int]) -> Iterator[tuple[int, Any, torch.Tensor, Any]]:
        """The recorded run at some steps, increasing: (t, system of that step alone, u_t [B, H, p], state before t).

        The state is None at t = 0 where the run starts from zero. Between two steps the layer runs in blocks.
        """
        state, reached = self.state, 0
        for t in times:
            if not reached <= t < self.length:
                raise ValueError(f"times should increase within 0..{self.length - 1}, got {t} after {reached}")
            while reached < t:
                stop = min(t, reached + BLOCK)
                state, reached = self._run(self._steps(self.input, reached, stop), state, "auto")[1], stop
            signals, drive = self.encode(self._steps(self.input, t, t + 1))
            yield t, self.architecture(**signals), drive[:, 0], state

    def _run(self, x: torch.Tensor, state: Any, method: str) -> tuple[torch.Tensor, Any]:
        import dsf  # dsf.simulate lives above this package and is found on first use

        signals, drive = self.encode(x)
        y, state = dsf.simulate(self.architecture(**signals), drive, state, backend=method)
        return self._project(y), state

    def _project(self, y: torch.Tensor) -> torch.Tensor:
        return y @ self.stages["projection"].mT if "projection" in self.stages else y

    def _steps(self, x: torch.Tensor, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Steps start..stop-1, in running order, of a tensor in the module's layout: [B, T, features]."""
        x = x[None] if self.layout == "TF" else x.transpose(0, 1) if self.layout == "TBF" else x
        T = x.shape[1]
        stop = T if stop is None else min(stop, T)
        return x[:, T - stop : T - start].flip(1) if self.reverse else x[:, start:stop]

    def _fitting(self, x: Any) -> torch.Tensor:
        expected = f"the input of {self.path} should be {LAYOUTS[self.layout]} = "
        shape = [str(self.input.shape[-1]) if axis == "F" else axis for axis in self.layout]
        expected += f"[{', '.join(shape)}], {self.input.dtype} on {self.input.device}"
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"{expected}; got {type(x).__name__}")
        if x.dtype != self.input.dtype:
            raise TypeError(f"{expected}; got {x.dtype}")
        if x.dim() != len(self.layout) or x.shape[-1] != self.input.shape[-1] or x.device != self.input.device:
            raise ValueError(f"{expected}; got shape {tuple(x.shape)} on {x.device}")
        if 0 in x.shape:
            raise ValueError(f"{expected}; got the empty shape {tuple(x.shape)}")
        return x

    def __repr__(self) -> str:
        size, where = f"n = {self.state_size}", ", from the end" if self.reverse else ""
        stages = f", then {', '.join(self.stages)}" if self.stages else ""
        return f"{self.path}: {self.architecture.title}, {size}, {self.length} steps{where}{stages}"


def _relative(error: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """error / scale; the error itself where everything it is compared with is zero."""
    return torch.where(scale == 0, error, error / scale)
