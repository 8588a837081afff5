"""Any step function as A_t, B_t, C_t, D_t along its trajectory: the Jacobian, by torch.func."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.func import jacrev, vmap

from .operators import Dense
from .system import System


@dataclass(frozen=True, eq=False)
class Linearization:
    """The trajectory of a step function, and the linear System of its deviations from it.

    system: dx_t = A_t dx_{t-1} + B_t du_t, dy_t = C_t dx_{t-1} + D_t du_t (reads="before": y is a function of the
    state that entered the step). x [B, T+1, N] from x0 on, y [B, T, r], u [B, T, m].
    """

    system: System
    x: torch.Tensor
    y: torch.Tensor
    u: torch.Tensor

    def __repr__(self) -> str:
        return f"Linearization along {self.u.shape[1]} steps\n{self.system}"


def linearize(step: Callable, x0: torch.Tensor, u: torch.Tensor) -> Linearization:
    """Jacobians of step(x, u) -> (x, y) along its trajectory from x0 under u.

    A_t = dx_t/dx_{t-1}, B_t = dx_t/du_t, C_t = dy_t/dx_{t-1}, D_t = dy_t/du_t at the trajectory's points.

    Args:
        step: torch function of ONE sequence: (x [N], u [m]) -> (x [N], y [r]), traceable by torch.func (no in-place
            change of its arguments, no .item()). y may have any shape with r entries, also none ([]).
        x0: initial state [N], or [B, N].
        u: input [T, m], or [B, T, m].

    Returns a Linearization with `.system` (H = 1: A [B, T, 1, N, N] ...), `.x`, `.y`, `.u`.
    Raises TypeError or ValueError where step, x0 and u do not fit, or where the trajectory is not finite.

    >>> import torch
    >>> def pendulum(x, u):
    ...     return torch.stack([x[0] + 0.1 * x[1], x[1] - 0.1 * torch.sin(x[0]) + 0.1 * u[0]]), x[0]
    >>> line = linearize(pendulum, torch.zeros(2), torch.zeros(5, 1))
    >>> line.system.A.M[0, 0, 0]
    tensor([[ 1.0000,  0.1000],
            [-0.1000,  1.0000]])
    """
    for name, tensor, dims in (("x0", x0, (1, 2)), ("u", u, (2, 3))):
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
            raise TypeError(f"{name} should be a floating-point tensor")
        if tensor.dim() not in dims:
            shapes = "[N] or [B, N]" if name == "x0" else "[T, m] or [B, T, m]"
            raise ValueError(f"{name} should be {shapes}, got shape {tuple(tensor.shape)}")
    u = u[None] if u.dim() == 2 else u
    x = x0[None] if x0.dim() == 1 else x0
    if x.shape[0] not in (1, u.shape[0]):
        raise ValueError(f"x0 holds {x.shape[0]} sequences, but u {u.shape[0]}")
    x = x.expand(u.shape[0], -1)
    if u.shape[1] == 0:
        raise ValueError("a trajectory needs at least one step: u has T = 0")

    def flat(z, v):
        result = step(z, v)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(f"step should return a pair (x, y), got {type(result).__name__}")
        after, y = result
        if after.shape != z.shape:
            raise ValueError(f"step should return a state of shape {tuple(z.shape)}, got {tuple(after.shape)}")
        return after, y.reshape(-1)

    states, outputs = [x], []
    for t in range(u.shape[1]):
        x, y = vmap(flat)(states[-1], u[:, t])
        states.append(x)
        outputs.append(y)
    xs, ys = torch.stack(states, 1), torch.stack(outputs, 1)
    if not (torch.isfinite(xs).all() and torch.isfinite(ys).all()):
        raise ValueError("the trajectory is not finite: the step diverges, or x0 or u holds NaN")
    (A, B), (C, D) = vmap(vmap(jacrev(flat, argnums=(0, 1))))(xs[:, :-1], u)
    A, B, C, D = (Dense(M[:, :, None].detach()) for M in (A, B, C, D))
    return Linearization(System(A=A, B=B, C=C, D=D, reads="before", varying=True), xs, ys, u)
