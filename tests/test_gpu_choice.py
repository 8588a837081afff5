"""What CUDA would run, and that nothing needs Triton where there is none: no device is needed here."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import dsf
from dsf_kernels import dispatch
from dsf_kernels.registry import kernels
from kernel_cases import draw

ALONE = """
import sys, dsf, dsf_kernels
from dsf_kernels.registry import kernels

arch = dsf.architecture_named("gla")
signals, u = arch.sample(length=8)
assert any(name.startswith("triton") for name in kernels())
dsf.simulate(arch(**signals), u), dsf.explain(arch(**signals), u)
assert not [name for name in sys.modules if name.split(".")[0] == "triton" or ".gpu.programs." in name]
"""


@pytest.fixture
def on_cuda(monkeypatch):
    """The choice for tensors of the CPU, as if they were on CUDA and Triton there."""
    sizes_of = dispatch.sizes_of
    monkeypatch.setattr(dispatch, "sizes_of", lambda *a: replace(sizes_of(*a), device="cuda"))
    monkeypatch.setattr("dsf_kernels.registry.find_spec", lambda name: name)


def test_without_cuda_nothing_imports_triton():
    subprocess.run([sys.executable, "-c", ALONE], check=True, timeout=120)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    "name, kernel",
    [
        ("linear_attention", "triton_scalar"),
        ("mamba2", "triton_scalar"),
    ],
)
def test_cuda_takes_the_kernel_of_the_structure(name, kernel, dtype, on_cuda):
    arch = dsf.architecture_named(name)
    signals, u = draw(arch, 2048, heads=8, n=64, p=64, dtype=dtype)
    found = dsf.explain(arch(**signals), u)
    assert found.kernel == kernel and "floor" in str(found) and "data-centre GPU" in str(found)


def test_on_the_cpu_they_decline():
    arch = dsf.architecture_named("mamba2")
    declined = dsf.explain(arch(**arch.sample(dtype=torch.float32)[0])).declined
    names = [name for name in kernels() if name.startswith("triton")]
    assert names and all("cuda, not on cpu" in declined[k] or "pip install" in declined[k] for k in names)
