"""The kernel "chunked_diagonal" against the reference: one decay per channel, as a Log, a tensor, a number, complex."""

import math

import pytest
import torch

import dsf
from dsf.reference import scan
from dsf_kernels import decays, grouped
from dsf_kernels.decays import decayed
from dsf_kernels.eager import chunked_diagonal
from dsf_kernels.eager.chunked_diagonal import CHUNK, _group
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

pytestmark = pytest.mark.usefixtures("poisoned_memory")
KERNEL = "chunked_diagonal"
LogDecays = dsf.Vector(-dsf.inf, 0)


@dsf.architecture("One decay for all channels", register=False)
def one_decay(q=dsf.Vector, k=dsf.Vector, g=dsf.LogDecay):
    return dsf.System(A=dsf.decay(g) * dsf.I, B=k, C=q)


@dsf.architecture("Signed multipliers", register=False)
def signed(q=dsf.Vector, k=dsf.Shared(dsf.Vector), a=dsf.Vector(-1, 1)):
    return dsf.System(A=dsf.diag(a), B=k, C=q)


@dsf.architecture("Constant decays, micro-steps", register=False)
def constant(q=dsf.Vector, k=dsf.Each(dsf.Vector, 3), g=dsf.Param(LogDecays)):
    return dsf.microsteps(dsf.System(A=dsf.diag(dsf.decay(g)), B=k, C=q))


ZOO = {name: dsf.architecture_named(name) for name in ("gla", "rwkv6", "mamba", "s4d")}
ALL = ZOO | {"one_decay": one_decay, "signed": signed, "constant": constant}
DECAYS = {"gla": "g", "rwkv6": "w", "one_decay": "g", "constant": "g", "signed": "a"}


def at_the_ends(name, signals, values=(-20.0, MIN, 0.0)):
    if name not in DECAYS:
        return signals
    return with_ends(signals, **{DECAYS[name]: values if name != "signed" else (0.0, -1.0, 1.0, 1e-30)})


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", ALL)
def test_it_is_the_reference(name, length):
    if (name, length) == ("s4d", 0):
        return  # the reference's state is complex from the first step on only
    signals, u = draw(ALL[name], length)
    check_reference(KERNEL, ALL[name], at_the_ends(name, signals), u)


@pytest.mark.parametrize("chunks", [1, 3, 16])  # of a group
@pytest.mark.parametrize("name", ["gla", "rwkv6", "mamba"])
def test_it_is_the_reference_over_many_chunks(name, chunks, monkeypatch):
    monkeypatch.setitem(grouped.TOGETHER, "cpu", chunks * chunked_diagonal.MATRICES * CHUNK**2)
    signals, u = draw(ALL[name], 1000, heads=1, n=3, p=2, batch=1)
    check_reference(KERNEL, ALL[name], signals, u)


@pytest.mark.parametrize("name", ["gla", "rwkv6", "one_decay", "signed"])
def test_fp32_at_the_end_points(name):
    """Decays of -20, -200, -10000 and -oo among weak ones; nothing overflows, forward or backward."""
    signals, u = draw(ALL[name], 150)
    check_reference(
        KERNEL, ALL[name], at_the_ends(name, signals, (0, -1e-3, -20, -200, -1e4, MIN)), u, torch.float32, FP32
    )


@pytest.mark.parametrize("g", [-20.0, -200.0, -1e4, MIN])
def test_every_decay_at_an_end_point(g):
    signals, u = draw(ALL["gla"], 130)
    signals["g"] = torch.full_like(signals["g"], g)
    check_reference(KERNEL, ALL["gla"], signals, u, torch.float32, FP32)


def test_slow_decays_in_fp32_are_summed_as_exponents():
    """e^-1.3e-7 is off by 1e-8 in fp32; a product of 64 of them is off by 64 times as much, e to their sum is not."""
    signals, u = draw(ALL["gla"], 10 * CHUNK, n=2, p=1, batch=1, heads=1)
    signals["g"] = torch.full_like(signals["g"], -1.3e-7)
    check_reference(KERNEL, ALL["gla"], signals, u, torch.float32, 2e-6)


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision(dtype):
    signals, u = draw(ALL["gla"], 130)
    check_half(KERNEL, ALL["gla"], at_the_ends("gla", signals), u, dtype)


@pytest.mark.parametrize("name", ALL)
def test_pieces_and_causality(name):
    signals, u = draw(ALL[name], 150)
    check_pieces(KERNEL, ALL[name], at_the_ends(name, signals), u)
    check_causal(KERNEL, ALL[name])


def test_numbers_and_growth():
    k, u = torch.randn(2, 80, 2, 4, dtype=torch.float64), torch.randn(2, 80, 2, 3, dtype=torch.float64)
    for a in (0, 0.5, 1, -0.5, 1.1):
        system = dsf.System(A=dsf.Diagonal(a), B=k, C=k)
        assert close(dsf.simulate(system, u, backend=KERNEL)[0], scan(system, u)[0], EXACT)


# ------------------------------------------------------------------------------------------- the doubling, and memory
@pytest.mark.parametrize("log", [False, True])
def test_decayed_is_the_product_of_each_segment(log):
    C, R, S, n = 8, 2, 3, 2
    generator = torch.Generator().manual_seed(0)
    g = -3 * torch.rand(C, n, generator=generator, dtype=torch.float64)
    g[2, 0] = g[5, 1] = MIN
    rows, columns = (torch.randn(m, C, n, generator=generator, dtype=torch.float64) for m in (R, S))
    P, later, earlier, whole = decayed(dsf.values.Log(g) if log else g.exp(), rows, columns)
    d = g.exp()
    for i in range(C):
        for j in range(C):
            between = (rows[:, None, i] * d[j + 1 : i].prod(0) * columns[None, :, j]).sum(-1)
            assert close(P[:, i, :, j], between if j < i else torch.zeros(R, S), EXACT)
        assert close(later[:, i], rows[:, i] * d[:i].prod(0), EXACT)
        assert close(earlier[:, i], columns[:, i] * d[i + 1 :].prod(0), EXACT)
    assert close(whole, d.prod(0), EXACT)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("width", [1, 2])
def test_the_derivatives_of_decayed(log, width):
    """A tensor may hold 0: no quotient is taken. Axes that broadcast collect their gradients."""
    generator = torch.Generator().manual_seed(0)
    g, rows, columns = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((2, 4, width), (2, 4, 2), (3, 1, 4, 2))
    )
    g = -g.abs() if log else g.masked_fill(g.abs() < 0.4, 0.0)

    def f(g, rows, columns):
        return decayed(dsf.values.Log(g) if log else g, rows[:, None], columns[:, None])

    inputs = [x.requires_grad_() for x in (g, rows, columns)]
    assert torch.autograd.gradcheck(f, inputs) and torch.autograd.gradgradcheck(f, inputs)


@pytest.mark.parametrize("before", [False, True])
def test_gradients_and_their_gradients(before):
    from functools import partial

    from dsf_kernels.chunks import over_chunks

    shapes = ((1, 2, 2, 2), (1, 2, 5, 2), (1, 1, 5, 2), (1, 2, 5, 2), (1, 2, 5, 1))
    generators = (torch.Generator().manual_seed(i) for i in range(5))
    inputs = [torch.randn(s, dtype=torch.float64, generator=g) for s, g in zip(shapes, generators, strict=True)]
    inputs[1], inputs[4] = -inputs[1].abs(), inputs[4].expand(1, 2, 5, 2).clone()

    def f(*inputs):
        return over_chunks(partial(_group, log=True, before=before), 3, *inputs)

    inputs = [x.requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(f, inputs) and torch.autograd.gradgradcheck(f, inputs)


def test_the_transforms_of_torch_func():
    signals, u = draw(ALL["gla"], 2 * CHUNK, heads=1, n=2, p=1, batch=1)

    def last(g, backend):
        return dsf.simulate(ALL["gla"](**signals | {"g": g}), u, backend=backend)[0][:, -1].sum()

    g = signals["g"].clamp(min=-1)
    found, expected = (torch.func.grad(last)(g, backend) for backend in (KERNEL, "reference"))
    assert close(found, expected, EXACT) and found.any()


def test_backward_keeps_inputs_and_one_state_per_chunk():
    heads, length, n = 2, 10 * CHUNK, 8
    signals, u = draw(ALL["gla"], length, heads=heads, n=n, p=n, batch=1)
    check_kept(KERNEL, ALL["gla"], signals, u, heads * n * n * length // CHUNK)


def test_no_intermediate_has_an_entry_for_every_pair_and_channel(monkeypatch):
    """The largest tensor of the doubling is P or a tensor of vectors: no [C, C, n]."""
    sizes = []
    corners = decays._corners
    monkeypatch.setattr(decays, "_corners", lambda P, h: sizes.append(P.numel()) or corners(P, h))
    signals, u = draw(ALL["gla"], CHUNK, heads=1, n=8, p=2, batch=1)
    dsf.simulate(ALL["gla"](**signals), u, backend=KERNEL)
    assert max(sizes) == CHUNK * CHUNK and len(sizes) == math.log2(CHUNK)
