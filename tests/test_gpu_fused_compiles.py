"""The Triton programs of gated recurrences compiled for GPUs that need not be there, at the sizes of real layers."""

import os

import pytest
import torch

import dsf
from dsf_kernels.packing import Packing
from dsf_kernels.registry import kernels
from fused_cases import OWN
from gpu_compilation import SHARED, compiled, launches

pytest.importorskip("triton")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"),
]
CASES = {  # B, T, H, n, and whether the drive has rows
    "selective": (OWN["steps"], (8, 8192, 2048, 16), False),
    "one sequence": (OWN["steps"], (1, 8192, 512, 64), False),
    "rows": (dsf.architecture_named("rglru"), (8, 8192, 16, 256), True),
}


PACKED = Packing((100, 0, 3000, 60000))


def runs(name, dtype, packing=None):
    """A run and its gradients, on tensors without memory."""
    architecture, (B, T, H, n), rows = CASES[name]
    B, T = (1, packing.total) if packing else (B, T)
    sizes = {"B": B, "T": T, "H": H, "n": n, "G": 1}
    signals = {
        key: torch.empty([sizes[axis] for axis in domain.axes], dtype=dtype, requires_grad=True)
        for key, domain in architecture.signals.items()
    }
    u = torch.empty(B, T, H, n if rows else 1, dtype=dtype, requires_grad=True)
    state = torch.empty(packing.count if packing else B, H, n, 1)
    y, x = kernels()["triton_fused_diagonal"].run(architecture(**signals), u, state, packing)
    torch.autograd.grad(y.float().sum() + x.sum(), [*signals.values(), u])


@pytest.mark.parametrize("capability", SHARED)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_programs_fit_the_device(name, dtype, capability, monkeypatch):
    check(launches(monkeypatch, runs, name, dtype), capability)


@pytest.mark.parametrize("name", ["selective", "rows"])
def test_programs_of_packed_sequences_fit_the_device(name, monkeypatch):
    check(launches(monkeypatch, runs, name, torch.bfloat16, PACKED), 90)


def check(launched, capability):
    found = [compiled(launch, capability) for launch in launched]
    assert 2 <= len(found) <= 4, "one launch each way, and one more where time is cut"
    assert not [one for one in found if one.shared > SHARED[capability] or one.stack > 64], found
