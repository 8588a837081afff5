"""What stands around the system in a Mixer: which features a short convolution sees, the convolution, a state with it.

z_t = silu(sum_j w_j x_{t-j}), j = 0 .. width - 1, every channel by itself
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import conv1d, silu

from dsf.definition import Architecture
from dsf.domains import Domain
from dsf.operators import Operator
from dsf.sets import Complex, Interval

from .reach import HALF


class MixerState(NamedTuple):
    """What continues a sequence where a layer has a short convolution: the system's state, and the last features."""

    state: Any
    tail: torch.Tensor  # [B, width - 1, channels]


class ShortConvolution(nn.Conv1d):
    """Causal depthwise convolution with SiLU: x [B, T, channels] and the width - 1 features before it (default: zeros).

    >>> convolution = ShortConvolution(6, width=4)
    >>> y, tail = convolution(torch.randn(2, 10, 6))
    >>> y.shape, tail.shape
    (torch.Size([2, 10, 6]), torch.Size([2, 3, 6]))
    """

    def __init__(self, channels: int, width: int, device: Any = None, dtype: torch.dtype | None = None):
        super().__init__(channels, channels, width, groups=channels, bias=False, device=device, dtype=dtype)
        self.width = width

    def forward(self, x: torch.Tensor, tail: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The convolved features [B, T, channels], and the tail that continues the sequence."""
        expected = (x.shape[0], self.width - 1, x.shape[2])
        before = x.new_zeros(expected) if tail is None else tail
        if before.shape != expected:
            raise ValueError(f"the tail should be [B, width - 1, channels] = {expected}, got {tuple(before.shape)}")
        x = torch.cat([before.to(x.dtype), x], 1)
        last = x[:, x.shape[1] - self.width + 1 :].clone()  # a view would keep the whole sequence
        if x.shape[1] < self.width:  # no token at all
            return x[:, :0], last
        return silu(conv1d(x.mT, self.weight, groups=self.groups).mT), last


def convolved(architecture: Architecture, name: str) -> bool:
    """Does a short convolution see this projected signal? Vectors that are written, erased and read (q, k) are seen.

    Decays and gates, whose range has an end, are not. Where the body reads y_{t-1} (LSTM), vectors are summands inside
    its gates, to which SiLU would leave one sign: only the drive is seen.
    """
    domain: Domain = architecture.signals[name]
    free = domain.unit or domain.ball or domain.set in (Interval(), Complex)
    return domain.kind == "vector" and not domain.const and free and not architecture.feedback


@dataclass(frozen=True)
class Layout:
    """The shapes of one token's signals and drive."""

    architecture: Architecture
    heads: int
    n: int
    p: int

    def shape(self, domain: Domain) -> tuple[int, ...]:
        """[heads or groups, ...] of a signal."""
        sizes = {"H": self.heads, "G": domain.groups, "J": domain.steps, "n": self.n}
        return tuple(sizes[axis] for axis in domain.axes if axis not in ("B", "T"))

    def raw(self, domain: Domain) -> tuple[int, ...]:
        """The same with the real numbers that `project` takes for an entry."""
        return (*self.shape(domain), domain.reals)

    @property
    def drive(self) -> tuple[int, ...]:
        """[heads, ...] of u."""
        if self.architecture.steps:
            return (self.heads, self.architecture.steps, self.p)
        return (self.heads, self.n if isinstance(self.architecture.bounds().B, Operator) else self.p)


def layout_of(architecture: Any, d_model: int, heads: int, n: int | None, p: int | None) -> Layout:
    """The layout of a layer, where n and p are d_model / heads unless they are given."""
    check_trainable(architecture)
    for name, size in (("d_model", d_model), ("heads", heads), ("n", n), ("p", p)):
        if size is not None and (not isinstance(size, int) or size < 1):
            raise ValueError(f"{name} should be a positive integer, got {size!r}")
    if None in (n, p) and d_model % heads:
        raise ValueError(f"d_model = {d_model} does not divide into {heads} heads; change one, or give n and p")
    return Layout(architecture, heads, n or d_model // heads, p or d_model // heads)


def project(domain: Domain, values: torch.Tensor) -> torch.Tensor:
    """Raw values [..., reals] into the domain; torch has no complex numbers in half precision."""
    values = values.float() if domain.reals > 1 and values.dtype in HALF else values
    return domain.project(*values.unbind(-1))


# ------------------------------------------------------------------------------------------------ refusals, in words
def check_options(conv: Any, gate: Any, norm: Any) -> None:
    """The options of a Mixer, refused in words."""
    if conv is not None and (not isinstance(conv, int) or isinstance(conv, bool) or conv < 1):
        raise ValueError(f"conv should be None or the width of a short convolution, such as 4; got {conv!r}")
    if not isinstance(gate, bool):
        raise ValueError(f"gate should be True or False, got {gate!r}")
    if norm not in (None, "rms"):
        raise ValueError(f'norm should be None or "rms", got {norm!r}')


def check_trainable(arch: Any) -> None:
    """TypeError for what is no architecture, and where no smooth map reaches a signal's domain."""
    if not isinstance(arch, Architecture):
        raise TypeError(f"architecture should be a name or an Architecture, got {type(arch).__name__}")
    for name, domain in arch.signals.items():
        if domain.kind == "index" or (domain.kind == "matrix" and domain.spectrum != Complex and not domain.value):
            raise TypeError(f"{arch.name} has no trainable layer: no smooth map reaches {name} ({domain!r})")


def check_input(x: Any, d_model: int) -> None:
    """A layer's input is a floating-point tensor [B, T, d_model]."""
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        kind = str(x.dtype) if isinstance(x, torch.Tensor) else type(x).__name__
        raise TypeError(f"the input should be a floating-point tensor [B, T, {d_model}], got {kind}")
    if x.dim() != 3 or x.shape[-1] != d_model:
        raise ValueError(f"the input should be [B, T, d_model = {d_model}], got shape {tuple(x.shape)}")


def check_token(x: Any) -> None:
    """One step's input is [B, d_model] or [B, 1, d_model]; check_input looks at the rest."""
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"step takes one token as a tensor [B, d_model], got {type(x).__name__}")
    if x.dim() not in (2, 3) or (x.dim() == 3 and x.shape[1] != 1):
        raise ValueError(f"step takes one token, [B, d_model] or [B, 1, d_model], got shape {tuple(x.shape)}")


def check_mixer_state(state: Any, with_tail: bool) -> None:
    """The kind of a carried state; `simulate` looks at the system's own."""
    if isinstance(state, MixerState) and not with_tail:
        raise TypeError("this layer has no convolution: it carries the system's state alone, MixerState.state")
    if with_tail and not (state is None or isinstance(state, MixerState)):
        raise TypeError(f"a layer with a convolution carries MixerState(state, tail), got {type(state).__name__}")
