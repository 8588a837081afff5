"""Triton kernels compiled for GPUs that need not be there, at the sizes of real layers: they compile, and they fit."""

import os

import pytest
import torch

from dsf.operators import Diagonal, DiagonalPlusLowRank, Scaled
from dsf.values import Log
from dsf_kernels.registry import kernels
from gpu_compilation import SHARED, compiled, launches

pytest.importorskip("triton")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"),
]
B, T, H = 8, 8192, 16
SPILLED = {80: 768, 90: 512}  # bytes of a thread's stack, at most


def leaf(*size, dtype=torch.float32):
    return torch.empty(B, T, H, *size, dtype=dtype, requires_grad=True)


def transitions(n, dtype):
    """A of every structure that a kernel of columns covers."""
    return {
        "triton_scalar": lambda: Scaled(Log(leaf(1, dtype=dtype))),
        "triton_diagonal": lambda: Diagonal(Log(leaf(n, dtype=dtype))),
        "triton_low_rank": lambda: DiagonalPlusLowRank(
            Log(leaf(1, dtype=dtype)), *(leaf(size, dtype=dtype) for size in (1, n, n))
        ),
    }


def runs(name, n, dtype):
    """A run of a kernel and its gradients, on tensors without memory."""
    from dsf.tree import leaves

    A = transitions(n, dtype)[name]()
    b, c, u = leaf(n, dtype=dtype), leaf(n, dtype=dtype), leaf(n, dtype=dtype)
    x = torch.empty(B, H, n, n, requires_grad=True)
    y, last = kernels()[name].run(A, b, c, u, x, False)
    torch.autograd.grad(y.float().sum() + last.sum(), [*leaves(A), b, c, u, x])


@pytest.mark.parametrize("capability", SHARED)
@pytest.mark.parametrize("n", [64, 128])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("name", transitions(1, torch.float32))
def test_programs_fit_the_device(name, dtype, n, capability, monkeypatch):
    found = [compiled(launch, capability) for launch in launches(monkeypatch, runs, name, n, dtype)]
    assert 2 <= len(found) <= 7, "one to three launches forward, as many backward, and one more where time is cut"
    too_large = [one for one in found if one.shared > SHARED[capability]]
    assert not too_large, too_large
    if dtype == torch.bfloat16:
        spilled = [one for one in found if one.stack > SPILLED[capability]]
        assert not spilled, spilled
