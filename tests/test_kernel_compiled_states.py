"""The compiled walk over states: against plain torch and the reference with all gradients, real and complex."""

import pytest
import torch

import dsf
from dsf.operators import Diagonal
from dsf.values import Log
from dsf_kernels.cpu import elementwise
from kernel_cases import (
    EXACT,
    FP32,
    HALF,
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

pytest.importorskip("numba")
pytestmark = pytest.mark.usefixtures("poisoned_memory")
NAME = "compiled_states"
ENDS = (0.0, -20.0, -200.0, -1e4, MIN)


@dsf.architecture("A decay per row", register=False)
def rows(q=dsf.Vector, k=dsf.Vector, g=dsf.Vector(-dsf.inf, 0)):
    return dsf.System(A=dsf.diag(dsf.decay(g)), B=k, C=q)


@dsf.architecture("Signed factors, read before the write", register=False)
def signed(q=dsf.Vector, k=dsf.Vector, d=dsf.Vector(-1.2, 1.2)):
    return dsf.System(A=dsf.diag(d), B=k, C=q, reads="before")


OWN = {"rows": rows, "signed": signed}
ZOO = {name: dsf.architecture_named(name) for name in ("mamba2", "s4d")}


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("p", [1, 3])
@pytest.mark.parametrize("name", OWN | ZOO)
def test_the_reference(name, p, length):
    architecture = (OWN | ZOO)[name]
    signals, u = draw(architecture, length, p=p)
    signals = with_ends(signals, **{key: ENDS for key in signals.keys() & {"g"}})
    state = start(architecture, signals, u)
    state = state.to(torch.complex128) if name == "s4d" else state
    check_reference(NAME, architecture, signals, u, state=state)


@pytest.mark.parametrize("name", [*OWN, "s4d"])
def test_fp32_over_many_steps(name):
    architecture = (OWN | ZOO)[name]
    signals, u = draw(architecture, 1000, heads=2, batch=1, p=1)
    check_reference(NAME, architecture, signals, u, torch.float32, FP32)


KINDS = (torch.float32, torch.float64, torch.complex64, torch.complex128)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("p", [1, 3])
def test_every_broadcast(p, dtype, threads, monkeypatch):
    """Logs and factors that sequences, steps, heads or rows share, in strides; gradients have their shapes."""
    monkeypatch.setattr("dsf_kernels.cpu.running.WORTH", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    B, T, H, n = 2, 19, 3, 21
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape):
        return torch.randn(shape, generator=generator, dtype=dtype)

    for shape in [(B, T, H, n), (B, T, H, 1), (1, 1, H, n), (1, T, 1, n), (1, 1, 1, 1), (B, n, H, T)]:
        for log in (True, False):
            a, w, x = (0.3 * leaf(*shape) - 0.3).requires_grad_(), leaf(B, T, H, n, p), leaf(B, H, n, p)
            leaves = (a, w.requires_grad_(), x.requires_grad_())
            d = a.transpose(1, 3) if shape[3] == T else a
            found, expected = elementwise.run(Diagonal(Log(d) if log else d), w, x), elementwise.plain(log, d, w, x)
            weights = leaf(*w.shape)
            pairs = zip(*(torch.autograd.grad(v, leaves, weights) for v in (found, expected)), strict=True)
            tolerance = EXACT if dtype in KINDS[1::2] else FP32
            assert close(found, expected, tolerance) and all(close(v, e, tolerance) for v, e in pairs)


def test_one_row_and_expanded_writes():
    for shape, channels in [((1, 9, 1, 40), (1, 40)), ((1, 9, 40, 1), (40, 1))]:
        a = torch.rand(shape, dtype=torch.float64, requires_grad=True)
        w = torch.rand(1, 9, 1, 1, 1, dtype=torch.float64, requires_grad=True)
        x, wide = torch.zeros(1, *channels, 1, dtype=torch.float64), w.expand(1, 9, *channels, 1)
        found, expected = elementwise.run(Diagonal(a), wide, x), elementwise.plain(False, a, wide, x)
        for v, e in zip(*(torch.autograd.grad(y.square().sum(), (a, w)) for y in (found, expected)), strict=True):
            assert close(v, e, EXACT)


@pytest.mark.parametrize("dtype", HALF)
def test_half(dtype):
    check_half(NAME, rows, *draw(rows, 130), dtype)


@pytest.mark.parametrize("name", [*OWN, "s4d"])
def test_pieces_and_causality(name):
    architecture = (OWN | ZOO)[name]
    check_pieces(NAME, architecture, *draw(architecture, 130))
    check_causal(NAME, architecture)


def test_a_reset_has_no_nan():
    g = torch.full((1, 20, 2, 9), MIN, requires_grad=True)
    w, x = torch.randn(1, 20, 2, 9, 1), torch.randn(1, 2, 9, 1)
    xs = elementwise.run(Diagonal(Log(g)), w, x)
    assert torch.equal(xs, w) and torch.autograd.grad(xs.sum(), g)[0].eq(0).all()


def test_a_number_and_no_step():
    w, x = torch.randn(1, 7, 2, 9, 1), torch.randn(1, 2, 9, 1)
    assert close(elementwise.run(Diagonal(1), w, x)[:, -1], x + w.sum(1), FP32)
    assert elementwise.run(Diagonal(1), w[:, :0], x).shape == (1, 0, 2, 9, 1)


def test_derivatives_of_derivatives_and_transforms():
    a, w = torch.rand(1, 4, 2, 3, dtype=torch.float64), torch.rand(1, 4, 2, 3, 1, dtype=torch.float64)
    inputs = [v.requires_grad_() for v in (-a, w, torch.rand(1, 2, 3, 1, dtype=torch.float64))]

    def run(g, w, x):
        return elementwise.run(Diagonal(Log(g)), w, x)

    assert torch.autograd.gradcheck(run, inputs) and torch.autograd.gradgradcheck(run, inputs)
    gradient = torch.func.grad(lambda g: run(g, *inputs[1:]).sum())(inputs[0])
    assert close(gradient, torch.autograd.grad(run(*inputs).sum(), inputs[0])[0], EXACT)
