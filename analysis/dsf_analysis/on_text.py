"""What the actual weights of a converted layer do on its text: how near its eigenvalues come to -1 and to 1, and for
how many tokens it can keep a bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dsf.converted_layer import ConvertedLayer
from dsf.exact_eigenvalues import eigenvalues
from dsf.features import Features

from .extreme_tokens import Extreme
from .horizons import Horizon, horizon
from .measured import STEPS
from .spectra import INVARIANT, spectrum
from .subjects import PAST, some_steps, steps_of

MOST = 512  # steps that are looked at where the structure tells the eigenvalues


@dataclass(frozen=True)
class OnText:
    """The end points of a layer's eigenvalues, on the tokens of one text, and its horizon.

    low: the smallest real eigenvalue, None where none is real. high: that nearest to 1, of the Jacobian of a feedback
    layer the largest modulus. every: is A the same for every token? horizon: None where there is none, and because
    says why, in a few words. backwards: the layer runs from the end of the text.
    """

    low: Extreme | None
    high: Extreme | None
    every: bool
    horizon: Horizon | None
    because: str
    length: int
    backwards: bool

    def place(self, extreme: Extreme) -> int:
        """Which token of the text it is, from its beginning."""
        return self.length - 1 - extreme.step if self.backwards else extreme.step

    @property
    def distances(self) -> tuple[float | None, float | None]:
        """How far low lies above -1, and high below 1; negative where they lie beyond."""
        low = None if self.low is None else 1 + self.low.value.real
        return low, None if self.high is None else 1 - _size(self.high)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        ends = zip(("-1", "1"), (self.low, self.high), self.distances, strict=True)
        return {
            "nearest": {
                end: at and at.to_dict() | {"distance": far, "token": None if self.every else self.place(at)}
                for end, at, far in ends
            },
            "same_for_every_token": self.every,
            "horizon": self.horizon and self.horizon.to_dict(),
            "no_horizon_because": self.because or None,
        }


def on_text(layer: ConvertedLayer) -> OnText:
    """Looks at up to 512 tokens where the structure tells the eigenvalues, elsewhere at fewer.

    >>> import dsf, torch
    >>> found = on_text(dsf.convert(torch.nn.GRU(3, 8), torch.randn(9, 1, 3)).layers["layer0"])
    >>> found.because, found.horizon
    ('a function of the state', None)
    """
    bounds = layer.architecture.bounds()
    of = bounds.dependence()["A"]
    where: dict[str, Any] = {"every": of == "const", "length": layer.length, "backwards": layer.from_the_end}
    because = f"a function of {PAST[of]}" if of not in INVARIANT else ""
    because = because or ("it keeps the tokens" if isinstance(bounds.B, Features) else "")
    if because:
        ends = {e.what: e for e in spectrum(layer).extremes}
        return OnText(ends.get("smallest real"), ends["largest modulus"], horizon=None, because=because, **where)
    first = steps_of(layer, [0])
    known = eigenvalues(first.A, first.state_size) is not None
    found = horizon(layer, some_steps(layer.length, MOST if known else STEPS))
    lows = [(h.smallest, h.smallest_step, h.head) for h in found.heads if h.smallest is not None]
    highs = [(h.largest, h.largest_step, h.head) for h in found.heads if h.largest is not None]
    low = _extreme("smallest real", *min(lows)) if lows else None
    return OnText(low, _extreme("largest real", *max(highs)) if highs else None, horizon=found, because="", **where)


def _extreme(what: str, value: float, step: int | None, head: int) -> Extreme:
    return Extreme(what, value, step or 0, 0, head)


def _size(extreme: Extreme) -> float:
    return extreme.value.real if extreme.what.endswith("real") else abs(extreme.value)
