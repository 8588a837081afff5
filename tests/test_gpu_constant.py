"""The Triton kernel of systems that are constant in time against the reference."""

import math

import pytest
import torch

import dsf
from dsf import Param, Vector
from dsf_kernels.gpu import constant
from kernel_cases import (  # noqa: F401
    MIN,
    check_causal,
    check_reference,
    close,
    draw,
    poisoned_memory,
    start,
    with_ends,
)
from triton_cases import DEVICE, FP32, MARKS

pytestmark = [*MARKS, pytest.mark.usefixtures("poisoned_memory")]
KERNEL = "triton_constant"


@dsf.architecture("Constant decay, read before, D varies", register=False)
def scalar(g=Param(dsf.LogDecay), b=Param(Vector), c=Param(Vector), d=dsf.Scalar):
    return dsf.System(A=dsf.decay(g) * dsf.I, B=b, C=c, D=d, reads="before")


@dsf.architecture("Constant log diagonal", register=False)
def log_diagonal(g=Param(Vector(-math.inf, 0)), b=Param(Vector), c=Param(Vector)):
    return dsf.System(A=dsf.diag(dsf.decay(g)), B=b, C=c)


@dsf.architecture("Constant reflection", register=False)
def reflection(k=Param(dsf.Unit), b=Param(Vector), c=Param(Vector)):
    return dsf.System(A=dsf.I - 2 * dsf.outer(k), B=b, C=c)


@dsf.architecture("Constant complex diagonal", register=False)
def complex_diagonal(pole=Param(Vector(dsf.UnitDisc)), b=Param(Vector), c=Param(Vector)):
    return dsf.System(A=dsf.diag(pole), B=b, C=dsf.RealPart(c), reads="before")


ZOO = {name: dsf.architecture_named(name) for name in ("s4d", "lssl", "short_convolution")}
CASES = ZOO | {f.name: f for f in (scalar, log_diagonal, reflection, complex_diagonal)}


def check(architecture, length, n=5, p=3, batch=2, **ends):
    signals, u = draw(architecture, length, heads=2, n=n, p=p, batch=batch)
    state = start(architecture, signals, u)
    check_reference(KERNEL, architecture, with_ends(signals, **ends), u, torch.float32, FP32, state, DEVICE)


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_reference(name):
    for length in (1, 63, 64, 130):
        check(CASES[name], length)


def test_resets_are_exact():
    check(scalar, 130, g=(-20.0, MIN))
    check(log_diagonal, 130, g=(-20.0, MIN, 0.0, -200.0))


def test_several_blocks_of_rows_and_large_states():
    check(log_diagonal, 128, n=40, p=70)
    check(ZOO["s4d"], 64, n=40, p=20)


def test_the_future_does_not_reach_the_past():
    check_causal(KERNEL, ZOO["s4d"], 140, 70, DEVICE, heads=2, n=3, p=2, batch=1, dtype=torch.float32)


def test_what_it_declines():
    signals, u = draw(dsf.architecture_named("gla"), 3, dtype=torch.float32)
    with pytest.raises(ValueError, match="varies in time"):
        dsf.simulate(dsf.architecture_named("gla")(**signals), u, backend=KERNEL)
    large = draw(log_diagonal, 1, n=129, dtype=torch.float32)[0]
    assert constant.declines(log_diagonal(**large)) == "its programs hold 128 numbers of a state, this one has 129"


def test_derivatives_of_derivatives():
    signals, u = draw(log_diagonal, 64, heads=1, n=2, p=1, batch=1, dtype=torch.float32)
    signals, u = {k: x.to(DEVICE) for k, x in signals.items()}, u.to(DEVICE)

    def second(backend):
        g = signals["g"].detach().requires_grad_()
        y = dsf.simulate(log_diagonal(**signals | {"g": g}), u, backend=backend)[0]
        first = torch.autograd.grad(y.square().sum(), g, create_graph=True)[0]
        return torch.autograd.grad(first.sum(), g)[0]

    assert close(second(KERNEL), second("constant"), 1e-4)
