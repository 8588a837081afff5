"""Every state of a diagonal recurrence in plain torch: the reference, real and complex, in and out of log space."""

import pytest
import torch

import dsf
from dsf.reference import scan
from kernel_cases import (
    EXACT,
    FP32,
    LENGTHS,
    MIN,
    check_causal,
    check_half,
    check_pieces,
    check_reference,
    close,
    draw,
    poisoned_memory,  # noqa: F401
    start,
    with_ends,
)

pytestmark = pytest.mark.usefixtures("poisoned_memory")
KERNEL = "diagonal_states"


@dsf.architecture("Signed", register=False)
def signed(a=dsf.Vector(-1.2, 1.2), b=dsf.Vector, c=dsf.Vector):
    return dsf.System(A=dsf.diag(a), B=b, C=c, reads="before")


@dsf.architecture("Rotating", register=False)
def rotating(a=dsf.Vector(dsf.Complex), b=dsf.Param(dsf.Vector(dsf.Complex)), c=dsf.Vector(dsf.Complex)):
    return dsf.System(A=0.3 * dsf.diag(a), B=b, C=dsf.RealPart(c))


@dsf.architecture("Leaky, read through a nonlinearity", register=False)
def leaky(g=dsf.Param(dsf.Vector(-dsf.inf, 0)), i=dsf.Vector(0, 1)):
    return dsf.System(A=dsf.diag(dsf.decay(g)), B=dsf.diag(i), C=dsf.I, readout=dsf.tanh)


ZOO = {name: dsf.architecture_named(name) for name in ("rglru", "gla", "rwkv6", "mamba", "retnet", "s4d", "mlstm")}
CASES = ZOO | {a.name: a for a in (signed, rotating, leaky)}


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", CASES)
def test_it_is_the_reference(name, length):
    signals, u = draw(CASES[name], length)
    if not length and CASES[name] in (ZOO["s4d"], rotating):
        return  # without a step the reference keeps a real state
    check_reference(KERNEL, CASES[name], signals, u)


@pytest.mark.parametrize("name", ["rglru", "leaky"])
def test_fp32_at_the_end_points(name):
    signals, u = draw(CASES[name], 130)
    signals = with_ends(signals, g=(0.0, -20.0, -200.0, -1e4, MIN))
    check_reference(KERNEL, CASES[name], signals, u, torch.float32, FP32)
    check_reference(KERNEL, CASES[name], signals, u)


@pytest.mark.parametrize("name", CASES)
def test_pieces_and_causality(name):
    check_pieces(KERNEL, CASES[name], *draw(CASES[name], 40))
    check_causal(KERNEL, CASES[name], length=60)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_state_in_fp32(dtype):
    check_half(KERNEL, ZOO["rglru"], *draw(ZOO["rglru"], 130), dtype)


def test_gradients_of_gradients_and_torch_func():
    signals, u = draw(leaky, 9, heads=1, n=2, batch=1)
    inputs = [x.requires_grad_() for x in (*signals.values(), u)]

    def f(*inputs):
        return dsf.simulate(leaky(**dict(zip(signals, inputs[:-1], strict=True))), inputs[-1], backend=KERNEL)

    assert torch.autograd.gradcheck(f, inputs) and torch.autograd.gradgradcheck(f, inputs)
    found = torch.func.grad(lambda i: f(signals["g"], i, u)[0].square().sum())(signals["i"])
    expected = torch.func.grad(lambda i: scan(leaky(g=signals["g"], i=i), u)[0].square().sum())(signals["i"])
    assert close(found, expected, EXACT)


def test_numbers_as_factors():
    u = torch.randn(2, 30, 2, 4, dtype=torch.float64)
    for a in (0, -0.5, 1):
        system = dsf.System(A=a * dsf.I, B=dsf.I, C=dsf.diag(torch.rand(2, 30, 2, 4, dtype=torch.float64)))
        assert close(dsf.simulate(system, u, backend=KERNEL)[0], scan(system, u)[0], EXACT)
    assert start(leaky, *draw(leaky, 3)).shape == (2, 4, 5, 1)
