"""Which classical cell the step of an architecture with feedback is: by what it computes, never by a name.

The body of the architecture is run on random fp64 signals, small and large, and compared with each cell's equation
under every assignment of signals to its gates, and of matrices to them. Equal to 1e-12 on all of them means: the same
function, wherever it is given by the same smooth expression as there. A body that is another function outside the
range of the probes (entries up to about 30) would pass: dsf's functions have no such pieces but by numbers that the
body writes itself.
"""

from __future__ import annotations

from itertools import permutations, product
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch

from dsf.feedback import Feedback
from dsf.operators import Dense

from .cells import CELLS, Cell

SCALES = (1.0, 0.05, 0.3, 3.0, 10.0)  # of the probes
EXACT = 1e-12
DRIVE = None  # stands for the drive among the names of signals


class Plan(NamedTuple):
    """A cell, and which signals are its pre-activations and matrices, in its order."""

    cell: Cell
    vectors: tuple[str | None, ...]
    matrices: tuple[str, ...]


# --------------------------------------------------------------------------------------------------------- recognition
_PLANS: WeakKeyDictionary[Any, Plan | None] = WeakKeyDictionary()


def plan_of(architecture: Any) -> Plan | None:
    """The cell that an architecture with feedback is, or None; found once."""
    if architecture not in _PLANS:
        with torch.no_grad():
            _PLANS[architecture] = _plan(architecture)
    return _PLANS[architecture]


def _plan(architecture: Any) -> Plan | None:
    kinds = {name: domain.kind for name, domain in architecture.signals.items()}
    matrices = [name for name, kind in kinds.items() if kind == "matrix"]
    vectors = [DRIVE, *(name for name in kinds if name not in matrices)]
    fitting = [c for c in CELLS if (c.vectors, c.matrices) == (len(vectors), len(matrices))]
    if not fitting or "index" in kinds.values():
        return None
    probes = [_probe(architecture, scale, seed) for seed, scale in enumerate(SCALES)]
    for cell in fitting:
        for order in product(permutations(vectors), permutations(matrices)):
            if all(_agrees(cell, *order, *probe) for probe in probes):
                return Plan(cell, *order)
    return None


def _probe(architecture: Any, scale: float, seed: int):
    """Signals, a state, and the step of it; and the same where x is y."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return scale * torch.randn(shape, generator=generator, dtype=torch.float64)

    B, H, n = 2, 2, 3
    values = {
        name: Dense(random(1, 1, H, n, n)) if d.kind == "matrix" else random(B, 1, H, n if d.own_axes else 1)
        for name, d in architecture.signals.items()
    }
    u, x, y = random(B, H, n), random(B, H, n), random(B, H, n)
    system = Feedback(architecture, values, {})
    parts = {DRIVE: u} | {k: v.M[0, 0] if isinstance(v, Dense) else v[:, 0] for k, v in values.items()}
    steps = [(a, y, *system.step(0, (a[..., None], y), u)[0]) for a in (x, y)]
    return parts, [(a, y, after[..., 0], out) for a, y, after, out in steps]


def _agrees(cell: Cell, vectors: tuple, matrices: tuple, parts: dict, steps: list) -> bool:
    a = [parts[name] for name in vectors]
    w = [lambda y, M=parts[name]: (M @ y[..., None])[..., 0] for name in matrices]
    (x, y, found_x, found_y), same = steps
    if not cell.has_memory:  # after one step x is y: then x need not be known
        if not torch.equal(found_x, found_y):
            return False
        x, y, found_x, found_y = same
    return all(_close(*pair) for pair in zip(cell.step(a, w, x, y), (found_x, found_y), strict=True))


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool(((a - b).abs() <= EXACT * b.abs().clamp(min=1.0)).all())  # NaN is no agreement
