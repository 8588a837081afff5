"""The Triton kernel of systems that are constant in time against the reference."""

import math

import pytest
import torch

import dsf
from dsf import Param, Vector
from dsf_kernels.gpu import constant, launching, responding
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


@pytest.fixture
def segments(monkeypatch):
    """Runs are cut in time wherever they have two chunks; how many segments each launch had."""
    made = []

    def launch(program, grid, like, *arguments, **constants):
        made.append(grid[2])
        launching.launch(program, grid, like, *arguments, **constants)

    monkeypatch.setattr(responding, "LEAST", 1)
    monkeypatch.setattr(responding, "multiprocessors", lambda device: 10**4)
    monkeypatch.setattr(responding, "launch", launch)
    return made


@pytest.mark.parametrize("name", CASES)
def test_segments_of_time_agree_with_the_reference(name, segments):
    check(CASES[name], 230)  # 7 chunks of 32 steps: the last segment is shorter
    assert segments == [3, 4, 3, 4], "summaries and a run, forward and backward"


def test_resets_are_exact():
    check(scalar, 130, g=(-20.0, MIN))
    check(log_diagonal, 130, g=(-20.0, MIN, 0.0, -200.0))


def test_resets_and_growth_in_segments(segments):
    check(scalar, 230, g=(-20.0, MIN, 1e-3))
    check(log_diagonal, 230, g=(-20.0, MIN, 0.0, -200.0, 2e-3))
    assert max(segments) == 4


def test_zeros_stay_zeros_where_a_power_outgrows_fp32(segments):
    signals, u = draw(log_diagonal, 230, heads=1, n=3, p=2, batch=1, dtype=torch.float32)
    expected = dsf.simulate(log_diagonal(**with_ends(signals, g=(MIN,), b=(0.0,))), u, backend="reference")
    grown = with_ends(signals, g=(1.5,), b=(0.0,))  # e^96 over a segment, of a state that nothing is written to
    found = dsf.simulate(log_diagonal(**{k: x.to(DEVICE) for k, x in grown.items()}), u.to(DEVICE), backend=KERNEL)
    assert max(segments) == 4 and all(close(a.cpu(), b, FP32) for a, b in zip(found, expected, strict=True))


def test_segments_fill_the_device_and_are_worth_their_summaries(monkeypatch):
    """One sequence of a million steps, a few chunks, and more rows than the device has room for."""
    how, of = responding.How("diagonal", torch.float32), responding.Cut.of
    monkeypatch.setattr(responding, "multiprocessors", lambda device: 132)
    cuts = [of(how, torch.empty(*size, 32, device="meta"), 64) for size in ((1, 31250, 8), (2, 7, 8), (64, 1000, 512))]
    assert [cut.segments for cut in cuts] == [132, 1, 1]
    short = of(how, torch.empty(1, 400, 8, 32, device="meta"), 64)
    assert short.segments == 40 and short.per == 10


def test_several_blocks_of_rows_and_large_states():
    check(log_diagonal, 128, n=40, p=70)
    check(ZOO["s4d"], 64, n=40, p=20)


def test_the_future_does_not_reach_the_past():
    check_causal(KERNEL, ZOO["s4d"], 140, 70, DEVICE, heads=2, n=3, p=2, batch=1, dtype=torch.float32)


def test_nor_in_segments(segments):
    check_causal(KERNEL, ZOO["s4d"], 140, 70, DEVICE, heads=2, n=3, p=2, batch=1, dtype=torch.float32)
    assert max(segments) == 4


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
