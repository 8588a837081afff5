"""The representation: four structured operators, and the one step that everything else must agree with.

    x_t = A_t x_{t-1} + B_t u_t          y_t = C_t x_t + D_t u_t          (reads="before": y_t = C_t x_{t-1} + D_t u_t)

Per head and step x is [n, p]. B a vector: u_t is written as b u_t^T. C a vector: y_t = C^T x_t. B (or C) an operator:
it acts on the vector u_t (or gives the vector y_t), and p = 1. On tensors every leaf is [B, T, H, ...], where T = 1
means constant in time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np
import torch

from .algebra import as_matrix, dense, dependence, is_square, rows
from .composites import Writes
from .features import DYNAMICS, Features, decay_and_window
from .operators import Operator, RealPart
from .tree import leaves, tree_map, tree_steps
from .values import Bound, MatrixBound, column, is_one, is_zero, value

OPERATORS = ("A", "B", "C", "D")
PARTS = (*OPERATORS, "u", "sink")  # all that holds leaves


@dataclass(frozen=True, eq=False)
class System:
    """x_t = A_t x_{t-1} + B_t u_t, y_t = C_t x_t + D_t u_t, on tensors, symbols, names or bounds.

    u: the drive, where the body transforms it.  readout: a function of the STATE, before C.  normalised: y / y[ones],
    divided by max(|.|, floor) where a floor is given; a sink s adds e^s to y[ones].  x0: the initial state [B, H, n, p]
    (default 0).
    """

    A: Operator
    B: Any
    C: Any
    D: Any = 0
    u: Any = None
    readout: Callable | None = None
    normalised: bool = False
    floor: float | None = None
    sink: Any = None
    reads: str = "after"
    x0: torch.Tensor | None = None
    architecture: Any = None
    signals: dict[str, Any] | None = field(default=None, repr=False)
    varying: bool = False  # a bare system of T = 1 that is one step of something that varies: not constant in time

    def __post_init__(self):
        if not isinstance(self.A, Operator):
            raise TypeError(f"A must be an operator, such as diag(a), g * I or Dense(M); got {type(self.A).__name__}")
        for name in "BC":
            if isinstance(part := getattr(self, name), (int, float, complex, str)) or part is None:
                raise TypeError(f"{name} should be a vector or an operator, got {part!r}")
        if self.reads not in ("after", "before"):
            raise ValueError(f'reads is "after" or "before" the update, got {self.reads!r}')
        if self.normalised and (self.input_is_vector or self.output_is_vector):
            raise ValueError("a normalised system has a vector B and a vector C: the normaliser is one more channel")
        if self.sink is not None and not self.normalised:
            raise ValueError("a sink is part of a normaliser: write normalised(system, sink=s)")
        if isinstance(self.B, Features) or isinstance(self.C, Features):
            self._check_features()

    def _check_features(self) -> None:
        """The state of infinite features is the past itself: nothing but a weighted sum of it can be read."""
        plain = is_zero(self.D) and self.reads == "after" and self.readout is None and self.x0 is None
        if not (isinstance(self.B, Features) and isinstance(self.C, Features) and plain):
            raise ValueError(
                f'infinite features stand in both B and C, {DYNAMICS}, D = 0, reads="after" and no readout or x0'
            )
        if not is_one(self.C.weight) or self.B.log_kernel != self.C.log_kernel:
            raise ValueError("B and C take one and the same infinite features, and only those in B a weight")
        decay_and_window(self.A)

    def map(self, f: Callable) -> System:
        """The same system with f applied to every leaf of A, B, C, D (of the transformed drive, of a sink)."""
        parts = {name: tree_map(f, getattr(self, name)) for name in PARTS}
        return replace(self, **parts, signals=None)

    # ------------------------------------------------------------------------------------------------- its sizes
    @property
    def leaves(self) -> list:
        return leaves(tuple(getattr(self, name) for name in PARTS))

    def _largest(self, axis: int) -> int:
        return max((leaf.shape[axis] for leaf in self.leaves), default=1)

    @property
    def length(self) -> int:
        """T; 1 where nothing varies in time."""
        return self._largest(1)

    @property
    def batch(self) -> int:
        return self._largest(0)

    @property
    def heads(self) -> int:
        return self._largest(2)

    @property
    def micro_steps(self) -> int:
        """J, or 0."""
        return len(self.B.A.factors()) if isinstance(self.B, Writes) else 0

    @property
    def state_size(self) -> int:
        """n, the number of rows of the state."""
        found = [rows(self.A), rows(self.B) if self.input_is_vector else None]
        for vector in (self.B.b if isinstance(self.B, Writes) else self.B, _read_vector(self.C)):
            vector = vector.x if isinstance(vector, Features) else value(vector)
            found.append(None if vector is None or isinstance(vector, Operator) else vector.shape[-1])
        if self.output_is_vector:
            found.append(rows(self.C.T))
        square_B, square_C = self.input_is_vector and is_square(self.B), self.output_is_vector and is_square(self.C)
        if isinstance(self.D, Operator):  # beside B = I or C = I, which fit any size
            found += [rows(self.D.T) if square_B else None, rows(self.D) if square_C else None]
        if square_B and hasattr(self.u, "shape"):
            found.append(self.u.shape[-1])
        found.append(None if self.x0 is None else self.x0.shape[-2])
        return max((n for n in found if n), default=1)

    @property
    def input_is_vector(self) -> bool:
        """Is B an operator, so that it acts on vectors u_t? Else each channel of u_t is written on its own."""
        return isinstance(self.B, Operator) and not isinstance(self.B, Writes)

    @property
    def output_is_vector(self) -> bool:
        """Is C an operator, so that y_t is a vector? Else each channel of the state is read on its own."""
        return isinstance(self.C, Operator) and not isinstance(self.C, RealPart)

    @property
    def input_size(self) -> int | None:
        """m, where B is an operator and u_t therefore an m-vector; None where B is a vector and u_t is free."""
        return _columns(self.B, self.state_size) if self.input_is_vector else None

    @property
    def output_size(self) -> int | None:
        """r, where C is an operator and y_t therefore an r-vector; None where C is a vector."""
        return _columns(self.C.T, self.state_size) if self.output_is_vector else None

    # ----------------------------------------------------------------------------------------------- its operators
    def at(self, t: int) -> System:
        """The system of step t alone: leaves [B, H, ...]."""
        return self.map(lambda leaf: leaf[:, t if leaf.shape[1] > 1 else 0])

    def steps(self, length: int) -> Iterator[System]:
        """The systems of the steps 0..length-1, one after the other: for loops (`at` cuts every leaf at every call)."""
        for parts in tree_steps(tuple(getattr(self, name) for name in PARTS), lambda leaf: leaf.unbind(1), length):
            yield replace(self, **dict(zip(PARTS, parts, strict=True)), signals=None)

    def slice(self, start: int, stop: int) -> System:
        """The system of the steps start..stop-1."""
        return self.rearranged(lambda leaf: leaf[:, start:stop] if leaf.shape[1] > 1 else leaf)

    def rearranged(self, f: Callable) -> System:
        """The same system with f, which selects or moves along batch and time, applied to every leaf."""
        return replace(self.map(f), varying=self.varying or self.length > 1)

    @property
    def outline(self) -> System:
        """Its first step, with the structure of all of them (see deferred.py for systems that are not computed yet)."""
        return self if self.length == 1 else self.slice(0, 1)

    def dense(self) -> Any:
        """A as matrices [..., n, n]; on symbols a sympy Matrix."""
        known = [value(leaf) for leaf in self.leaves if isinstance(leaf, (torch.Tensor, np.ndarray))]
        return as_matrix(dense(self.A, self.state_size, next((x for x in known if _is_float(x)), None)))

    def dense_operators(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """A [B,T,H,n,n], B [..,n,m], C [..,r,n], D [..,r,m] as matrices, of size 1 where an axis does not vary.

        A vector B or C means m = 1, r = 1. Raises ValueError where the system is not linear with a finite state.
        """
        if isinstance(self.C, RealPart):
            raise ValueError(
                "Re(c^T x) is not complex linear, and so has no matrix: take c, or the real form of the state"
            )
        return self._matrices()

    def _matrices(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """The same; of a RealPart C, the c^T in it."""
        self.check_linear()
        n, like = self.state_size, next((v for v in map(value, self.leaves) if _is_float(v)), None)
        if like is None:
            raise ValueError(
                "the operators A, B, C, D hold numbers only: no tensor says of what size, dtype and device they are"
            )
        m = self.input_size or 1
        B = dense(self.B, m, like) if self.input_is_vector else value(self.B)[..., None]
        vector = _read_vector(self.C)
        C = dense(self.C, n, like) if vector is None else value(vector)[..., None, :]
        D, r, real = value(self.D), C.shape[-2], like.real.dtype
        if isinstance(D, Operator):
            D = dense(D, m, like)
        elif is_zero(D):
            D = torch.zeros(r, m, dtype=real, device=like.device)
        elif r == m:  # a scalar: the same for every channel
            D = column(D) * torch.eye(m, dtype=real, device=like.device)
        else:
            raise ValueError(f"D is a scalar, but y has {r} entries and u has {m}: make D an operator")
        A, B, C = same_dtype(_leading(dense(self.A, n, like)), _leading(B), _leading(C))
        return A, B, C, _leading(D)

    def check_linear(self) -> None:
        """Raises ValueError unless x_t and y_t are linear in a finite x_{t-1} and u_t."""
        if isinstance(self.B, (Features, Writes)) or self.normalised or self.readout:
            raise ValueError("only a linear system with a finite state has matrices A, B, C, D: this one " + _why(self))

    def kernel(self, length: int | None = None) -> torch.Tensor:
        """K[t, s] = C_t A_t ... A_{s+1} B_s (+ D_t at s = t), as [B, H, T, T, r, m]: y = K u, with x0 = 0.

        length: T, for a time-invariant system (default: its own length). Under Re(c^T x), K is real and u must be.
        """
        T = self.length if length is None else length
        if self.length not in (1, T):
            raise ValueError(f"this system varies over {self.length} steps: it has no kernel of length {T}")
        A, B, C, D = (M.expand(self.batch, T, self.heads, *M.shape[3:]) for M in self._matrices())
        rows_ = []
        x = B.new_zeros(self.batch, self.heads, T, A.shape[-1], B.shape[-1])  # response to an impulse at each s
        for t in range(T):
            impulse = torch.nn.functional.one_hot(torch.tensor(t, device=B.device), T)[:, None, None]
            after = A[:, t, :, None] @ x + impulse * B[:, t, :, None]
            read = C[:, t, :, None] @ (after if self.reads == "after" else x)
            rows_.append((read.real if isinstance(self.C, RealPart) else read) + impulse * D[:, t, :, None])
            x = after
        return torch.stack(rows_, 2)

    def dependence(self) -> dict[str, str]:
        """Of what each operator is a function: const < token < window < prefix < state. Read off the bounds.

        A bare system (of no architecture) is const where T = 1 and it is not `varying`, else unknown.
        """
        source = self if _on_bounds(self) else self.architecture and self.architecture.bounds()
        if not source:
            return {name: "unknown" if self.length > 1 or self.varying else "const" for name in OPERATORS}
        return {name: dependence(getattr(source, name)) for name in OPERATORS}

    @property
    def constant(self) -> bool:
        """Is every operator known to be the same at every step and for every token?"""
        return all(of == "const" for of in self.dependence().values())

    # ---------------------------------------------------------------------------------------------------- the step
    def write(self, u: torch.Tensor) -> torch.Tensor:
        """B_t u_t of one step: u [B, H, p] -> [B, H, n, p] (B an operator: u [B, H, m] -> [B, H, n, 1])."""
        if not isinstance(self.B, Operator):
            return column(self.B) * u[..., None, :]
        return self.B.apply(u if isinstance(self.B, Writes) else u[..., None])

    def read(self, x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """C_t x + D_t u_t of one step."""
        x = self.readout(x) if self.readout else x
        if isinstance(self.C, RealPart):
            y = self.C.apply(x)[..., 0, :]
        elif isinstance(self.C, Operator):
            y = self.C.apply(x)[..., 0]
        else:
            y = (column(self.C) * x).sum(-2)
        return y if is_zero(self.D) else y + self.through(u)

    def through(self, u: torch.Tensor) -> torch.Tensor:
        """D_t u_t."""
        return (self.D.apply(u[..., None])[..., 0]) if isinstance(self.D, Operator) else value(self.D) * u

    def step(self, x: torch.Tensor, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(x_{t-1}, u_t) -> (x_t, y_t), of a system of one step (see `at`)."""
        after = self.A.apply(x) + self.write(u)
        return after, self.read(x if self.reads == "before" else after, u)

    def to_control(self) -> System:
        """The same map in control theory's form, x_{t+1} = A x_t + B u_t, y_t = C' x_t + D' u_t (reads="before")."""
        from .control_form import to_control

        return to_control(self)

    def statespace(self, batch: int | None = None, head: int | None = None):
        """One head of a time-invariant system as a python-control StateSpace (extra "control")."""
        from .control_form import statespace

        return statespace(self, batch, head)

    @staticmethod
    def from_control(source: Any) -> System:
        """A System from a discrete-time python-control StateSpace, or from (A, B, C, D) in control's convention."""
        from .control_form import from_control

        return from_control(source)

    def __repr__(self) -> str:
        from .printing import describe_system

        return describe_system(self)

    def _repr_latex_(self) -> str | None:
        from .printing import system_latex

        return system_latex(self)


def _on_bounds(system: System) -> bool:
    return any(isinstance(leaf, (Bound, MatrixBound)) for leaf in system.leaves)


def _is_float(x: Any) -> bool:
    return not isinstance(x, torch.Tensor) or x.is_floating_point() or x.is_complex()


def _columns(A: Operator, n: int) -> int:
    """The number of columns of A, on states of size n."""
    return n if is_square(A) else rows(A.T) or n


def _leading(M: torch.Tensor) -> torch.Tensor:
    """M with the axes [B, T, H] in front, of size 1 where it has none (I, or numbers)."""
    return M.reshape((1,) * (5 - M.dim()) + M.shape)


def same_dtype(*parts: torch.Tensor) -> list[torch.Tensor]:
    """All parts in the dtype that holds each of them."""
    dtype = reduce(torch.promote_types, (part.dtype for part in parts))
    return [part.to(dtype) for part in parts]


def _read_vector(C: Any) -> Any:
    return C.c if isinstance(C, RealPart) else None if isinstance(C, Operator) else C


def _why(system: System) -> str:
    if isinstance(system.B, Features):
        return "has infinite features"
    if isinstance(system.B, Writes):
        return "takes micro-steps"
    return "is normalised" if system.normalised else "has a nonlinear readout"


def flipped(system: Any) -> Any:
    """The system (or Feedback) with its signals in reversed order of time."""
    return system.map(lambda leaf: leaf.flip(1) if leaf.shape[1] > 1 else leaf)
