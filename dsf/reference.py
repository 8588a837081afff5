"""The truth: step after step, in plain torch. Every kernel and every certificate is compared with it."""

from __future__ import annotations

from typing import Any

import torch

from .features import Features
from .feedback import Feedback
from .pairwise import run_pairs
from .system import System
from .transforms import Bidirectional
from .validation import check_drive, check_state


def scan(system: System | Feedback | Bidirectional, u: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
    """Runs x_t = A_t x_{t-1} + B_t u_t, y_t = C_t x_t + D_t u_t over a sequence, one step at a time.

    u [B, T, H, p] (B an operator: [B, T, H, m]; J micro-steps: [B, T, H, J, p]). Returns y [B, T, H, p] and the state:
    x [B, H, n, p] (p + 1 channels if normalised; complex where A is), feedback (x, y), bidirectional None; of infinite
    features the past, (k [B, S, H, n], u [B, S, H, p]), under a window W its last W - 1 tokens, and where A decays or B
    has a weight also w [B, S, H], the log weight of each token as of the last step. `state` continues a run. Raises
    ValueError where sizes, devices or states do not fit.

    >>> import torch
    >>> from dsf import System, I, Scaled
    >>> ones = torch.ones(1, 1, 1, 1)
    >>> y, x = scan(System(A=0.5 * I, B=ones, C=ones), torch.ones(1, 3, 1, 1))
    >>> y.flatten().tolist()
    [1.0, 1.5, 1.75]
    """
    check_drive(system, u)
    check_state(system, u, state)
    check_state(system, u, getattr(system, "x0", None))
    if isinstance(system, Bidirectional):
        return system.combine(scan(system.forward, u)[0], scan(system.backward, u.flip(1))[0].flip(1)), None
    if isinstance(system, Feedback):
        return _feedback(system, u, state)
    if isinstance(system.B, Features):
        return run_pairs(system, u, state)
    drive = driven(system, u)
    x = initial_state(system, drive) if state is None else state
    outputs = []
    for step, now in zip(system.steps(u.shape[1]), drive.unbind(1), strict=True):
        x, y = step.step(x, now)
        outputs.append(y)
    y = torch.stack(outputs, 1) if outputs else _a_step(system).read(x, drive.sum(1))[:, None][:, :0]
    return (normalise(system, y) if system.normalised else y), x


def initial_state(system: System, drive: torch.Tensor) -> torch.Tensor:
    """x0, or zeros of the shape, dtype and device that the first write would give."""
    if system.x0 is not None:
        return system.x0
    with torch.no_grad():  # only its shape and dtype are wanted
        step = _a_step(system)
        write = step.write(torch.zeros_like(drive[:, 0] if drive.shape[1] else drive.sum(1)))
        write = torch.zeros_like(step.A.apply(torch.zeros_like(write)) + write)  # A may be complex where B is not
    return write.expand(drive.shape[0], drive.shape[2], system.state_size, write.shape[-1]).clone()


def _a_step(system: System) -> System:
    """The system of step 0, for its shapes; of zeros where there is no step at all (T = 0)."""
    return system.map(lambda leaf: leaf[:, 0] if leaf.shape[1] else leaf.sum(1))


def driven(system: System, u: torch.Tensor) -> torch.Tensor:
    """What is written: the drive, and a channel of ones where the system carries its normaliser."""
    drive = u if system.u is None else system.u
    return with_ones(drive) if system.normalised else drive


def with_ones(u: torch.Tensor) -> torch.Tensor:
    """u with a channel of ones: the system then carries its own normaliser."""
    return torch.cat([u, torch.ones_like(u[..., :1])], -1)


def normalise(system: System, y: torch.Tensor) -> torch.Tensor:
    """y / (y[ones] + e^sink), divided by max(|.|, floor) where the system has a floor."""
    below = y[..., -1:] if system.sink is None else y[..., -1:] + system.sink.exp()
    return y[..., :-1] / (below if system.floor is None else below.abs().clamp(min=system.floor))


def _feedback(system: Feedback, u: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
    state = system.zero_state(torch.zeros_like(u.sum(1))[:, None]) if state is None else state
    outputs = []
    for step, now in zip(system.steps(u.shape[1]), u.unbind(1), strict=True):
        state, y = step.step(0, state, now)
        outputs.append(y)
    return (torch.stack(outputs, 1) if outputs else torch.zeros_like(u)), state
