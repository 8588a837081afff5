"""One recurrence of a module, as an architecture with its signals: what `dsf.convert` finds, and how it is checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from .cores import Core, Signals, Steps, execute, simulated
from .definition import Architecture
from .feedback import Feedback
from .recording import Call
from .system import System


@dataclass(frozen=True, eq=False)
class ConvertedLayer:
    """A recurrence inside a module: x_t = A_t x_{t-1} + B_t u_t, y_t = C_t x_t + D_t u_t, between its stages.

    `signals`, `drive`, `state` and `system` are in dsf's layout [B, T, H, ...] and in the order in which the layer
    RUNS: where it is `from_the_end`, from the end of the sequence. `input` and `output` are what the module, or the
    function that holds its recurrence, itself read and returned. All are copies: training the module on leaves them
    as they are.

    stages: what stands around the recurrence, inside the same module, by its name there (projections, convolution,
    norm). edits: changes of signals that `Conversion.edit` made; `signals` and `architecture` have them, `output` has
    not.

    >>> import dsf, torch
    >>> layer = dsf.convert(torch.nn.LSTM(3, 5), torch.randn(20, 2, 3)).layers["layer0"]
    >>> layer.architecture.name, layer.drive.shape
    ('lstm', torch.Size([2, 20, 1, 5]))
    >>> y, state = dsf.simulate(layer.system, layer.drive, layer.state)
    >>> torch.allclose(y[:, :, 0].transpose(0, 1), layer.output[0], atol=1e-6)
    True
    """

    path: str
    call: Call
    steps: Callable[[Call], Steps] = field(repr=False)
    stages: tuple[str, ...] = ()
    edits: tuple = ()

    # ------------------------------------------------------------------------------------------- as a dynamical system
    @cached_property
    def core(self) -> Core:
        """The recurrence on the recorded input, after the edits."""
        with torch.no_grad():
            return edited(next(self.steps(self.call)), self.edits)

    @cached_property
    def architecture(self) -> Architecture:
        """The architecture, on the domains that its signals have in this module."""
        return self.core.architecture

    @property
    def signals(self) -> Signals:
        """The architecture's signals on the recorded input."""
        return dict(self.core.signals)

    @property
    def drive(self) -> torch.Tensor:
        """u [B, T, H, p] on the recorded input."""
        return self.core.drive

    @property
    def state(self) -> Any:
        """The initial state, None where the run starts from zero."""
        return self.core.state

    @property
    def system(self) -> System | Feedback:
        """The system on the recorded input."""
        return self.core.system

    @property
    def from_the_end(self) -> bool:
        """Does it run from the last token to the first?"""
        return self.core.from_the_end

    @property
    def input(self) -> torch.Tensor:
        """The first tensor that the module, or its function, read."""
        return self.call.arguments[self._first()]

    @property
    def output(self) -> Any:
        """What the module, or its function, returned."""
        return self.call.output

    @property
    def dtype(self) -> torch.dtype:
        """The coarsest floating dtype of what the module, or its function, read and returned."""
        tensors = [x for x in _tensors([*self.call.arguments.values(), self.output]) if x is not None]
        return max({x.dtype for x in tensors if x.is_floating_point()}, key=lambda d: torch.finfo(d).eps)

    @property
    def length(self) -> int:
        """T of the recorded input."""
        return self.drive.shape[1]

    @property
    def state_size(self) -> int:
        """n; of infinite features the size of the keys."""
        system = self.system
        return self.drive.shape[-1] if isinstance(system, Feedback) else system.state_size

    # ------------------------------------------------------------------------------------------------ running it
    def simulate(self, x: torch.Tensor | None = None, method: str = "auto", **arguments: Any) -> Any:
        """Runs the layer by dsf and returns what the module, or its function, returns there.

        x: its first argument, in the module's own layout; None: the recorded one. arguments: others of its arguments,
        by name. method: a backend of `dsf.simulate`. Raises TypeError or ValueError where x does not fit the layer.
        """
        if x is not None:
            arguments = {self._first(): self._fitting(x)} | arguments
        if unknown := arguments.keys() - self.call.arguments.keys():
            known = ", ".join(self.call.arguments)
            raise TypeError(f"{self.path} has the arguments {known}, not {', '.join(sorted(unknown))}")
        call = replace(self.call, arguments={**self.call.arguments, **arguments})
        return execute(self.steps(call), lambda core: simulated(edited(core, self.edits), method))

    def verify(self, reset_every: int | None = None, method: str = "auto") -> float:
        """Re-simulates the layer and compares with what the module returned: the largest max |error| / max |value|.

        Outputs and, where the module returns them, final states. reset_every: set the state to zero after every so many
        tokens (and compare the output alone), a control that must fail where memory matters.
        """
        if reset_every is not None and reset_every < 1:
            raise ValueError(f"reset_every is a number of tokens, at least 1, got {reset_every}")
        valid: list[torch.Tensor | None] = []

        def run(core: Core) -> tuple[torch.Tensor, Any]:
            valid.append(core.valid)
            core = edited(core, self.edits)
            return simulated(core, method) if reset_every is None else _forgetful(core, reset_every, method)

        with torch.no_grad():
            found = _tensors(execute(self.steps(self.call), run))
        pairs = list(zip(found, _tensors(self.output), strict=False))[: 1 if reset_every else None]
        errors = [relative_error(a, b, valid[0]) for a, b in pairs if a is not None and b is not None]
        return torch.stack(errors).max().item()  # NaN stays NaN

    def visit(self, times: Iterable[int]) -> Iterator[tuple[int, Any, torch.Tensor, Any]]:
        """The recorded run at some steps, increasing: (t, system of that step alone, u_t [B, H, p], state before t).

        The state is that of a feedback layer; of others, whose A_t does not depend on it, None. It is None at t = 0
        where the run starts from zero.
        """
        system, drive, state, reached = self.system, self.drive, self.state, 0
        for t in times:
            if not reached <= t < self.length:
                raise ValueError(f"times should increase within 0..{self.length - 1}, got {t} after {reached}")
            if isinstance(system, Feedback) and reached < t:
                core = replace(self.core, drive=drive[:, reached:t], state=state)
                state = simulated(_cut(core, reached, t))[1]
            reached = t
            yield t, system.slice(t, t + 1), drive[:, t], state if isinstance(system, Feedback) else None

    def _first(self) -> str:
        return next(k for k, x in self.call.arguments.items() if isinstance(x, torch.Tensor))

    def _fitting(self, x: Any) -> torch.Tensor:
        like = self.input
        shape = [*("any" for _ in like.shape[:-1]), str(like.shape[-1])]
        expected = f"the input of {self.path} should be [{', '.join(shape)}], {like.dtype} on {like.device}"
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"{expected}; got {type(x).__name__}")
        if x.dtype != like.dtype:
            raise TypeError(f"{expected}; got {x.dtype}")
        if x.dim() != like.dim() or x.shape[-1] != like.shape[-1] or x.device != like.device:
            raise ValueError(f"{expected}; got shape {tuple(x.shape)} on {x.device}")
        if 0 in x.shape:
            raise ValueError(f"{expected}; got the empty shape {tuple(x.shape)}")
        return x

    def __repr__(self) -> str:
        size, where = f"n = {self.state_size}", ", from the end" if self.from_the_end else ""
        stages = f", between {', '.join(self.stages)}" if self.stages else ""
        return f"{self.path}: {self.architecture.title}, {size}, {self.length} steps{where}{stages}"


def edited(core: Core, edits: Iterable) -> Core:
    """The core after the edits, in order."""
    for edit in edits:
        core = edit(core)
    return core


def relative_error(found: torch.Tensor, expected: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    """max |found - expected| / max |expected|; the error itself where all that is expected is zero.

    valid [B, T]: the tokens that count, where the tensors begin with these axes.
    """
    if found.shape != expected.shape:
        raise ValueError(f"the module returned shape {tuple(expected.shape)}, and dsf {tuple(found.shape)}")
    if not expected.numel():
        return torch.zeros((), device=expected.device)
    wide = torch.promote_types(expected.dtype, torch.float32)
    found, expected = found.to(wide), expected.to(wide)
    if valid is not None and expected.shape[:2] == valid.shape:
        found, expected = found[valid], expected[valid]
    error, scale = (found - expected).abs().max(), expected.abs().max()
    return torch.where(scale == 0, error, error / scale)


def _tensors(x: Any) -> list[torch.Tensor | None]:
    """Every tensor, and None, in a nest of tuples and lists, in order."""
    if isinstance(x, (tuple, list)):
        return [leaf for part in x for leaf in _tensors(part)]
    return [x if isinstance(x, torch.Tensor) else None]


def _cut(core: Core, start: int, stop: int) -> Core:
    """The signals of some steps (the drive is given)."""
    constant = {name for name, domain in core.architecture.signals.items() if domain.const}
    return replace(core, signals={k: s if k in constant else s[:, start:stop] for k, s in core.signals.items()})


def _forgetful(core: Core, size: int, method: str) -> tuple[torch.Tensor, Any]:
    """The core run in pieces of so many tokens, each from the zero state but the first."""
    outputs, state = [], core.state
    for start in range(0, core.drive.shape[1], size):
        piece = replace(core, drive=core.drive[:, start : start + size], state=state)
        y, after = simulated(_cut(piece, start, start + size), method)
        outputs.append(y)
        state = None
    return torch.cat(outputs, 1), after
