"""Systems whose operators read y_{t-1}: LSTM, GRU, Elman. They exist along a trajectory only.

Two different matrices, never confused: the frozen-gate A_t of the body along a trajectory (not unique: Elman is A = 0
with drive tanh(..), and equally A = diag(tanh(a)/a) R), and the Jacobian of (x, y), which every report uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from .system import System
from .tree import leaves, tree_map, tree_steps

State = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Feedback:
    """A system with operators that are functions of y_{t-1}. Its state is (x [B,H,n,1], y [B,H,n])."""

    architecture: Any
    values: dict[str, Any]  # signals, every leaf [B, T, H, ...]
    signals: dict[str, torch.Tensor] = field(repr=False)

    def at(self, t: int, y: torch.Tensor, u: torch.Tensor) -> System:
        """The linear system of step t, given y_{t-1} and u_t [B, H, n]: leaves [B, 1, H, ...]."""
        return self.architecture.evaluate(self.slice(t, t + 1).values, y[:, None], u[:, None])

    def step(self, t: int, state: State, u: torch.Tensor) -> tuple[State, torch.Tensor]:
        """(x_{t-1}, y_{t-1}), u_t -> (x_t, y_t), y_t."""
        system = self.at(t, state[1], u)
        x, y = system.at(0).step(state[0], u if system.u is None else system.u[:, 0])
        return (x, y), y

    @property
    def input_size(self) -> int | None:
        """n, where a signal tells: u_t and y_t are n-vectors. None: every signal is a scalar."""
        signals = self.architecture.signals
        sized = [leaf.shape[-1] for k, v in self.values.items() if signals[k].own_axes for leaf in leaves(v)]
        return max(sized, default=None)

    def zero_state(self, u: torch.Tensor) -> State:
        zero = torch.zeros_like(u[:, 0])
        return zero[..., None], zero

    def steps(self, length: int) -> Iterator[Feedback]:
        """The systems of the steps 0..length-1, one after the other: for loops (`at` cuts every leaf at every call)."""
        for parts in tree_steps(tuple(self.values.values()), lambda leaf: leaf.split(1, 1), length):
            yield replace(self, values=dict(zip(self.values, parts, strict=True)), signals={})

    def slice(self, start: int, stop: int) -> Feedback:
        """The system of the steps start..stop-1."""
        return self.map(lambda leaf: leaf[:, start:stop] if leaf.shape[1] > 1 else leaf)

    def rearranged(self, f: Callable) -> Feedback:
        """The same system with f, which selects or moves along batch and time, applied to every signal."""
        return self.map(f)

    def map(self, f: Callable) -> Feedback:
        """The same system with f applied to every signal [B, T, H, ...]."""
        return replace(self, values={k: tree_map(f, v) for k, v in self.values.items()}, signals={})

    def along(self, y: torch.Tensor, u: torch.Tensor, state: State | None = None) -> System:
        """The frozen-gate linear System on a trajectory y, u [B,T,H,n] that started from `state` (default zeros).

        Not unique; its eigenvalues are no stability.
        """
        frozen = self.architecture.evaluate(self.values, _previous(y, state and state[1]), u)
        return replace(frozen, x0=state[0]) if state else frozen

    def jacobian(self, t: int, state: State, u: torch.Tensor) -> torch.Tensor:
        """d(x_t, y_t) / d(x_{t-1}, y_{t-1}) at step t: [B, H, 2n, 2n]."""
        return self._jacobian_of(lambda z: self.step(t, z, u)[0], state)

    def jacobians(self, y: torch.Tensor, x: torch.Tensor, u: torch.Tensor, state: State | None = None) -> torch.Tensor:
        """The Jacobians along a trajectory of outputs y and states x [B,T,H,n] (of steps 0..T-1): [B, T, H, 2n, 2n].

        All steps at once: the trajectory is known, so time is one more batch axis. `state` is where it started.
        """
        B, T = y.shape[:2]

        def as_batch(leaf):
            return leaf.expand(B, T, *leaf.shape[2:]).flatten(0, 1)[:, None] if leaf.shape[1] > 1 else leaf

        x, y = _previous(x, state and state[0][..., 0]), _previous(y, state and state[1])
        before = x.flatten(0, 1)[..., None], y.flatten(0, 1)
        return self.map(as_batch).jacobian(0, before, u.flatten(0, 1)).unflatten(0, (B, T))

    def _jacobian_of(self, step, state: State) -> torch.Tensor:
        n = state[0].shape[-2]

        def flat(s):
            return torch.cat([s[0][..., 0], s[1]], -1)

        def summed(z):  # (batch, head) pairs do not read each other: one backward per output row serves all
            return flat(step((z[..., :n, None], z[..., n:]))).sum((0, 1))

        jacobian = torch.autograd.functional.jacobian(summed, flat(state), vectorize=True)
        assert isinstance(jacobian, torch.Tensor)
        return jacobian.permute(1, 2, 0, 3)

    def __repr__(self) -> str:
        from .printing import describe_feedback

        return describe_feedback(self)


def _previous(z: torch.Tensor, start: torch.Tensor | None) -> torch.Tensor:
    """z_{t-1} of a trajectory z [B, T, ...]: `start` (default zeros) before its first step."""
    first = torch.zeros_like(z[:, :1]) if start is None else start[:, None]
    return torch.cat([first, z[:, :-1]], 1)
