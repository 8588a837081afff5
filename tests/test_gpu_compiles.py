"""Triton kernels compiled for GPUs that need not be there, at the sizes of real layers: they compile, and they fit."""

import math
import os
from dataclasses import dataclass
from functools import partial
from itertools import product

import pytest
import torch

import dsf
from dsf.operators import Dense, Diagonal, DiagonalPlusLowRank, Scaled
from dsf.tree import leaves
from dsf.values import Log
from dsf_kernels.packing import Packing
from dsf_kernels.registry import kernels
from gpu_compilation import SHARED, SMALL, compiled, launches

pytest.importorskip("triton")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"),
]
H = 16
SPILLED = {80: 768, 89: 1024, 90: 512}  # bytes of a thread's stack, at most
SPILLED_MORE = {("packed low rank", 80): 1024}  # time is cut: matrices of 128 x 128 in fp32 are multiplied
PACKED = Packing((100, 0, 3000, 60000))
CHUNKED = ("triton_scalar", "triton_diagonal", "triton_low_rank")


@dataclass(frozen=True)
class Signals:
    """Of a run on states [n, n], on tensors without memory."""

    n: int
    dtype: torch.dtype
    B: int = 8
    T: int = 8192

    def leaf(self, *size, dtype=None):
        return torch.empty(self.B, self.T, H, *size, dtype=dtype or self.dtype, requires_grad=True)

    @property
    def vector(self):
        return self.leaf(self.n)

    def transition(self, name):
        """A of the structure that a kernel of columns covers."""
        decay = Log(self.leaf(self.n if name == "triton_diagonal" else 1))
        if name == "triton_dense":
            return Dense(self.leaf(self.n, self.n))
        if name in ("triton_low_rank", "triton_step_low_rank"):
            return DiagonalPlusLowRank(decay, self.leaf(1), self.vector, self.vector)
        return Diagonal(decay) if name == "triton_diagonal" else Scaled(decay)


def differentiated(outputs, inputs):
    torch.autograd.grad(sum(x.float().sum() for x in outputs), inputs)


def columns(name, n, dtype=torch.bfloat16, packing=None, steps=8192):
    """A run of a kernel of columns, and its gradients."""
    of = Signals(n, dtype, T=steps) if packing is None else Signals(n, dtype, 1, packing.total)
    A, b, c, u = of.transition(name), of.vector, of.vector, of.vector
    x = torch.empty(of.B if packing is None else packing.count, H, n, n, requires_grad=True)
    packs = () if packing is None else (packing,)
    differentiated(kernels()[name].run(A, b, c, u, x, False, *packs), [*leaves(A), b, c, u, x])


def states(n, complex_states):
    """Of one channel, with decays that vary; or complex ones, which do not."""
    of = Signals(n, torch.bfloat16)
    kind = torch.complex64 if complex_states else torch.float32
    d = torch.empty(1, 1, H, n, dtype=kind, requires_grad=True) if complex_states else Log(of.vector)
    w, x = of.leaf(n, 1, dtype=kind), torch.empty(of.B, H, n, 1, dtype=kind, requires_grad=True)
    found = kernels()["triton_states"].run(Diagonal(d), w, x)
    differentiated([torch.view_as_real(found) if complex_states else found], [*leaves(d), w, x])


def constant(n):
    """A diagonal complex system, time in segments."""
    architecture, sizes = dsf.architecture_named("s4d"), {"B": 1, "T": 1, "H": H, "n": n}
    signals = {
        name: torch.empty(
            [sizes[axis] for axis in domain.axes],
            dtype=torch.complex64 if name in ("lam", "b", "c") else torch.float32,
            requires_grad=True,
        )
        for name, domain in architecture.signals.items()
    }
    u = torch.empty(2, 1024, H, n, dtype=torch.bfloat16, requires_grad=True)
    y, x = kernels()["triton_constant"].run(architecture(**signals), u, None)
    differentiated([y, torch.view_as_real(x)], [*signals.values(), u])


OTHERS = {  # what is run, and how many launches it takes
    "wide delta rule": (partial(columns, "triton_low_rank", 256), 5),
    "packed scalar": (partial(columns, "triton_scalar", 128, packing=PACKED), 5),
    "packed diagonal": (partial(columns, "triton_diagonal", 128, packing=PACKED), 6),
    "packed low rank": (partial(columns, "triton_low_rank", 128, packing=PACKED), 6),
    "dense": (partial(columns, "triton_dense", 64), 2),
    "dense in fp32": (partial(columns, "triton_dense", 64, torch.float32), 2),
    "wide dense": (partial(columns, "triton_dense", 128), 2),
    "states": (partial(states, 128, False), 2),
    "complex states": (partial(states, 64, True), 2),
    "constant": (partial(constant, 64), 4),
    "one token": (partial(columns, "triton_step_low_rank", 128, steps=1), 1),
}


def check(found, capability, spills):
    too_large = [one for one in found if one.shared > (SHARED | SMALL)[capability]]
    assert not too_large, too_large
    spilled = [one for one in found if one.stack > spills]
    assert not spilled, spilled


@pytest.mark.parametrize("capability", SHARED)
@pytest.mark.parametrize("n", [64, 128])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("name", CHUNKED)
def test_programs_fit_the_device(name, dtype, n, capability, monkeypatch):
    found = [compiled(launch, capability) for launch in launches(monkeypatch, columns, name, n, dtype)]
    assert 2 <= len(found) <= 6, "at most three launches forward, and as many backward"
    check(found, capability, SPILLED[capability] if dtype == torch.bfloat16 else math.inf)


@pytest.mark.parametrize("name, capability", [one for one in product(OTHERS, SHARED) if one != ("wide delta rule", 80)])
def test_other_programs_fit_the_device(name, capability, monkeypatch):
    run, count = OTHERS[name]
    found = [compiled(launch, capability) for launch in launches(monkeypatch, run)]
    assert len(found) == count
    check(found, capability, SPILLED_MORE.get((name, capability), SPILLED[capability]))


@pytest.mark.parametrize("name", ["triton_scalar", "triton_diagonal", "packed low rank"])
def test_programs_fit_a_card_for_graphics(name, monkeypatch):
    run = OTHERS[name][0] if name in OTHERS else partial(columns, name, 256)
    check([compiled(launch, 89) for launch in launches(monkeypatch, run, capability=89)], 89, SPILLED[89])
