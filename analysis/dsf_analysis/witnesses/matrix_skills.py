"""Signals at which a head's transition is a given orthogonal matrix: by reflections, or by solving for them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.optimize import least_squares

from dsf import Architecture, System
from dsf.domains import Domain
from dsf.sets import Interval, Polar

from ..spectra import spectrum
from ..subjects import has_infinite_state
from .corners import SATURATION, Signals, draw, ungrouped
from .representations import reflections

EXACT = 1e-9
TRIES = 4000
SIZE = 3  # at which the template of a reflection is looked for


@dataclass(frozen=True)
class Template:
    """How a token makes I - 2 v v^T: signals that take v, and values of all others; `idle` makes I.

    reader: the vector that C is, which may be any; None where no signal is.
    """

    vectors: tuple[str, ...]
    active: dict[str, Any]
    idle: dict[str, Any]
    reader: str | None


class MatrixSearch:
    """The orthogonal matrices that one head of an architecture without feedback can be."""

    def __init__(self, a: Architecture, seed: int = 0):
        self.architecture, self.alone, self.seed = a, ungrouped(a), seed

    @cached_property
    def usable(self) -> bool:
        bounds = self.architecture.bounds()
        constant = bounds.dependence()["A"] == "const"  # such a head does not turn by the token
        other = bool(self.architecture.reserved_names)  # a drive that is transformed
        return not (has_infinite_state(bounds) or bounds.normalised or constant or other)

    @property
    def reflections_per_token(self) -> int:
        return max(1, self.architecture.steps) if self.template else 0

    @cached_property
    def template(self) -> Template | None:
        """A reflection, found by trying corners beside a vector; checked at random vectors."""
        if not self.usable:
            return None
        generator = torch.Generator().manual_seed(self.seed)
        vectors = [k for k, d in self.alone.signals.items() if d.kind == "vector" and not d.const and not d.value]
        for reader in [*vectors, None]:
            table = draw(self.alone, SIZE, 2, TRIES, generator)
            takes = {k: torch.rand(TRIES, generator=generator) < 0.5 for k in vectors if k != reader}
            shape = (TRIES, *((self.alone.steps,) if self.alone.steps else ()), SIZE)
            v = torch.nn.functional.normalize(torch.randn(shape, generator=generator, dtype=torch.float64), dim=-1)
            for k, chosen in takes.items():
                d = self.alone.signals[k]
                if d.steps != self.alone.steps or not (d.unit or d.ball or _holds_ball(d)):
                    takes[k] = chosen = torch.zeros_like(chosen)
                same = table[k].dtype
                if chosen.any():  # where none is, v may have an axis of micro-steps that the signal has not
                    table[k][:, chosen] = v[chosen].to(same)
                constant = ~chosen
                table[k][:, constant] = table[k][:, constant, ..., :1].expand_as(table[k][:, constant]).clone()
            for k in vectors:
                if k not in takes and k != reader:
                    table[k] = table[k][..., :1].expand_as(table[k]).clone()
            found = self._fitting(table, v, reader)
            if found is not None:
                used = tuple(k for k, chosen in takes.items() if chosen[found])

                def fill(token: int, found: int = found, table: dict = table) -> dict[str, Any]:
                    rows = {}
                    for k, d in self.alone.signals.items():
                        x = table[k][0 if d.const else token, found]
                        rows[k] = x if d.kind != "vector" or d.value else x[..., :1]
                    return rows

                return Template(used, fill(1), fill(0), reader)
        return None

    def _fitting(self, table: dict[str, torch.Tensor], v: torch.Tensor, reader: str | None) -> int | None:
        """A candidate with Q A = (I - 2 v v^T) Q for token 1 and Q A = Q for token 0, Q the rows that C can be."""
        signals = {}
        for k, d in self.alone.signals.items():
            x = table[k]
            signals[k] = x[0] if d.const else x[None]
        try:
            system = self.alone(**signals)
            assert isinstance(system, System)
            A = system.dense()[0]
        except (ValueError, TypeError, AssertionError):
            return None
        A = A.expand(2, TRIES, *A.shape[-2:])
        wanted = torch.eye(SIZE, dtype=torch.float64).expand(TRIES, SIZE, SIZE)
        for each in v.unbind(1) if self.alone.steps else (v,):
            wanted = wanted - 2 * each[:, :, None] * (each[:, None] @ wanted)
        Q = self._readings(signals, reader)
        if Q is None and A.shape[-1] != SIZE:
            return None
        Q = torch.eye(SIZE, dtype=A.dtype) if Q is None else Q.to(A.dtype)
        moved = (Q @ A[1] - wanted.to(A.dtype) @ Q).abs().amax((-1, -2))
        held = (Q @ A[0] - Q).abs().amax((-1, -2))
        independent = torch.linalg.matrix_rank(Q) == SIZE
        good = (moved < EXACT) & (held < EXACT) & independent
        return int(good.nonzero()[0]) if good.any() else None

    def _readings(self, signals: Signals, reader: str | None) -> torch.Tensor | None:
        """Rows that C is where the reader is e_1, ..., e_n: [candidates, n, N]."""
        if reader is None:
            return None
        base = {
            k: s if self.alone.signals[k].const else s[:, :1].expand(1, SIZE, *s.shape[2:]) for k, s in signals.items()
        }
        shape = base[reader].shape
        eye = torch.eye(SIZE, dtype=base[reader].dtype)
        eye = eye.reshape(SIZE, *((1,) * (len(shape) - 3)), SIZE)
        C = self.alone(**(base | {reader: eye[None].expand(shape).clone()})).C  # type: ignore[union-attr]
        if not isinstance(C, torch.Tensor):
            return None
        return C.expand(1, SIZE, TRIES, C.shape[-1])[0].transpose(0, 1)

    # ---------------------------------------------------------------------------------------------------------- rows
    def rows(self, matrices: list[np.ndarray]) -> list[Signals] | None:
        """Signals at which A is each of these orthogonal d x d matrices (d = 1 also complex numbers), or None."""
        if not self.usable:
            return None
        d = len(matrices[0])
        if self.template and not np.iscomplexobj(matrices[0]):
            factors = [reflections(R) for R in matrices]
            if max(map(len, factors), default=0) <= self.reflections_per_token:
                return [self.reflect(f, d) for f in factors]
            if self.alone.steps:
                return None  # a token has no other factors
        return self.solved(matrices)

    def reflect(self, vectors: list[np.ndarray], d: int, read: np.ndarray | None = None) -> Signals:
        """The signals of (I - 2 v_r v_r^T) ... (I - 2 v_1 v_1^T), read by a vector (default: a generic one)."""
        t = self.template
        assert t is not None
        J, found = self.alone.steps, {}
        for k, domain in self.alone.signals.items():
            x = t.active[k] if vectors or domain.const else t.idle[k]
            if domain.kind == "vector" and not domain.value:
                x = x.expand(*x.shape[:-1], d).clone()
            if J and domain.steps:
                idle = t.idle[k] if domain.kind != "vector" else t.idle[k].expand(*x.shape[:-1], d)
                x = x.clone()
                x[len(vectors) :] = idle[len(vectors) :]
            if k in t.vectors:
                unit = torch.zeros(d, dtype=x.dtype)
                unit[0] = 1
                x = unit.expand_as(x).clone()
                for j, v in enumerate(vectors):
                    x[... if not J else j] = torch.tensor(v, dtype=x.dtype)
            if k == t.reader:
                w = generic(d) if read is None else read
                w = w / np.linalg.norm(w) if domain.unit or domain.ball else w
                x = torch.tensor(w, dtype=x.dtype).expand_as(x).clone()
            found[k] = x
        return found

    @cached_property
    def size_at_one(self) -> int | None:
        """The state size N at n = 1; None where A fits any size, or is a function of nothing."""
        if not self.usable:
            return None
        signals, _ = self.alone.sample(1, 1, 1, 1, 1, generator=torch.Generator().manual_seed(0))
        try:
            return int(self.alone(**signals).dense().shape[-1])  # type: ignore[union-attr]
        except ValueError:
            return None

    def solved(self, matrices: list[np.ndarray]) -> list[Signals] | None:
        """By least squares at n = 1 or n = d, where the spectrum allows; smaller matrices are filled up by I."""
        d, whole = len(matrices[0]), spectrum(self.architecture)
        if not self.usable or not all(z in whole for R in matrices for z in np.linalg.eigvals(R).tolist()):
            return None
        for n in dict.fromkeys((1, d)):
            N = n * self.size_at_one if self.size_at_one else 0
            if N < d or N > 2 * d:
                continue
            whole_ones = [
                np.block([[R, np.zeros((d, N - d))], [np.zeros((N - d, d)), np.eye(N - d)]]) for R in matrices
            ]
            for attempt in range(3):
                found = _Solver(self.alone, n, self.seed + attempt).all(whole_ones)
                if found is not None:
                    return found
        return None


def generic(d: int) -> np.ndarray:
    """A fixed vector in general position."""
    return np.random.default_rng(d).uniform(0.5, 1.5, d)


def _holds_ball(d: Domain) -> bool:
    return (
        isinstance(d.set, Interval)
        and d.set.lo <= -1
        and d.set.hi >= 1
        or not isinstance(d.set, Interval)
        and 1 in d.set
    )


class _Solver:
    """Least squares for the token signals of which A is made, inside their domains; all others are fixed."""

    def __init__(self, a: Architecture, n: int, seed: int):
        self.a, self.n = a, n
        self.rng = np.random.default_rng(seed)
        table = draw(a, n, 1, 1, torch.Generator().manual_seed(seed))
        self.fixed = {k: table[k][0, 0] if d.const else self._generic(k, table[k][0, 0]) for k, d in a.signals.items()}
        self.shapes: dict[str, tuple[int, ...]] = {}
        base = self._transition(self.fixed)
        for k, d in a.signals.items():
            if d.const or d.value or d.kind == "index":
                continue
            self.shapes = {k: tuple(self.fixed[k].shape)}
            lo, hi = self._box()
            other = self._transition(self._signals(self._start(lo, hi)))
            if base.shape == other.shape and np.allclose(base, other, equal_nan=True):
                continue
            self.moving = {**getattr(self, "moving", {}), **self.shapes}
        self.shapes = getattr(self, "moving", {})

    def _generic(self, k: str, x: torch.Tensor) -> torch.Tensor:
        d = self.a.signals[k]
        if d.kind == "index" or d.value:
            return x
        values = torch.tensor(np.random.default_rng(len(k)).uniform(0.5, 1.5, tuple(x.shape)))
        if d.unit or d.ball:
            return torch.nn.functional.normalize(values, dim=-1) if d.own_axes else values
        if isinstance(d.set, Interval):
            return values.clamp(d.set.lo, d.set.hi)
        return values * (1 + 0.3j) if 1.5 + 0.45j in d.set else x

    def all(self, matrices: list[np.ndarray]) -> list[Signals] | None:
        rows = []
        for R in matrices if self.shapes else ():
            row = next(filter(None, (self._one(R) for _ in range(4))), None)
            if row is None:
                return None
            rows.append(row)
        return rows or None

    def _start(self, lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
        inner = np.clip(lo, -3, 3), np.clip(hi, -3, 3)
        return inner[0] + (inner[1] - inner[0]) * self.rng.uniform(0.1, 0.9, len(lo))

    def _one(self, R: np.ndarray) -> Signals | None:
        lo, hi = self._box()
        target = np.asarray(R, dtype=complex)

        def residual(z: np.ndarray) -> np.ndarray:
            A = self._transition(self._signals(z))
            off = (A - target).flatten() if A.shape == target.shape else np.full(target.size, 1e6)
            return np.nan_to_num(np.concatenate([np.real(off), np.imag(off)]), nan=1e6, posinf=1e6, neginf=-1e6)

        # a solution at an end is found from both sides, and cut back
        done = least_squares(residual, self._start(lo, hi), xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=60)
        found = np.clip(done.x, lo, hi)
        return self._signals(found) if np.abs(residual(found)).max() <= EXACT else None

    def _box(self) -> tuple[np.ndarray, np.ndarray]:
        lows, highs = [], []
        for k, shape in self.shapes.items():
            count = int(np.prod(shape, dtype=int))
            for lo, hi in self._ranges(self.a.signals[k]):
                lows += [max(lo, -SATURATION)] * count
                highs += [min(hi, SATURATION)] * count
        return np.array(lows), np.array(highs)

    def _ranges(self, d: Domain) -> list[tuple[float, float]]:
        if d.unit:
            return [(-math.inf, math.inf)]  # its length does not matter: `_signals` divides by it
        if isinstance(d.set, Interval):
            return [(d.set.lo, d.set.hi)]
        if isinstance(d.set, Polar):
            return [(d.set.r.lo, d.set.r.hi), (d.set.theta.lo, d.set.theta.hi)]
        return [(d.set.re.lo, d.set.re.hi), (d.set.im.lo, d.set.im.hi)]

    def _signals(self, z: np.ndarray) -> Signals:
        found, at = dict(self.fixed), 0
        for k, shape in self.shapes.items():
            d, count = self.a.signals[k], int(np.prod(shape, dtype=int))
            parts = []
            for _ in self._ranges(d):
                parts.append(torch.tensor(z[at : at + count]).reshape(shape))
                at += count
            x = parts[0]
            if len(parts) == 2:
                x = parts[0] * torch.exp(1j * parts[1]) if isinstance(d.set, Polar) else torch.complex(*parts)
            found[k] = torch.nn.functional.normalize(x, dim=-1) if d.unit else x
        return found

    def _transition(self, row: Signals) -> np.ndarray:
        signals = {k: row[k][None] if s.const else row[k][None, None, None] for k, s in self.a.signals.items()}
        system = self.a(**signals)
        assert isinstance(system, System)
        return system.dense()[0, 0, 0].numpy()
