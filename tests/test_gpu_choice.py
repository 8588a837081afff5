"""What CUDA would run, and that nothing needs Triton where there is none: no device is needed here."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import dsf
from dsf import I, System, decay
from dsf_kernels import dispatch
from dsf_kernels.packing import Packing
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
        ("softmax_attention", "flash_attention"),
        ("gla", "triton_diagonal"),
        ("gated_deltanet", "triton_low_rank"),
        ("kda", "triton_low_rank"),
    ],
)
def test_cuda_takes_the_kernel_of_the_structure(name, kernel, dtype, on_cuda):
    arch = dsf.architecture_named(name)
    signals, u = draw(arch, 2048, heads=8, n=64, p=64, dtype=dtype)
    found = dsf.explain(arch(**signals), u)
    assert found.kernel == kernel and "data-centre GPU" in str(found)
    assert found.milliseconds >= found.floor.milliseconds("cuda")


@pytest.mark.parametrize(
    "name, kernel", [("mamba2", "scaled"), ("gla", "diagonal"), ("gated_deltanet", "low_rank"), ("kda", "low_rank")]
)
def test_cuda_decodes_in_one_launch(name, kernel, on_cuda):
    arch = dsf.architecture_named(name)
    signals, u = draw(arch, 1, heads=8, n=64, p=64, dtype=torch.bfloat16)
    assert dsf.explain(arch(**signals), u).kernel == f"triton_step_{kernel}"


@pytest.mark.parametrize(
    "name, n, heads, length, kernels",
    [
        ("mamba", 16, 512, 2048, ["triton_fused_diagonal"]),
        ("rglru", 128, 64, 2048, ["triton_states", "triton_fused_diagonal"]),
        ("s4d", 64, 512, 8192, ["triton_constant"]),
        ("lssl", 32, 64, 2048, ["triton_dense"]),
    ],
)
def test_cuda_takes_the_kernel_of_one_channel(name, n, heads, length, kernels, on_cuda):
    arch = dsf.architecture_named(name)
    signals, u = draw(arch, length, heads=heads, n=n, p=1, dtype=torch.float32)
    assert dsf.explain(arch(**signals), u).kernel in kernels


@pytest.mark.parametrize(
    "name, kernel",
    [("mamba2", "scalar"), ("gla", "diagonal"), ("gated_deltanet", "low_rank"), ("mamba", "fused_diagonal")],
)
def test_cuda_takes_packed_sequences_as_they_lie(name, kernel, on_cuda, monkeypatch):
    monkeypatch.setattr(dispatch, "_KNOWN", {})
    arch = dsf.architecture_named(name)
    sizes = dict(heads=512, p=1) if name == "mamba" else dict(heads=8, p=64)
    signals, u = draw(arch, 2048, n=16, batch=1, dtype=torch.float32, **sizes)
    system = arch(**signals)

    def kernel_of(*lengths):
        return dispatch._packing_kernel(system, u, None, "auto", Packing(lengths))

    assert kernel_of(1000, 48, 1000).name == f"triton_{kernel}"
    assert kernel_of(1024, 1024) is None, "equal lengths are a batch"


def test_a_few_packed_tokens_each_are_decoded(on_cuda, monkeypatch):
    monkeypatch.setattr(dispatch, "_KNOWN", {})
    arch = dsf.architecture_named("gated_deltanet")
    signals, u = draw(arch, 96, heads=8, n=64, p=64, batch=1, dtype=torch.bfloat16)
    lengths = (1, 2, 3) * 16
    assert dispatch._packing_kernel(arch(**signals), u, None, "auto", Packing(lengths)).name == "triton_step_low_rank"


@pytest.mark.parametrize("name", ["mamba2", "gla", "gated_deltanet"])
def test_no_prediction_is_below_the_floor(name, on_cuda):
    arch = dsf.architecture_named(name)
    for batch, length in ((1, 1), (64, 1), (64, 16), (64, 32), (8, 1024)):
        signals, u = draw(arch, length, heads=4, n=32, p=32, batch=batch, dtype=torch.bfloat16)
        found = dsf.explain(arch(**signals), u)
        assert found.milliseconds >= found.floor.milliseconds("cuda")


def test_a_few_tokens_that_train_are_no_decoding(on_cuda):
    arch = dsf.architecture_named("gated_deltanet")
    signals, u = draw(arch, 8, heads=8, n=64, p=64, dtype=torch.bfloat16)
    u.requires_grad_()
    assert dsf.explain(arch(**signals), u).kernel == "triton_low_rank"
    with torch.no_grad():
        assert dsf.explain(arch(**signals), u).kernel == "triton_step_low_rank"


def test_what_decodes_does_not_train(on_cuda):
    arch = dsf.architecture_named("gated_deltanet")
    signals, u = draw(arch, 32, heads=8, n=256, p=256, batch=8, dtype=torch.bfloat16)
    assert dsf.explain(arch(**signals), u).kernel == "triton_low_rank"


def test_a_grid_is_no_longer_than_cuda_has(on_cuda):
    ones = torch.ones(1, 1, 1, 1).expand(2**16, 2, 1, 1)
    system = System(A=decay(0 * ones) * I, B=I, C=I)
    found = dsf.explain(system, ones)
    assert found.kernel != "triton_states" and "65535 sequences" in found.declined["triton_states"]


def test_on_the_cpu_they_decline():
    arch = dsf.architecture_named("mamba2")
    declined = dsf.explain(arch(**arch.sample(dtype=torch.float32)[0])).declined
    names = [name for name in kernels() if name.startswith("triton")]
    assert names and all("cuda, not on cpu" in declined[k] or "pip install" in declined[k] for k in names)
