"""The kernel "segments": segments of time side by side, for every linear system with a finite state."""

import math

import pytest
import torch

import dsf
from dsf import Each, Index, Param, Unit, Vector
from dsf_kernels.costs import Cost
from dsf_kernels.eager import segments, sequential
from dsf_kernels.sizes import sizes_of
from kernel_cases import (
    EXACT,
    FP32,
    HALF,
    MIN,
    check_causal,
    check_half,
    check_kept,
    check_pieces,
    check_reference,
    close,
    draw,
    poisoned_memory,  # noqa: F401
    with_ends,
)

pytestmark = pytest.mark.usefixtures("poisoned_memory")
KERNEL = "segments"
LENGTHS = (0, 1, 63, 64, 65)


@dsf.architecture("Chosen by an index", register=False)
def one_hot(p=Index, d=Vector(0, 1), b=Vector, c=Vector):
    return dsf.System(A=dsf.OneHotDiagonal(p, d), B=b, C=c)


@dsf.architecture("Chosen by a constant index, transposed", register=False)
def gather(p=Param(Index), g=Vector(-math.inf, 0), b=Vector, c=Vector):
    return dsf.System(A=dsf.OneHotDiagonal(p, dsf.decay(g), transposed=True), B=b, C=c, reads="before")


@dsf.architecture("Complex diagonal", register=False)
def complex_diagonal(d=Vector(dsf.UnitDisc), b=Vector, c=Vector):
    return dsf.System(A=dsf.diag(d), B=b, C=dsf.RealPart(c))


@dsf.architecture("Decay per channel", register=False)
def channels(g=Vector(-math.inf, 0), b=Vector, c=dsf.Shared(Vector)):
    return dsf.System(A=dsf.diag(dsf.decay(g)), B=b, C=c)


@dsf.architecture("Scalar decay", register=False)
def scalar(g=dsf.LogDecay, b=Vector, c=Vector):
    return dsf.System(A=dsf.decay(g) * dsf.I, B=b, C=c)


@dsf.architecture("Readout of the state", register=False)
def readout(g=Vector(-math.inf, 0), b=Vector, c=Vector):
    return dsf.System(A=dsf.diag(dsf.decay(g)), B=b, C=c, readout=dsf.tanh)


@dsf.architecture("Reflections", register=False)
def reflections(q=Vector, k=Each(Unit, 2), beta=Each(dsf.Scalar(0, 2), 2)):
    return dsf.microsteps(dsf.System(A=dsf.I - beta * dsf.outer(k), B=beta * k, C=q))


OWN = (one_hot, gather, complex_diagonal, channels, scalar, readout, reflections)
ZOO = ("s4d", "lssl", "short_convolution", "rglru", "retnet", "titans", "kda", "mamba")
CASES = {name: dsf.architecture_named(name) for name in ZOO} | {a.name: a for a in OWN}
CASES["floor"] = CASES["retnet"].normalised(floor=1)
ENDS = {"g": (0.0, -1e-3, -20.0, -200.0, -1e4, MIN), "beta": (0.0, 1.0, 2.0), "d": (0.0, 1.0)}


def sampled(name, length, heads=2, batch=2):
    signals, u = draw(CASES[name], length, heads=heads, n=4, p=1 if name == "rglru" else 2, batch=batch)
    return with_ends(signals, **{key: ENDS[key] for key in signals.keys() & ENDS.keys() if name != "s4d"}), u


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", CASES)
def test_is_the_reference(name, length):
    check_reference(KERNEL, CASES[name], *sampled(name, length))


@pytest.mark.parametrize("name", CASES)
def test_is_the_reference_over_many_segments_and_in_fp32(name):
    signals, u = sampled(name, 200)
    check_reference(KERNEL, CASES[name], signals, u, torch.float32, FP32)
    if name in ("rglru", "titans", one_hot.name, complex_diagonal.name, reflections.name):
        check_reference(KERNEL, CASES[name], *sampled(name, 1000, heads=1, batch=1))


@pytest.mark.parametrize("batch", [1, 2])
def test_a_matrix_of_the_input(batch):
    """Dense A and C = I, constant in one and varying in the other part of time; x0 is taken."""
    g = torch.Generator().manual_seed(0)
    M, b = torch.randn(batch, 75, 2, 3, 3, generator=g).double() / 3, torch.randn(1, 1, 2, 3, generator=g).double()
    x0, u = torch.randn(2, 2, 3, 1, generator=g).double(), torch.randn(2, 75, 2, 3, generator=g).double()
    for A, B, drive in ((M, dsf.I, u), (M[:, :1], b, u[..., :1])):
        A.requires_grad_()
        system = dsf.System(A=dsf.Dense(A), B=B, C=dsf.I, x0=x0)
        results = [dsf.simulate(system, drive, backend=backend) for backend in (KERNEL, "reference")]
        gradients = [torch.autograd.grad(y.square().sum() + x.sum(), A)[0] for y, x in results]
        assert all(
            close(a, b, EXACT) for a, b in zip((*results[0], gradients[0]), (*results[1], gradients[1]), strict=True)
        )


def test_resets_are_exact():
    """All decays zero: y_t is of u_t alone, and every gradient is finite."""
    signals, u = draw(channels, 100, dtype=torch.float32)
    signals["g"] = torch.full_like(signals["g"], MIN).requires_grad_()
    y, state = dsf.simulate(channels(**signals), u, backend=KERNEL)
    assert close(y, (signals["b"] * signals["c"]).sum(-1, keepdim=True) * u, FP32)
    assert torch.autograd.grad(y.sum() + state.sum(), signals["g"])[0].isfinite().all()


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", [channels.name, scalar.name, "titans"])
def test_half_precision(name, dtype):
    signals, u = draw(CASES[name], 100, n=4)
    signals |= {"theta": 0.2 * signals["theta"]} if name == "titans" else {}
    check_half(KERNEL, CASES[name], signals, u, dtype)


@pytest.mark.parametrize("name", CASES)
def test_pieces_and_causality(name):
    sizes = {"p": 1} if name == "rglru" else {}
    check_pieces(KERNEL, CASES[name], *draw(CASES[name], 100, **sizes))
    check_causal(KERNEL, CASES[name], **sizes)


@pytest.mark.parametrize("name", [channels.name, "titans"])
def test_second_derivatives_and_transforms(name):
    signals, u = draw(CASES[name], 30, heads=1, n=3, p=1, batch=1)
    key = "b" if "b" in signals else "k"

    def y(u, b):
        return dsf.simulate(CASES[name](**(signals | {key: b})), u, backend=KERNEL)[0]

    def loss(u, b):
        return y(u, b).square().sum()

    u, b = u.requires_grad_(), signals[key].requires_grad_()
    assert torch.autograd.gradgradcheck(y, (u, b), fast_mode=True)
    gradient = torch.func.grad(loss)(u.detach(), b.detach())
    assert close(gradient, torch.autograd.grad(loss(u, b), u)[0], EXACT)
    each = torch.func.vmap(lambda u: y(u, b.detach()))(torch.stack([u.detach(), 2 * u.detach()]))
    assert close(each[1], 2 * y(u, b).detach(), EXACT)


def test_backward_keeps_a_state_per_segment():
    """Segments of 14 steps: a state of each, and the decays that lead to it; not one of every step."""
    signals, u = draw(channels, 400, heads=2, n=8, p=8)
    state, count = 2 * 2 * 8 * 8, 400 // segments.segment(400)
    check_kept(KERNEL, channels, signals, u, (count + 2) * 3 * state + u.numel())
    assert (count + 2) * 3 * state < 400 * state / 3


@pytest.mark.parametrize("name", ["softmax_attention", "gru"])
def test_declines(name):
    architecture = dsf.architecture_named(name)
    assert dsf.explain(architecture(**architecture.sample()[0])).declined[KERNEL].startswith(("infinite", "feedback"))


@pytest.mark.parametrize("length", [1, 15, 16, 17, 97, 1000, 4096, 10007])
def test_segments_leave_few_steps_over(length):
    C = segments.segment(length)
    assert 1 <= C <= length and (length < segments.SHORTEST or 2 * C + length // C + length % C < 4 * length**0.5 + 8)


def predicted(architecture, length, n, p):
    system = architecture(**architecture.sample(1, length, 8, n, p)[0])
    sizes = sizes_of(system, torch.zeros(1, length, 8, p))
    costs: list[Cost] = [kernel.cost(system, sizes) for kernel in (segments, sequential)]
    return costs[0].milliseconds() / costs[1].milliseconds()


def test_the_cost_follows_what_was_measured():
    """Cheap where a state is a vector, dear where it is a matrix that the plain recurrence keeps in cache."""
    assert predicted(channels, 4096, 16, 1) < 0.3 and predicted(one_hot, 4096, 64, 1) < 0.5
    assert predicted(channels, 512, 64, 64) > 1.5 and predicted(CASES["titans"], 512, 32, 64) > 1.5
