"""The sides of a comparison: dsf, its peers and, where no peer computes the same, the reference on a short piece."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch

import dsf

from .case import Case, Peer, Shape, Tensors, in_dtype, split_drive

SHORT = 256  # tokens on which every side is checked against the reference in fp64
WEIGHTS = 1  # seed of the gradient that is sent back from y


@dataclass(frozen=True)
class Side:
    """run(*arrange(base)) is its output, back(output) that in the layout of dsf's y; `length` tokens are timed."""

    name: str
    package: str
    what: str
    length: int
    run: Callable[..., torch.Tensor]
    arrange: Callable[[Tensors], tuple[torch.Tensor, ...]]
    back: Callable[[torch.Tensor], torch.Tensor] = lambda y: y
    same: bool = True

    def gradients(self, base: Tensors) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """y [B, T, H, p], and the gradient of every tensor of base under fixed random weights of y."""
        base = {k: _leaf(x) for k, x in base.items()}
        wanted = {k: x for k, x in base.items() if x.requires_grad}
        y = self.back(self.run(*self.arrange(base)))
        found = torch.autograd.grad(y, list(wanted.values()), weights_of(y), materialize_grads=True)
        return y.detach(), dict(zip(wanted, found, strict=True))

    def calls(self, base: Tensors) -> Calls:
        return Calls(self, tuple(_leaf(x) for x in self.arrange(base)))


@dataclass(frozen=True)
class Calls:
    """What is timed: a side on inputs that lie ready, as leaves that want a gradient."""

    side: Side
    inputs: tuple[torch.Tensor, ...]

    @cached_property
    def weights(self) -> torch.Tensor:
        return weights_of(self.forward())

    def forward(self) -> torch.Tensor:
        with torch.no_grad():
            return self.side.run(*self.inputs)

    def with_backward(self) -> tuple[torch.Tensor, ...]:
        wanted = [x for x in self.inputs if x.requires_grad]
        return torch.autograd.grad(self.side.run(*self.inputs), wanted, self.weights, allow_unused=True)

    def of(self, direction: str) -> Callable[[], object]:
        return self.forward if direction == "forward" else self.with_backward


def _leaf(x: torch.Tensor) -> torch.Tensor:
    return x.detach().requires_grad_(x.is_floating_point() or x.is_complex())


def weights_of(y: torch.Tensor) -> torch.Tensor:
    """Equal for all sides and precisions of one shape."""
    generator = torch.Generator(y.device).manual_seed(WEIGHTS)
    return torch.randn(y.shape, generator=generator, device=y.device).to(y)


def ours(case: Case, length: int, backend: str = "auto") -> Side:
    """dsf: the architecture's body, and the run."""
    architecture, names = case.found(), []

    def arrange(base: Tensors) -> tuple[torch.Tensor, ...]:
        signals = case.signals(base)
        names[:] = signals
        return tuple(x.contiguous() for x in signals.values())

    def run(*tensors: torch.Tensor) -> torch.Tensor:
        signals, u = split_drive(dict(zip(names, tensors, strict=True)))
        return dsf.simulate(architecture(**signals), u, backend=backend)[0]

    return Side("dsf", "dsf", "dsf.simulate", length, run, arrange)


def reference(case: Case, length: int) -> Side:
    side = ours(case, length, "reference")
    return replace(side, name="reference", what="dsf.reference, step by step; its time is per token")


def theirs(peer: Peer, length: int) -> Side:
    return Side(peer.name, peer.package, peer.what, length, peer.load(), peer.arrange, peer.back, peer.same)


def in_double(base: Tensors) -> Tensors:
    return {name: in_dtype(x, torch.float64) for name, x in base.items()}


def distance(x: torch.Tensor, y: torch.Tensor) -> float:
    """The largest difference, relative to the largest entry of y.

    >>> distance(torch.tensor([1.0, 4.5]), torch.tensor([1.0, 4.0]))
    0.125
    """
    wide = torch.complex128 if y.is_complex() else torch.float64
    scale = y.abs().max().item()
    return (x.to(wide) - y.to(wide)).abs().max().item() / (scale or 1.0)


def short(shape: Shape) -> Shape:
    return shape.at(min(shape.length, SHORT))
