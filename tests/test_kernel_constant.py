"""The kernel "constant": systems that are constant in time, by Toeplitz matrices and a carried state."""

import math

import pytest
import torch

import dsf
from dsf import Param, Vector
from dsf_kernels.eager import constant
from dsf_kernels.responses import Response
from kernel_cases import (
    EXACT,
    FP32,
    HALF,
    MIN,
    check_causal,
    check_half,
    check_pieces,
    check_reference,
    close,
    draw,
    poisoned_memory,  # noqa: F401
    with_ends,
)

pytestmark = pytest.mark.usefixtures("poisoned_memory")
LENGTHS = (0, 1, 63, 64, 65)
LONG = ("s4d", "lssl", "short_convolution")
KERNEL = "constant"


@dsf.architecture("Constant decay, read before, D varies", register=False)
def scalar(g=Param(dsf.LogDecay), b=Param(Vector), c=Param(Vector), d=dsf.Scalar):
    return dsf.System(A=dsf.decay(g) * dsf.I, B=b, C=c, D=d, reads="before")


@dsf.architecture("Constant real diagonal", register=False)
def diagonal(pole=Param(Vector(-1, 1)), b=Param(Vector), c=Param(Vector)):
    return dsf.System(A=dsf.diag(pole), B=b, C=c)


@dsf.architecture("Constant log diagonal", register=False)
def log_diagonal(g=Param(Vector(-math.inf, 0)), b=Param(Vector), c=Param(Vector)):
    return dsf.System(A=dsf.diag(dsf.decay(g)), B=b, C=c)


@dsf.architecture("Constant complex diagonal", register=False)
def complex_diagonal(pole=Param(Vector(dsf.UnitDisc)), b=Param(Vector), c=Param(Vector)):
    return dsf.System(A=dsf.diag(pole), B=b, C=c, reads="before")


@dsf.architecture("Constant one-hot", register=False)
def one_hot(p=Param(dsf.Index), d=Param(Vector(0, 1)), b=Param(Vector), c=Param(Vector)):
    return dsf.System(A=dsf.OneHotDiagonal(p, d), B=b, C=c)


@dsf.architecture("Constant reflection", register=False)
def reflection(k=Param(dsf.Unit), b=Param(Vector), c=Param(Vector)):
    return dsf.System(A=dsf.I - 2 * dsf.outer(k), B=b, C=c)


@dsf.architecture("Sum", register=False)
def total(b=Param(Vector), c=Param(Vector)):
    return dsf.System(A=dsf.I, B=b, C=c)


POSITIVE = {"b": Param(Vector(0, 1)), "c": Param(Vector(0, 1)), "d": Param(dsf.Positive)}
OWN = (scalar, diagonal, log_diagonal, complex_diagonal, one_hot, reflection, total)
CASES = (
    {name: dsf.architecture_named(name) for name in ("s4d", "lssl", "short_convolution")}
    | {architecture.name: architecture for architecture in OWN}
    | {"normalised": scalar.with_domain(**POSITIVE).normalised(floor=1)}
)
ENDS = {"g": (0.0, -1e-3, -20.0, -200.0, -1e4, MIN), "pole": (0.0, 1.0, -1.0)}


def ends(signals):
    return with_ends(signals, **{name: ENDS[name] for name in signals.keys() & ENDS.keys()})


def state_of(architecture, signals, heads=2, n=4, p=2):
    """A random state, complex where A is."""
    dtype = torch.complex128 if any(x.is_complex() for x in signals.values()) else torch.float64
    rows = p + 1 if architecture(**signals).normalised else p
    return torch.randn(2, heads, n, rows, dtype=dtype, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", CASES)
def test_is_the_reference(name, length):
    signals, u = draw(CASES[name], length, heads=2, n=4, p=2)
    signals = ends(signals)
    check_reference(KERNEL, CASES[name], signals, u, state=state_of(CASES[name], signals))


@pytest.mark.parametrize("name", CASES)
def test_is_the_reference_over_many_chunks_and_in_fp32(name):
    signals, u = draw(CASES[name], 1000 if name in LONG else 300, heads=1, n=4, p=2)
    signals = ends(signals) if name != "normalised" else signals
    state = state_of(CASES[name], signals, heads=1)
    check_reference(KERNEL, CASES[name], signals, u, state=state)
    check_reference(KERNEL, CASES[name], signals, u, torch.float32, FP32, state=state)


def test_signals_per_sequence_and_shared_heads():
    """Leaves that differ between sequences, and are the same for all heads."""
    signals, u = draw(diagonal, 70, heads=2, n=4, p=2)
    signals = {k: x[:1].expand(1, 4) + torch.arange(2.0)[:, None] / 10 for k, x in signals.items()}

    def run_with(backend):
        a, b, c = (x[:, None, None] for x in signals.values())
        return dsf.simulate(dsf.System(A=dsf.diag(a.clamp(-1, 1)), B=b, C=c), u, backend=backend)

    for found, expected in zip(run_with(KERNEL), run_with("reference"), strict=True):
        assert close(found, expected, EXACT)


@pytest.mark.parametrize("size", constant.SIZES)
def test_the_size_of_chunks_is_no_matter(size, monkeypatch):
    signals, u = draw(CASES["s4d"], 300, heads=2, n=4, p=2)
    monkeypatch.setattr(constant, "SIZES", (size,))
    check_reference(KERNEL, CASES["s4d"], signals, u, state=state_of(CASES["s4d"], signals))


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", [diagonal.name, log_diagonal.name, scalar.name, "short_convolution"])
def test_half_precision(name, dtype):
    signals, u = draw(CASES[name], 150, n=4)
    signals |= {"pole": 0.9 * signals["pole"]} if "pole" in signals else {}
    check_half(KERNEL, CASES[name], signals, u, dtype)


@pytest.mark.parametrize("name", CASES)
def test_pieces_and_causality(name):
    check_pieces(KERNEL, CASES[name], *draw(CASES[name], 100))
    check_causal(KERNEL, CASES[name])


@pytest.mark.parametrize("theta", [1e-3, 1.0, 3.0])
def test_fp32_keeps_slow_poles_over_long_times(theta):
    """|lambda| = 1 - 1e-6 for 5000 steps, in log space and as a number: each within the error of a rounded pole."""
    log = torch.tensor([-1e-6 + 1j * theta], dtype=torch.complex64)[None, None, None]
    one, u = torch.ones(1, 1, 1, 1), torch.randn(1, 5000, 1, 1, generator=torch.Generator().manual_seed(0))
    for d, wide in ((dsf.decay(log), dsf.decay(log.to(torch.complex128))), (log.exp(), log.exp().to(torch.complex128))):
        y, _ = dsf.simulate(dsf.System(A=dsf.diag(d), B=one, C=dsf.RealPart(one)), u, backend=KERNEL)
        expected, _ = dsf.simulate(
            dsf.System(A=dsf.diag(wide), B=one, C=dsf.RealPart(one)), u.double(), backend="reference"
        )
        assert close(y, expected, 3e-5)


@pytest.mark.parametrize("name", ["s4d", "lssl", scalar.name])
def test_second_derivatives_and_transforms(name):
    signals, u = draw(CASES[name], 70, heads=1, n=3, p=1, batch=1)

    def y(u, c):
        return dsf.simulate(CASES[name](**(signals | {"c": c})), u, backend=KERNEL)[0]

    def loss(u, c):
        return y(u, c).square().sum()

    u, c = u[:, :20].requires_grad_(), signals["c"].requires_grad_()
    signals |= {"d": signals["d"][:, :20]} if name == scalar.name else {}
    assert torch.autograd.gradgradcheck(y, (u, c), fast_mode=True)
    gradient = torch.func.grad(loss)(u.detach(), c.detach())
    assert close(gradient, torch.autograd.grad(loss(u, c), u)[0], EXACT)
    each = torch.func.vmap(lambda u: y(u, c.detach()))(torch.stack([u.detach(), 2 * u.detach()]))
    assert close(each[0], y(u, c).detach(), EXACT)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("mamba2", "varies in time"),
        ("rglru", "varies in time"),
        ("softmax_attention", "varies in time"),
        ("gru", "feedback"),
    ],
)
def test_declines(name, why):
    architecture = dsf.architecture_named(name)
    assert why in dsf.explain(architecture(**architecture.sample()[0])).declined[KERNEL]


def test_operators_and_readouts_are_declined():
    b = torch.ones(1, 1, 1, 3)
    for change, why in (({"B": dsf.I}, "operator"), ({"C": dsf.I}, "operator"), ({"readout": torch.tanh}, "readout")):
        assert why in constant.declines(dsf.System(**({"A": dsf.diag(b / 2), "B": b, "C": b} | change)))


def test_chosen_where_the_state_is_many_steps_long():
    architecture = CASES["s4d"]
    assert dsf.explain(architecture(**architecture.sample(1, 4096, 64, 64, 1)[0])).kernel == KERNEL


def test_denormal_powers_are_zero():
    """e^{-90 t}: what is denormal would make the products slow, and is nothing beside what is not."""
    b = torch.ones(1, 1, 1, 1)
    response = Response.of(dsf.Diagonal(dsf.decay(-9 * b[:, 0])), b[:, 0], b[:, 0], 16, False)
    tiny = torch.finfo(torch.float32).tiny
    for found in (response.toeplitz, response.write, response.read):
        assert ((found == 0) | (found > tiny)).all() and (found == 0).any()
