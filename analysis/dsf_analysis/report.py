"""What a converted layer is, in one row: sizes, time scales on this input, parity, and how well it is reproduced."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch

from dsf.converted_layer import ConvertedLayer
from dsf.exact_eigenvalues import eigenvalues
from dsf.feedback import Feedback
from dsf.printing import structure

from .recognition import parity
from .verdicts import Verdict

STEPS = 24  # of the recorded run, at which eigenvalues are computed
MATTERS = 100  # a control whose error is that many times larger has failed, as it should
RESET = 64  # tokens after which the control zeroes the state


@dataclass(frozen=True)
class LayerReport:
    """One converted layer on its recorded input.

    moduli: the least and the largest |eigenvalue| met, of the n largest of each step (a feedback state (x, y) has 2n
    coordinates, and n of them may only copy the others). slowest, median: time constants -1 / log |lambda| in tokens,
    of the largest and of the median modulus of a step, in the median over the steps; oo where |lambda| >= 1.
    control: the error with the state zeroed every `reset_every` tokens; None where the input is no longer than that.
    They are local: one step's eigenvalues bound the growth of products of A_t only where the A_t commute.
    """

    path: str
    architecture: str
    structure: str
    feedback: bool
    state_size: int
    length: int
    steps: int
    moduli: tuple[float, float]
    slowest: float
    median: float
    error: float
    control: float | None
    reset_every: int
    parity: Verdict = field(repr=False)

    @property
    def matrix(self) -> str:
        """Of what the eigenvalues are."""
        return matrix_of(self.feedback)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON: an infinite time constant is null."""
        return {
            "layer": self.path,
            "architecture": self.architecture,
            "structure": self.structure,
            "state_size": self.state_size,
            "tokens": self.length,
            "eigenvalues_of": self.matrix,
            "steps": self.steps,
            "moduli": list(self.moduli),
            "time_constants": {k: v if math.isfinite(v) else None for k, v in self._time_constants()},
            "parity": self.parity.to_dict(),
            "error": self.error,
            "control": {"reset_every": self.reset_every, "error": self.control},
        }

    @staticmethod
    def columns() -> tuple[str, ...]:
        """The header of `cells`."""
        return (
            *("layer", "architecture", "structure of A", "n", "|eigenvalues|"),
            "time constants in tokens: slowest, median",
            *("parity, as a family", "error", "error, state zeroed"),
        )

    def cells(self) -> tuple[str, ...]:
        """One row of a table for the reader."""
        times = ", ".join(f"{t:.3g}" if math.isfinite(t) else "no decay" for _, t in self._time_constants())
        control = "-" if self.control is None else f"{self.control:.1e} (every {self.reset_every})"
        moduli = "{:.3g} .. {:.3g}".format(*self.moduli)
        what = self.structure + ", reads y_{t-1}" * self.feedback
        return (
            *(self.path, self.architecture, what, str(self.state_size), moduli, times),
            *(self.parity.word, f"{self.error:.1e}", control),
        )

    def _time_constants(self) -> tuple[tuple[str, float], ...]:
        return ("slowest", self.slowest), ("median", self.median)


def layer_report(layer: ConvertedLayer, steps: int = STEPS, reset_every: int = RESET) -> LayerReport:
    """Runs the layer on its recorded input twice more: at some steps for eigenvalues, and with its state zeroed.

    >>> import dsf
    >>> layer = dsf.convert(torch.nn.GRU(3, 8), torch.randn(100, 1, 3)).layers["layer0"]
    >>> row = layer_report(layer)
    >>> row.structure, row.state_size, row.parity.word
    ('Diagonal', 8, 'yes')
    """
    moduli = step_moduli(layer, steps)
    per_step = moduli.flatten(0, -2)
    return LayerReport(
        path=layer.path,
        architecture=layer.architecture.title,
        structure=structure(layer.architecture.bounds().A),
        feedback=layer.architecture.feedback,
        state_size=layer.state_size,
        length=layer.length,
        steps=moduli.shape[0],
        moduli=(moduli.min().item(), moduli.max().item()),
        slowest=time_constant(per_step[:, 0].median().item()),
        median=time_constant(per_step.median(-1).values.median().item()),
        error=layer.verify(),
        control=layer.verify(reset_every) if layer.length > reset_every else None,
        reset_every=reset_every,
        parity=parity(layer),
    )


def matrix_of(feedback: bool) -> str:
    """Of what the eigenvalues of a layer are."""
    return "the Jacobian of (x, y)" if feedback else "A_t"


def step_eigenvalues(layer: ConvertedLayer, steps: int = STEPS) -> torch.Tensor:
    """Eigenvalues at up to `steps` evenly spaced steps of the recorded run: [steps, B, H, n], feedback [.., 2n].

    Of A_t; of a feedback layer the Jacobian of (x, y) at the state that the run has there. One step at a time.
    """
    chosen = torch.linspace(0, layer.length - 1, min(layer.length, steps)).round().long().tolist()
    found = []
    with torch.no_grad():
        for _, system, u, state in layer.visit(chosen):
            if isinstance(system, Feedback):
                matrix = system.jacobian(0, system.zero_state(u[:, None]) if state is None else state, u)
                found.append(torch.linalg.eigvals(matrix))
                continue
            values = eigenvalues(system.A, layer.state_size)
            values = torch.linalg.eigvals(system.dense()) if values is None else values
            found.append(values[:, 0].expand(u.shape[0], u.shape[1], -1))
    return torch.stack(found)


def step_moduli(layer: ConvertedLayer, steps: int = STEPS) -> torch.Tensor:
    """The n largest |eigenvalues| at those steps, in falling order: [steps, B, H, n]."""
    return step_eigenvalues(layer, steps).abs().sort(-1, descending=True).values[..., : layer.state_size]


def time_constant(modulus: float) -> float:
    """Tokens after which |lambda|^t has fallen to 1/e: -1 / log |lambda|; 0 for lambda = 0, oo for |lambda| >= 1.

    >>> round(time_constant(0.99), 1), time_constant(0.0), time_constant(1.2)
    (99.5, 0.0, inf)
    """
    return 0.0 if modulus <= 0 else -1 / math.log(modulus) if modulus < 1 else math.inf


def closing_words(rows: list[LayerReport]) -> str:
    """What the rows mean, in a few sentences."""
    slow, worst = max(rows, key=lambda row: row.slowest), max(row.error for row in rows)
    slowest = (
        f"forgets to 1/e within {slow.slowest:.3g} tokens"
        if math.isfinite(slow.slowest)
        else "does not fade within a typical step (modulus 1 or more), which over many steps is no instability"
    )
    words = [
        f"dsf runs {len(rows)} layer{'s' * (len(rows) > 1)} of this model as x_t = A_t x_{{t-1}} + B_t u_t "
        f"and reproduces the module's own numbers to {worst:.0e}.",
        _memory(rows),
        f"Eigenvalues are those of {slow.matrix} at {slow.steps} steps of this text; the slowest direction of "
        f"{slow.path} {slowest}. Parity is a statement on the architecture with some weights, not with these.",
    ]
    return " ".join(words)


def _memory(rows: list[LayerReport]) -> str:
    ratios = {row.path: row.control / max(row.error, 1e-300) for row in rows if row.control is not None}
    if not ratios:
        return "The text is too short for the control, which zeroes the state now and then."
    every = f"With the state zeroed every {rows[0].reset_every} tokens"
    least = min(ratios, key=lambda path: ratios[path])
    if ratios[least] < MATTERS:
        return f"{every}, {least} hardly changes: it keeps next to nothing of this text."
    times = float(f"{ratios[least]:.1g}")
    return f"{every} the error is {times:,.0f} times as large: what the state carries is needed."
