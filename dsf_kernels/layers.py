"""The trainable layer: what an architecture needs per token is projected from x, into the domains of its signals."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import nn

from dsf.definition import Architecture, architecture_named
from dsf.domains import Domain
from dsf.feedback import Feedback
from dsf.operators import Operator
from dsf.sets import Complex
from dsf.system import System

from .dispatch import simulate
from .initial_values import start, start_of_param


class Mixer(nn.Module):
    """x -> signals and drive -> the system -> y: an architecture as a layer, used like torch.nn.LSTM(batch_first=True).

        signals = domain.project(W x + b)      u = W_u x      x_t = A_t x_{t-1} + B_t u_t ...      out = W_o y

    Args:
        architecture: a name in `dsf.architectures()`, or an Architecture.
        d_model: features of the input and of the output.
        heads: independent systems side by side.
        n, p: state size and channels per head; both d_model / heads unless given. Where B is an operator (LSTM), p = 1
            and u has n entries.
        backend: as in `dsf.simulate`.
        device, dtype: of the parameters.

    Signals that are functions of the token share one linear map; constants (Param) are parameters, raw values behind
    the domain's projection; Fixed ones are buffers. Raises TypeError for an architecture that has no trainable layer
    (integer signals), ValueError for sizes that do not fit.

    >>> import torch
    >>> layer = Mixer("gated_deltanet", d_model=32, heads=4)
    >>> y, state = layer(torch.randn(2, 10, 32))
    >>> y.shape, state.shape
    (torch.Size([2, 10, 32]), torch.Size([2, 4, 8, 8]))
    >>> y, state = layer(torch.randn(2, 1, 32), state)
    """

    def __init__(
        self,
        architecture: str | Architecture,
        d_model: int,
        heads: int,
        n: int | None = None,
        p: int | None = None,
        *,
        backend: str = "auto",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.architecture = architecture_named(architecture) if isinstance(architecture, str) else architecture
        self.d_model, self.heads, self.backend = d_model, heads, backend
        self.n, self.p = self._sizes(n, p)
        signals = self.architecture.signals
        self.constant = tuple(k for k, d in signals.items() if d.const)
        self.projected = tuple(k for k, d in signals.items() if not d.const)
        entries = [prod(self._raw_shape(signals[k])) for k in self.projected]
        self.inward = nn.Linear(d_model, sum(entries) + prod(self._drive_shape()), device=device, dtype=dtype)
        for name in self.constant:
            self._add_constant(name, signals[name], device, dtype)
        weight = self.inward.weight
        with torch.no_grad():  # one step shows the width of y
            y = simulate(*self.system(weight.new_zeros(1, 1, d_model)), backend=backend)[0]
        if y.is_complex():
            raise ValueError(f"the output of {self.architecture.name} is complex; read its state with C=RealPart(c)")
        self.outward = nn.Linear(prod(y.shape[2:]), d_model, device=device, dtype=dtype)
        self.reset_parameters()

    def _sizes(self, n: int | None, p: int | None) -> tuple[int, int]:
        arch = self.architecture
        if not isinstance(arch, Architecture):
            raise TypeError(f"architecture should be a name or an Architecture, got {type(arch).__name__}")
        for name, size in (("d_model", self.d_model), ("heads", self.heads), ("n", n), ("p", p)):
            if size is not None and (not isinstance(size, int) or size < 1):
                raise ValueError(f"{name} should be a positive integer, got {size!r}")
        if None in (n, p) and self.d_model % self.heads:
            raise ValueError(
                f"d_model = {self.d_model} does not divide into {self.heads} heads; change one, or give n and p"
            )
        for name, domain in arch.signals.items():
            if domain.kind == "index" or (domain.kind == "matrix" and domain.spectrum != Complex and not domain.value):
                raise TypeError(f"{arch.name} has no trainable layer: no smooth map reaches {name} ({domain!r})")
        return n or self.d_model // self.heads, p or self.d_model // self.heads

    def _shape(self, domain: Domain) -> tuple[int, ...]:
        sizes = {"H": self.heads, "G": domain.groups, "J": domain.steps, "n": self.n}
        return tuple(sizes[axis] for axis in domain.axes if axis not in ("B", "T"))

    def _raw_shape(self, domain: Domain) -> tuple[int, ...]:
        return (*self._shape(domain), domain.reals)

    def _drive_shape(self) -> tuple[int, ...]:
        arch = self.architecture
        if arch.steps:
            return (self.heads, arch.steps, self.p)
        return (self.heads, self.n if isinstance(arch.bounds().B, Operator) else self.p)

    def _add_constant(self, name: str, domain: Domain, device: Any, dtype: torch.dtype | None) -> None:
        dtype = dtype or torch.get_default_dtype()
        if domain.value:
            sizes = {"H": self.heads, "G": domain.groups, "n": self.n}
            self.register_buffer(
                f"fixed_{name}", domain.sample(sizes, torch.float64).to(device, dtype), persistent=False
            )
        else:
            raw = torch.zeros(self._raw_shape(domain), device=device, dtype=dtype)
            self.register_parameter(f"raw_{name}", nn.Parameter(raw))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Linear maps as in torch.nn.Linear without bias; biases and constants where initial_values starts domains."""
        self.inward.reset_parameters()
        self.outward.reset_parameters()
        self.inward.bias.zero_()
        self.outward.bias.zero_()
        signals = self.architecture.signals
        for name, bias in zip(self.projected, self._split(self.inward.bias)[:-1], strict=True):
            bias.copy_(start(signals[name], self._shape(signals[name])).flatten())
        for name in self.constant:
            if not signals[name].value:
                getattr(self, f"raw_{name}").copy_(start_of_param(signals[name], self._shape(signals[name])))

    def _split(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The parts of the inward map, last axis: one per projected signal, then the drive."""
        signals = [prod(self._raw_shape(self.architecture.signals[k])) for k in self.projected]
        return x.split([*signals, prod(self._drive_shape())], -1)

    def system(self, x: torch.Tensor) -> tuple[System | Feedback, torch.Tensor]:
        """The system of an input x [B, T, d_model] and its drive u: for `dsf.explain`, `dsf.spectrum`, ...

        Raises ValueError or TypeError where x has another shape or is not floating point.
        """
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            raise TypeError(f"the input should be a floating-point tensor [B, T, {self.d_model}], got {_kind(x)}")
        if x.dim() != 3 or x.shape[-1] != self.d_model:
            raise ValueError(f"the input should be [B, T, d_model = {self.d_model}], got shape {tuple(x.shape)}")
        *parts, drive = self._split(self.inward(x))
        raw = {
            k: part.unflatten(-1, self._raw_shape(self.architecture.signals[k]))
            for k, part in zip(self.projected, parts, strict=True)
        }
        raw |= {k: getattr(self, f"raw_{k}") for k in self.constant if not self.architecture.signals[k].value}
        signals = {k: self.architecture.signals[k].project(*values.unbind(-1)) for k, values in raw.items()}
        signals |= {k: getattr(self, f"fixed_{k}") for k in self.constant if k not in raw}
        return self.architecture(**signals), drive.unflatten(-1, self._drive_shape())

    def forward(self, x: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
        """x [B, T, d_model] -> y [B, T, d_model] and the final state, which continues the sequence."""
        system, u = self.system(x)
        y, state = simulate(system, u, state, backend=self.backend)
        return self.outward(y.flatten(2)), state

    def extra_repr(self) -> str:
        """One line in the repr: name and sizes."""
        sizes = f"d_model={self.d_model}, heads={self.heads}, n={self.n}, p={self.p}"
        return f"{self.architecture.name}, {sizes}" + (f", backend={self.backend}" if self.backend != "auto" else "")


def _kind(x: Any) -> str:
    return str(x.dtype) if isinstance(x, torch.Tensor) else type(x).__name__
