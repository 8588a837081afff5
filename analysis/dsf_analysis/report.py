"""What a converted layer is, in one row: sizes, eigenvalues over all inputs and on this one, parity, and its error."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from dsf.converted_layer import ConvertedLayer
from dsf.features import Features
from dsf.printing import structure

from .measured import STEPS, Measured, measure, register
from .recognition import parity
from .spectra import INVARIANT, spectrum
from .subjects import PAST, steps_of
from .verdicts import Verdict

RESET = 64  # tokens after which the control zeroes the state


@dataclass(frozen=True)
class LayerReport:
    """One converted layer on its recorded input.

    state_size: n, of infinite features that of the keys; channels: p. all_inputs: sets that hold the eigenvalues of A_t
    for every input, on the domains that its signals have in this model; None where A_t is a function of the past, whose
    eigenvalues are none of the map, and `because` says so. register: tokens that a shift register holds. error: of the
    layer run by dsf. control: the same with the state zeroed every `reset_every` tokens; None where the input is no
    longer than that.
    """

    model: str
    path: str
    architecture: str
    edits: tuple[str, ...]
    structure: str
    feedback: bool
    infinite: bool
    heads: int
    state_size: int
    channels: int
    length: int
    all_inputs: tuple[str, ...] | None
    because: str
    measured: Measured
    register: int | None
    error: float
    control: float | None
    reset_every: int
    parity: Verdict = field(repr=False)

    @property
    def matrix(self) -> str:
        """Of what the eigenvalues are."""
        return matrix_of(self.feedback)

    @property
    def title(self) -> str:
        """The architecture, with what was changed."""
        return ", ".join([self.architecture, *self.edits])

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON: an infinite time constant is null."""
        m = self.measured
        times = {"slowest": m.slowest, "median": m.median}
        return {
            **{"layer": self.path, "architecture": self.architecture, "edits": list(self.edits)},
            **{"structure": self.structure, "feedback": self.feedback, "infinite_features": self.infinite},
            **{"heads": self.heads, "state_size": self.state_size, "channels": self.channels, "tokens": self.length},
            "all_inputs": None if self.all_inputs is None else list(self.all_inputs),
            **{"eigenvalues_of": self.matrix, "steps": m.steps},
            **{"real": m.real and list(m.real), "moduli": list(m.moduli)},
            "time_constants": {k: v if math.isfinite(v) else None for k, v in times.items()},
            "register": self.register,
            "parity": self.parity.to_dict(),
            "error": self.error,
            "control": {"reset_every": self.reset_every, "error": self.control},
        }


def matrix_of(feedback: bool) -> str:
    """Of what the eigenvalues of a layer are."""
    return "the Jacobian of (x, y)" if feedback else "A_t"


def layer_report(
    layer: ConvertedLayer,
    steps: int = STEPS,
    reset_every: int = RESET,
    *,
    model: str = "",
    verdict: Verdict | None = None,
) -> LayerReport:
    """Runs the layer on its recorded input twice more, as it is and with its state zeroed, and looks at some steps.

    model: whose layer it is, for tables of several. verdict: on parity, where it is known already.

    >>> import dsf, torch
    >>> layer = dsf.convert(torch.nn.GRU(3, 8), torch.randn(100, 1, 3)).layers["layer0"]
    >>> row = layer_report(layer)
    >>> row.structure, row.state_size, row.parity.word
    ('Diagonal', 8, 'yes')
    """
    arch = layer.architecture
    bounds, drive = arch.bounds(), layer.drive
    n = drive.shape[-1] if arch.feedback else steps_of(layer, [0]).state_size
    parts, because = all_inputs(layer)
    return LayerReport(
        model=model,
        path=layer.path,
        architecture=arch.title,
        edits=tuple(map(str, layer.edits)),
        structure=structure(bounds.A),
        feedback=arch.feedback,
        infinite=isinstance(bounds.B, Features),
        heads=drive.shape[2],
        state_size=n,
        channels=1 if bounds.input_is_vector or arch.feedback else drive.shape[-1],
        length=layer.length,
        all_inputs=parts,
        because=because,
        measured=measure(layer, steps),
        register=register(bounds.A, n),
        error=layer.verify(),
        control=layer.verify(reset_every) if layer.length > reset_every else None,
        reset_every=reset_every,
        parity=parity(layer) if verdict is None else verdict,
    )


def all_inputs(layer: ConvertedLayer) -> tuple[tuple[str, ...] | None, str]:
    """Sets that hold the eigenvalues of A_t over all inputs; or None, and of what of the past A_t is a function."""
    dependence = layer.architecture.bounds().dependence()["A"]
    if dependence not in INVARIANT:
        return None, f"a function of {PAST[dependence]}"
    return tuple(map(repr, spectrum(layer.architecture).parts)), ""
