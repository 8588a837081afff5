"""The compiled diagonal kernel against the reference: all gradients, ends, halves, pieces, causality, memory."""

import math
from dataclasses import replace

import pytest
import torch

import dsf
from dsf.operators import Diagonal
from dsf.values import Log
from dsf_kernels.cpu import diagonal
from kernel_cases import (
    EXACT,
    FP32,
    HALF,
    LENGTHS,
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

pytest.importorskip("numba")
pytestmark = pytest.mark.usefixtures("poisoned_memory")
NAME = "compiled_diagonal"
ENDS = (0.0, -20.0, -200.0, -1e4, MIN)


@dsf.architecture("One decay", register=False)
def scalar(q=dsf.Vector, k=dsf.Vector, g=dsf.LogDecay):
    return dsf.System(A=dsf.decay(g) * dsf.I, B=k, C=q)


@dsf.architecture("A decay per row", register=False)
def rows(q=dsf.Vector, k=dsf.Vector, g=dsf.Vector(-dsf.inf, 0)):
    return dsf.System(A=dsf.diag(dsf.decay(g)), B=k, C=q)


@dsf.architecture("Signed factors, read before the write", register=False)
def signed(q=dsf.Shared(dsf.Vector), k=dsf.Vector, d=dsf.Vector(-1.2, 1.2)):
    return dsf.System(A=dsf.diag(d), B=k, C=q, reads="before")


@dsf.architecture("Constant factors", register=False)
def constant(q=dsf.Vector, k=dsf.Shared(dsf.Vector), g=dsf.Param(dsf.Vector(-dsf.inf, 0))):
    return dsf.System(A=dsf.diag(dsf.decay(g)), B=k, C=q)


@dsf.architecture("Micro-steps", register=False)
def steps(q=dsf.Vector, k=dsf.Each(dsf.Vector, 3), g=dsf.Each(dsf.LogDecay, 3)):
    return dsf.microsteps(dsf.System(A=dsf.decay(g) * dsf.I, B=k, C=q))


OWN = {"scalar": scalar, "rows": rows, "signed": signed, "constant": constant, "steps": steps}
ZOO = {name: dsf.architecture_named(name) for name in ("linear_attention", "retnet", "mamba2", "gla", "mamba", "rwkv6")}
SIZES = [(5, 3), (1, 1), (16, 1), (200, 1), (17, 2), (8, 5), (33, 65), (64, 16), (3, 40)]


def at_the_ends(signals):
    return with_ends(signals, **{name: ENDS for name in signals.keys() & {"g", "w"}})


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", OWN | ZOO)
def test_the_reference(name, length):
    architecture = (OWN | ZOO)[name]
    signals, u = draw(architecture, length, p=1 if name == "mamba" else 3)
    check_reference(NAME, architecture, at_the_ends(signals), u)


@pytest.mark.parametrize("n, p", SIZES)
@pytest.mark.parametrize("name", ["rows", "signed", "constant"])
def test_every_size(name, n, p):
    signals, u = draw(OWN[name], 37, heads=3, n=n, p=p)
    check_reference(NAME, OWN[name], at_the_ends(signals), u)
    check_reference(NAME, OWN[name], at_the_ends(signals), u, torch.float32, FP32)


@pytest.mark.parametrize("name", ["scalar", "rows", "constant"])
def test_fp32_with_resets_over_many_chunks(name):
    signals, u = draw(OWN[name], 1000, heads=2, batch=1)
    check_reference(NAME, OWN[name], at_the_ends(signals), u, torch.float32, FP32)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", ["scalar", "gla"])
def test_half(name, dtype):
    signals, u = draw((OWN | ZOO)[name], 130)
    check_half(NAME, (OWN | ZOO)[name], signals, u, dtype)


@pytest.mark.parametrize("name", ["rows", "signed", "steps"])
def test_pieces_and_causality(name):
    check_pieces(NAME, OWN[name], *draw(OWN[name], 130))
    check_causal(NAME, OWN[name])


@pytest.mark.parametrize("threads, heads, batch", [(2, 5, 1), (3, 2, 2), (2, 1, 3)])
def test_threads_and_shared_heads(threads, heads, batch, monkeypatch):
    """However rows fall to threads, what heads share gets the sum of their gradients; one thread would hide a clash."""
    monkeypatch.setattr("dsf_kernels.cpu.running.WORTH", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for architecture in (signed, constant):
        signals, u = draw(architecture, 70, heads=heads, batch=batch)
        check_reference(NAME, architecture, signals, u)


@pytest.mark.parametrize("together", [1, 2])
def test_groups_of_heads(together, monkeypatch):
    monkeypatch.setattr(diagonal, "TOGETHER", 8 * together)
    for architecture in (signed, constant):
        signals, u = draw(architecture, 70, heads=5)
        check_reference(NAME, architecture, signals, u)


@pytest.mark.parametrize("before", [False, True])
def test_views_and_axes_of_one(before):
    """Broadcast sequences, heads and steps, strides and expansions; a number; gradients have the leaves' shapes."""
    B, T, H, n, p = 2, 37, 3, 6, 4
    make = torch.Generator().manual_seed(0)

    def leaf(*shape):
        return torch.randn(shape, generator=make, dtype=torch.float64, requires_grad=True)

    for a, b, c in [
        (leaf(1, 1, 1, 1), leaf(1, T, 1, n), leaf(B, 1, H, n)),
        (leaf(1, T, 1, n), leaf(B, T, H, 1), leaf(1, 1, 1, n)),
        (leaf(B, n, H, T), leaf(B, T, n, H), leaf(1, T, H, n)),
    ]:
        u, x = leaf(p, T, H, B), leaf(B, H, n, p)
        d = a.transpose(1, 3) if a.shape[3] == T else a
        k = (b.transpose(2, 3) if b.shape[3] == H else b).expand(-1, -1, -1, n)
        found = diagonal.run(Diagonal(d), k, c, u.permute(3, 1, 2, 0), x, before)
        expected = diagonal.DIAGONAL.plain((False, before), (d, k, c, u.permute(3, 1, 2, 0), x))
        weights = [torch.randn(v.shape, generator=make, dtype=torch.float64) for v in expected]
        gradients = [torch.autograd.grad(r, (a, b, c, u, x), weights) for r in (found, expected)]
        for one, other in zip((*found, *gradients[0]), (*expected, *gradients[1]), strict=True):
            assert close(one, other, EXACT)
    y, state = diagonal.run(Diagonal(-0.5), k, c, u.permute(3, 1, 2, 0), x, before)
    half = torch.full((1, 1, 1, 1), -0.5, dtype=torch.float64)
    assert close(y, diagonal.DIAGONAL.plain((False, before), (half, k, c, u.permute(3, 1, 2, 0), x))[0], EXACT)


def test_a_reset_has_no_nan():
    signals, u = draw(scalar, 70, dtype=torch.float32)
    signals["g"] = torch.full_like(signals["g"], MIN).requires_grad_()
    y, state = dsf.simulate(scalar(**signals), u, backend=NAME)
    assert close(y, (signals["q"] * signals["k"]).sum(-1, keepdim=True) * u, FP32)
    assert torch.autograd.grad(y.sum() + state.sum(), signals["g"])[0].eq(0).all()


def test_kept_memory():
    signals, u = draw(rows, 256, heads=2, n=8, p=32)
    check_kept(NAME, rows, signals, u, most=(256 // diagonal.CHUNK + 1) * 2 * 2 * 8 * 32)


def test_nothing_is_kept_without_gradients(monkeypatch):
    sizes, make = [], torch.Tensor.new_empty

    def made(self, *shape):
        sizes.append(math.prod(shape))
        return make(self, *shape)

    monkeypatch.setattr(torch.Tensor, "new_empty", made)
    signals, u = draw(rows, 70)
    dsf.simulate(rows(**signals), u, backend=NAME)
    assert sizes == [0]


def test_groups_of_heads_have_places_of_their_own():
    """Two threads never add to one place, which few runs would show."""
    shared = torch.zeros(2, 9, 3, 4)  # [B, T, groups, n]
    of_batch, *_, of_group = diagonal.written(shared, 9, True)
    starts = {batch * of_batch + group * of_group for batch in range(2) for group in range(3)}
    assert len(starts) == 6


def test_derivatives_of_derivatives_and_transforms():
    A, (b, c, u) = torch.rand(1, 5, 2, 3, dtype=torch.float64), (torch.rand(1, 5, 2, 3).double() for _ in range(3))
    x = torch.rand(1, 2, 3, 3, dtype=torch.float64)
    inputs = [v.requires_grad_() for v in (-A, b, c, u, x)]

    def run(g, b, c, u, x):
        return diagonal.run(Diagonal(Log(g)), b, c, u, x, False)

    assert torch.autograd.gradcheck(run, inputs) and torch.autograd.gradgradcheck(run, inputs)
    gradient = torch.func.grad(lambda g: run(g, *inputs[1:])[0].sum())(inputs[0])
    assert close(gradient, torch.autograd.grad(run(*inputs)[0].sum(), inputs[0])[0], EXACT)


def test_what_it_declines():
    s4d = dsf.architecture_named("s4d")
    signals, u = draw(s4d, 5)
    with pytest.raises(ValueError, match="complex"):
        dsf.simulate(s4d(**signals), u, backend=NAME)


def test_the_cost_orders():
    sizes = dsf.explain(scalar(**draw(scalar, 64)[0])).sizes
    times = [diagonal.cost(replace(sizes, length=T)).milliseconds() for T in (64, 4096, 2**20)]
    assert times == sorted(times) and times[0] < times[2] < math.inf
