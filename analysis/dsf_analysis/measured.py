"""Eigenvalues of a converted layer along its recorded input: at some steps, their range, and time constants."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from dsf.composites import Composed
from dsf.converted_layer import ConvertedLayer
from dsf.exact_eigenvalues import eigenvalues
from dsf.features import Features
from dsf.feedback import Feedback
from dsf.operators import Operator, Scaled, Shift

from .spectra import is_real
from .subjects import some_steps, steps_of

STEPS = 24  # of the recorded run, at which eigenvalues are computed


@dataclass(frozen=True)
class Measured:
    """What the eigenvalues are on the recorded input.

    real: their least and largest, where all are real. moduli: the least and the largest |eigenvalue|, of the n largest
    of each step (a feedback state (x, y) has 2n coordinates, and n of them may only copy the others). slowest: the
    time constant -1 / log |lambda| in tokens of a head's largest modulus, in the median over the steps, of the slowest
    head. median: of the median modulus. oo where |lambda| >= 1. They are local: one step's eigenvalues bound the growth
    of products of A_t only where the A_t commute.
    """

    steps: int
    real: tuple[float, float] | None
    moduli: tuple[float, float]
    slowest: float
    median: float


def measure(layer: ConvertedLayer, steps: int = STEPS) -> Measured:
    """Eigenvalues at up to `steps` steps of the recorded input."""
    values = step_eigenvalues(layer, steps)
    moduli = _largest_moduli(layer, values)
    reals = values.real if is_real(values).all() else None
    slowest = moduli[..., 0].flatten(0, 1).median(0).values.max()  # over steps and rows, then heads
    return Measured(
        steps=len(values),
        real=None if reals is None else (reals.min().item(), reals.max().item()),
        moduli=(moduli.min().item(), moduli.max().item()),
        slowest=time_constant(slowest.item()),
        median=time_constant(moduli.median().item()),
    )


def step_eigenvalues(layer: ConvertedLayer, steps: int = STEPS) -> torch.Tensor:
    """Eigenvalues at up to `steps` evenly spaced steps of the recorded run: [steps, B, H, n], feedback [.., 2n].

    Of A_t; of a feedback layer the Jacobian of (x, y) at the state that the run has there. Only these steps are looked
    at. On infinitely many features A_t has one eigenvalue, as often as there are features: n = 1.
    """
    chosen = some_steps(layer.length, steps)
    with torch.no_grad():
        if layer.architecture.feedback:
            return torch.stack([_of_jacobian(*at) for at in layer.visit(chosen)])
        system = steps_of(layer, chosen)
        n = 1 if isinstance(system.B, Features) else system.state_size
        values = eigenvalues(system.A, n)
        if values is None:  # a step at a time: matrices of all would fill the memory
            each = [torch.linalg.eigvals(system.slice(t, t + 1).dense()) for t in range(system.length)]
            values = torch.cat(each, 1)
        B, _, H = layer.drive.shape[:3]
        return values.expand(B, len(chosen), H, -1).movedim(1, 0)


def _of_jacobian(_: int, system: Feedback, u: torch.Tensor, state: tuple | None) -> torch.Tensor:
    return torch.linalg.eigvals(system.jacobian(0, system.zero_state(u[:, None]) if state is None else state, u))


def step_moduli(layer: ConvertedLayer, steps: int = STEPS) -> torch.Tensor:
    """The n largest |eigenvalues| at those steps, in falling order: [steps, B, H, n]."""
    return _largest_moduli(layer, step_eigenvalues(layer, steps))


def _largest_moduli(layer: ConvertedLayer, values: torch.Tensor) -> torch.Tensor:
    moduli = values.abs().sort(-1, descending=True).values
    return moduli[..., : layer.drive.shape[-1]] if layer.architecture.feedback else moduli


def register(A: Operator, n: int) -> int | None:
    """Tokens that A holds and then forgets, where it is a (decaying) shift register, whose eigenvalues are all 0."""
    if isinstance(A, Composed) and isinstance(A.left, Scaled):
        A = A.right
    return (A.slots or n) if isinstance(A, Shift) and A.by else None


def time_constant(modulus: float) -> float:
    """Tokens after which |lambda|^t has fallen to 1/e: -1 / log |lambda|; 0 for lambda = 0, oo for |lambda| >= 1.

    >>> round(time_constant(0.99), 1), time_constant(0.0), time_constant(1.2)
    (99.5, 0.0, inf)
    """
    return 0.0 if modulus <= 0 else -1 / math.log(modulus) if modulus < 1 else math.inf
