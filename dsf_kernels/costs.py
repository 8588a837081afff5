"""What a run costs: flops, bytes and calls. A kernel predicts its own; the floor is what no kernel can avoid.

Milliseconds follow from NOMINAL, round numbers for a kind of machine. They order kernels; they are no measurement.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import torch

from dsf.composites import Block, Composed, Product, Sum, Writes
from dsf.deferred import Deferred
from dsf.features import Features, decay_and_window
from dsf.feedback import Feedback
from dsf.operators import (
    Dense,
    Diagonal,
    DiagonalPlusLowRank,
    Identity,
    OneHotDiagonal,
    Operator,
    RealPart,
    Reflection,
    Scaled,
    Shift,
)
from dsf.system import System
from dsf.tree import leaves

from .sizes import Sizes


@dataclass(frozen=True)
class Machine:
    """Nominal rates: bytes/s of main memory, flop/s of fp32 matrix products, seconds of one call of an operation."""

    name: str
    bandwidth: float
    rate: float
    call: float


NOMINAL = {
    "cpu": Machine("2-core CPU", bandwidth=20e9, rate=100e9, call=5e-6),
    "cuda": Machine("data-centre GPU", bandwidth=4e12, rate=50e12, call=10e-6),
}


TENSOR_CORES = {"cuda": {2: 8.0, 4: 2.0}}  # how many times that rate products have, by bytes of an entry
LIFTS = 4  # operations that make a matrix of another structure, each a pass over it
MADE = 4  # passes over operators that a body makes


@dataclass(frozen=True)
class Cost:
    """flops, bytes moved to and from memory, calls of operations; speed: of the flops, in NOMINAL's rate."""

    flops: float
    bytes: float
    calls: float = 0
    speed: float = 1.0

    def __add__(self, other: Cost) -> Cost:
        flops = self.flops + other.flops * self.speed / other.speed
        return Cost(flops, self.bytes + other.bytes, self.calls + other.calls, self.speed)

    def moves_at_least(self, least: float) -> Cost:
        return replace(self, bytes=max(self.bytes, least))

    def milliseconds(self, device: str = "cpu") -> float:
        """Predicted from NOMINAL: calls, and the slower of memory and arithmetic."""
        machine = NOMINAL.get(device, NOMINAL["cpu"])
        arithmetic = self.flops / (machine.rate * self.speed)
        return 1e3 * (self.calls * machine.call + max(self.bytes / machine.bandwidth, arithmetic))

    def __str__(self) -> str:
        calls = f", {self.calls:.3g} calls" if self.calls else ""
        return f"{self.flops / 1e9:.3g} GFLOP, {self.bytes / 1e6:.3g} MB{calls}"


def multiplications(A: Operator, n: int) -> int:
    """Of A x, per column of a state x with n rows.

    >>> import torch
    >>> multiplications(Identity(), 8), multiplications(Dense(torch.eye(8)), 8)
    (0, 64)
    """
    match A:
        case Identity() | Shift():
            return 0
        case Scaled() | Diagonal() | OneHotDiagonal() | RealPart():
            return n
        case Reflection() | DiagonalPlusLowRank():
            return 3 * n
        case Block(rows):
            return sum(multiplications(op, n // len(rows)) for row in rows for op in row)
        case Composed(left, right) | Sum(left, right):
            return multiplications(left, n) + multiplications(right, n)
        case Product(factor):
            return len(A.factors()) * multiplications(factor, n)
        case Writes(product, _):
            return len(product.factors()) * n + multiplications(product, n)
        case Dense(M):
            return prod(M.shape[-2:])
    return n * n  # a user's own operator


def floor(system: System | Feedback, sizes: Sizes) -> Cost:
    """What every kernel pays: each signal and the drive read once, y written once, the plain recurrence's flops."""
    z, item = sizes, sizes.itemsize
    moved = z.rows * (z.steps + z.length) * z.p * item + 2 * z.rows * z.n * z.p * item + signal_bytes(system)
    return Cost(flops(system, sizes), moved, speed=tensor_cores(sizes))


def tensor_cores(sizes: Sizes) -> float:
    """How many times the nominal rate products of tiles have on this device; 1 where it has no units for them."""
    return TENSOR_CORES.get(sizes.device, {}).get(sizes.itemsize, 1.0)


def flops(system: System | Feedback, sizes: Sizes) -> float:
    """Of the plain recurrence: A x, write and read of every step (infinite features: of every pair of steps)."""
    z = sizes
    if isinstance(system, Feedback):  # every entry of a recurrent matrix acts once a step
        return 2 * z.rows * z.length * sum(prod(leaf.shape[3:]) for leaf in leaves(tuple(system.values.values())))
    step = system.outline
    if isinstance(step.B, Features):
        return 2 * z.rows * pairs(step, z) * (z.n + z.p)
    sides = [multiplications(M, z.n) if isinstance(M, Operator) else z.n for M in (step.B, step.C)]
    return 2 * z.rows * z.length * z.p * (multiplications(step.A, z.n) + sum(sides))


def lift_cost(system: System, structure: type[Operator], sizes: Sizes) -> Cost:
    """Of A as a matrix, where it is none: n x n numbers a step, made once, written and read."""
    A = system.outline.A
    if structure is not Dense or isinstance(A, Dense):
        return Cost(0, 0)
    z, constant = sizes, not isinstance(system, Deferred) and all(leaf.shape[1] == 1 for leaf in leaves(system.A))
    entries = z.rows * (1 if constant else z.steps) * z.n * z.n
    return Cost(2 * multiplications(A, z.n) * entries / z.n, LIFTS * entries * z.itemsize, LIFTS)


def operators_cost(system: System | Feedback, sizes: Sizes) -> Cost:
    """Of a system that is not computed yet: its operators made of the signals, in a few passes, and read."""
    if not isinstance(system, Deferred) or torch._C._are_functorch_transforms_active():  # they see no storage
        return Cost(0, 0)
    return Cost(0, MADE * system.numbers * sizes.length * sizes.itemsize)


def pairs(system: System, sizes: Sizes) -> float:
    """Of infinite features: pairs of a query and a key that it sees; all of the past, or a window of it."""
    T, (_, window) = sizes.length, decay_and_window(system.A)
    W = T if window is None else min(window, T)
    return W * (2 * T - W) / 2


def signal_bytes(system: System | Feedback) -> int:
    """Of the leaves of the operators (not computed yet: of the signals), each once, and broadcast ones as they lie."""
    known = leaves(tuple(system.values.values())) if isinstance(system, Feedback) else system.leaves
    unique = {id(leaf): leaf for leaf in known}.values()
    return sum(map(_stored, unique))


def _stored(leaf: torch.Tensor) -> int:
    size = leaf.numel() * leaf.element_size()
    try:
        return min(size, leaf.untyped_storage().nbytes())
    except NotImplementedError:  # inside a transform of torch.func a tensor has no storage of its own
        return size
