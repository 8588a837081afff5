"""What is measured: an architecture at a size, and the implementations that compute the very same thing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

import dsf

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Shape:
    """Batch, tokens, heads, state [n, p]."""

    batch: int
    length: int
    heads: int
    n: int
    p: int

    def at(self, length: int) -> Shape:
        return replace(self, length=length)

    def __str__(self) -> str:
        return ", ".join(f"{k} {v}" for k, v in zip("BTHnp", asdict(self).values(), strict=True))


@dataclass(frozen=True)
class Draw:
    """Random tensors of one generator; a decay is that of a trained layer, not of a random one."""

    shape: Shape
    generator: torch.Generator

    def normal(self, *size: int) -> torch.Tensor:
        return torch.randn(size, generator=self.generator, device=self.generator.device)

    def uniform(self, lo: float, hi: float, *size: int) -> torch.Tensor:
        return lo + (hi - lo) * torch.rand(size, generator=self.generator, device=self.generator.device)

    def tokens(self, *tail: int) -> torch.Tensor:
        """Normal [B, T, H, ...]."""
        return self.normal(self.shape.batch, self.shape.length, self.shape.heads, *tail)

    def decays(self, *tail: int) -> torch.Tensor:
        """Log decays [B, T, H, ...]: half a token's memory is gone after some ten to thirty tokens."""
        return torch.nn.functional.logsigmoid(self.tokens(*tail)) / 16

    def steps(self) -> torch.Tensor:
        """Step lengths [B, T, H], some 0.02."""
        return torch.nn.functional.softplus(self.tokens() - 4)

    def vectors(self) -> torch.Tensor:
        """[B, T, H, n] with entries of 1 / sqrt(n)."""
        return self.tokens(self.shape.n) / math.sqrt(self.shape.n)

    def drive(self) -> torch.Tensor:
        return self.tokens(self.shape.p)


@dataclass(frozen=True)
class Peer:
    """Another implementation. load() -> f, with f(*arrange(base)) its output and back(output) in the layout of dsf's y.

    arrange is not timed: a peer gets its inputs in the layout that it likes. same: it computes the very same thing, and
    is checked; else it is a yardstick of the same size.
    """

    name: str
    package: str
    what: str
    load: Callable[[], Callable[..., torch.Tensor]]
    arrange: Callable[[Tensors], tuple[torch.Tensor, ...]]
    back: Callable[[torch.Tensor], torch.Tensor] = lambda y: y
    same: bool = True
    devices: tuple[str, ...] = ("cpu", "cuda")


@dataclass(frozen=True)
class Case:
    """One line of the benchmark. draw(Draw) -> base tensors; signals(base) -> those of the architecture, and u.

    about: what each side's time includes. shapes: by kind of device, the first the default of a quick look.
    """

    name: str
    architecture: str | dsf.Architecture
    about: str
    shapes: Mapping[str, tuple[Shape, ...]]
    draw: Callable[[Draw], Tensors]
    peers: tuple[Peer, ...] = ()
    signals: Callable[[Tensors], Tensors] = lambda base: base
    half: bool = True  # can its signals be in half precision (there are no complex numbers in it)

    def found(self) -> dsf.Architecture:
        name = self.architecture
        return dsf.architecture_named(name) if isinstance(name, str) else name

    def base(self, shape: Shape, device: str, dtype: torch.dtype, seed: int = 0) -> Tensors:
        """The tensors from which every side's inputs are arranged: equal numbers for all."""
        drawn = self.draw(Draw(shape, torch.Generator(device).manual_seed(seed)))
        return {name: in_dtype(x, dtype) for name, x in drawn.items()}


def in_dtype(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """x in this precision; complex numbers in the complex dtype of its width, integers as they are."""
    if x.is_complex():
        return x.to(torch.complex128 if dtype == torch.float64 else torch.complex64)
    return x.to(dtype) if x.is_floating_point() else x


def split_drive(inputs: Tensors) -> tuple[Tensors, Any]:
    """The signals, and u."""
    return {k: x for k, x in inputs.items() if k != "u"}, inputs["u"]
