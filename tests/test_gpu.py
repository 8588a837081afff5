"""On a CUDA device: the kernels against dsf.reference on the CPU in fp64. `make gpu-check` runs these."""

import pytest
import torch

import dsf
from dsf.reference import scan
from helpers import relative

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-3, torch.bfloat16: 5e-2}  # tf32 is off by default in matmul


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("name", ["linear_attention", "retnet", "mamba2", "deltanet"])
def test_a_kernel_on_the_device_is_the_reference(name, dtype):
    arch = dsf.architecture_named(name)
    signals, u = arch.sample(batch=2, length=200, heads=4, n=64, p=64, ends=0.0)
    rounded = {k: x.to(dtype) for k, x in signals.items()}  # the reference sees the same rounded numbers
    expected, state = scan(arch(**{k: x.double() for k, x in rounded.items()}), u.to(dtype).double())
    system = arch(**{k: x.cuda() for k, x in rounded.items()})
    y, x = dsf.simulate(system, u.to(dtype).cuda())
    assert y.is_cuda and y.dtype == dtype
    assert relative(y.double().cpu(), expected) < TOLERANCES[dtype]
    assert relative(x.double().cpu(), state) < TOLERANCES[dtype]


@pytest.mark.parametrize("name", ["linear_attention", "retnet", "mamba2"])
def test_gradients_on_the_device(name):
    arch = dsf.architecture_named(name)
    signals, u = arch.sample(batch=1, length=130, heads=2, n=16, p=16)

    def gradients(run, device):
        leaves = {k: x.to(device).requires_grad_() for k, x in {**signals, "u": u}.items()}
        y, x = run(arch(**{k: leaves[k] for k in signals}), leaves["u"])
        return torch.autograd.grad(y.square().sum() + x.square().sum(), list(leaves.values()))

    for found, expected in zip(gradients(dsf.simulate, "cuda"), gradients(scan, "cpu"), strict=True):
        assert relative(found.cpu(), expected) < 1e-9
