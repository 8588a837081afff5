"""The kernel "chunked_low_rank" against the reference: delta rules; one decay, one per channel, none, or signed."""

from functools import partial

import pytest
import torch

import dsf
from dsf.operators import DiagonalPlusLowRank
from dsf.reference import scan
from dsf_kernels import grouped
from dsf_kernels.chunks import over_chunks
from dsf_kernels.eager import chunked_low_rank
from dsf_kernels.eager.chunked_low_rank import CHUNK, _group
from dsf_kernels.grouped import decayed_products, inverse, segments
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
from low_rank_cases import constant, separate, separate_before, signed

pytestmark = pytest.mark.usefixtures("poisoned_memory")
KERNEL = "chunked_low_rank"


@dsf.architecture("No diagonal at all", register=False)
def no_diagonal(q=dsf.Vector, k=dsf.Unit, v=dsf.Unit):
    return dsf.System(A=DiagonalPlusLowRank(0, 1, k, v), B=k, C=q)


ZOO = {name: dsf.architecture_named(name) for name in ("deltanet", "gated_deltanet", "kda", "deltaproduct")}
TWO = dsf.Scalar(0, 2)
ALL = (
    ZOO
    | {"to_two": ZOO["gated_deltanet"].with_domain(beta=TWO), "kda_to_two": ZOO["kda"].with_domain(beta=TWO)}
    | {"separate": separate, "separate_before": separate_before, "signed": signed, "constant": constant}
    | {"no_diagonal": no_diagonal}
)


def at_the_ends(name, signals, decays=(-20.0, MIN, 0.0)):
    """Decays and multipliers at their ends, and one key for all steps of the first head."""
    ends = {"g": decays, "beta": (0.0, 1.0, 2.0) if "two" in name or name == "deltaproduct" else (0.0, 1.0)}
    ends |= {"d": (0.0, -1.0, 1.0) if name == "signed" else (0.0, 1.0)}
    signals = with_ends(signals, **{key: values for key, values in ends.items() if key in signals})
    if name in ZOO and signals["k"].shape[1]:
        signals["k"] = torch.cat([signals["k"][:, :1, :1].expand_as(signals["k"][:, :, :1]), signals["k"][:, :, 1:]], 2)
    return signals


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", ALL)
def test_it_is_the_reference(name, length):
    signals, u = draw(ALL[name], length, heads=2)
    check_reference(KERNEL, ALL[name], at_the_ends(name, signals), u)


@pytest.mark.parametrize("chunks", [1, 3, 16])  # of a group
@pytest.mark.parametrize("name", ["gated_deltanet", "kda"])
def test_it_is_the_reference_over_many_chunks(name, chunks, monkeypatch):
    monkeypatch.setitem(grouped.TOGETHER, "cpu", chunks * chunked_low_rank.MATRICES * CHUNK**2)
    signals, u = draw(ALL[name], 1000, heads=1, n=3, p=2, batch=1)
    check_reference(KERNEL, ALL[name], signals, u)


@pytest.mark.parametrize("name", ["deltanet", "to_two", "kda_to_two", "deltaproduct", "separate", "signed"])
def test_fp32_at_the_end_points(name):
    """Decays of -20, -200, -10000 and -oo among weak ones, beta of 0, 1 and 2, one key over and over."""
    signals, u = draw(ALL[name], 150, heads=2)
    signals = at_the_ends(name, signals, (0, -1e-3, -20, -200, -1e4, MIN))
    check_reference(KERNEL, ALL[name], signals, u, torch.float32, FP32)


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("g", [0.0, -20.0, MIN])
def test_one_key_over_and_over(beta, g):
    signals, u = draw(ALL["to_two"], 130, heads=1)
    signals["k"] = signals["k"][:, :1].expand_as(signals["k"])
    signals |= {"beta": torch.full_like(signals["beta"], beta), "g": torch.full_like(signals["g"], g)}
    check_reference(KERNEL, ALL["to_two"], signals, u, torch.float32, FP32)
    check_reference(KERNEL, ALL["to_two"], signals, u)


@pytest.mark.parametrize("name", ["gated_deltanet", "kda"])
def test_large_norms(name):
    signals, u = draw(ALL[name], 130, heads=1)
    signals["q"] = 1e4 * signals["q"]
    check_reference(KERNEL, ALL[name], signals, 1e4 * u, torch.float32, FP32)


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision(dtype):
    signals, u = draw(ALL["gated_deltanet"], 130)
    check_half(KERNEL, ALL["gated_deltanet"], at_the_ends("gated_deltanet", signals), u, dtype)


@pytest.mark.parametrize("name", ALL)
def test_pieces_and_causality(name):
    signals, u = draw(ALL[name], 150)
    check_pieces(KERNEL, ALL[name], at_the_ends(name, signals), u)
    check_causal(KERNEL, ALL[name])


def test_what_is_not_low_rank_climbs():
    signals, u = draw(dsf.architecture_named("gla"), 80)
    check_reference(KERNEL, dsf.architecture_named("gla"), signals, u)


def test_complex_numbers():
    generator = torch.Generator().manual_seed(0)
    d, k, v, q = (torch.randn(2, 70, 2, 3, dtype=torch.complex128, generator=generator) for _ in range(4))
    u = torch.randn(2, 70, 2, 2, dtype=torch.float64, generator=generator)
    system = dsf.System(A=DiagonalPlusLowRank(d / d.abs() / 2, 0.1, k, v), B=k, C=q)
    found, expected = dsf.simulate(system, u, backend=KERNEL), scan(system, u)
    assert all(close(a, b, EXACT) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("width", [1, 2])
def test_gradients_and_their_gradients(before, width):
    T, n, p = 3, 2, 1
    vectors = [(1, 1, T, n)] * 2
    shapes = [(1, 1, n, p), (1, 1, T, width), (1, 1, T, 1), *vectors, (1, 1, T, p), *vectors]
    generators = (torch.Generator().manual_seed(i) for i in range(len(shapes)))
    inputs = [torch.randn(s, dtype=torch.float64, generator=g) for s, g in zip(shapes, generators, strict=True)]
    inputs[1] = -inputs[1].abs()
    inputs = [x.requires_grad_() for x in inputs]

    def f(*inputs):
        return over_chunks(partial(_group, log=True, before=before), 2, *inputs)

    assert torch.autograd.gradcheck(f, inputs) and torch.autograd.gradgradcheck(f, inputs)


@pytest.mark.parametrize("name", ["gated_deltanet", "kda"])
def test_the_transforms_of_torch_func(name):
    signals, u = draw(ALL[name], 2 * CHUNK, heads=1, n=2, p=1, batch=1)

    def last(g, backend):
        return dsf.simulate(ALL[name](**signals | {"g": g}), u, backend=backend)[0][:, -1].sum()

    g = signals["g"].clamp(min=-1)
    found, expected = (torch.func.grad(last)(g, backend) for backend in (KERNEL, "reference"))
    assert close(found, expected, EXACT) and found.any()


def test_backward_keeps_inputs_and_one_state_per_chunk():
    heads, length, n = 2, 10 * CHUNK, 8
    signals, u = draw(ALL["gated_deltanet"], length, heads=heads, n=n, p=n, batch=1)
    written = heads * length * (n + 1)  # beta k and the product of beta and its decay, which the body computes
    check_kept(KERNEL, ALL["gated_deltanet"], signals, u, heads * n * n * length // CHUNK + 3 * written)


# ------------------------------------------------------------------------------------------------- the parts of a group
@pytest.mark.parametrize("size", [1, 8, 16, 64])
def test_the_inverse_of_a_unit_triangle(size):
    A = torch.randn(2, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).tril(-1) / 4
    assert close(inverse(A), torch.linalg.inv(A + torch.eye(size, dtype=A.dtype)), EXACT)


def test_the_derivatives_of_the_inverse():
    A = torch.randn(32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).tril(-1) / 8
    entries = torch.tensor([[1, 0], [17, 3], [31, 30]]).T.unbind()
    few = A[entries].requires_grad_()

    def f(few):
        return inverse(A.index_put(entries, few))[[1, 20, 31]]

    assert torch.autograd.gradcheck(f, few) and torch.autograd.gradgradcheck(f, few)


@pytest.mark.parametrize("late", [True, False])
def test_decayed_products_and_their_derivatives(late):
    """A reset among weak decays; heads that share a column."""
    generator = torch.Generator().manual_seed(0)
    g = -torch.rand(2, 16, dtype=torch.float64, generator=generator)
    rows, columns = (torch.randn(m, 16, 2, dtype=torch.float64, generator=generator) for m in (2, 1))
    resets = g.clone()
    resets[0, 5] = resets[1, 0] = MIN
    (P,) = decayed_products(resets, [late], [rows], [columns])
    for i in range(16):
        for j in range(16):
            decay = resets[:, j + 1 : i + late].sum(-1).exp() if j < i + late else torch.zeros(2)
            assert close(P[:, i, j], (rows[:, i] * columns[:, j]).sum(-1) * decay, EXACT)

    def f(g, rows, columns):
        return tuple(decayed_products(g, [late, not late], [rows, 2 * rows], [columns, columns.cos()]))

    inputs = [a.requires_grad_() for a in (g, rows, columns)]
    assert torch.autograd.gradcheck(f, inputs)
    found, expected = (
        torch.autograd.grad(products(resets.requires_grad_()).cos().sum(), resets)[0]
        for products in (
            lambda r: decayed_products(r, [True], [rows], [columns])[0],
            lambda r: (rows @ columns.mT) * segments(r),
        )
    )
    assert close(found, expected, EXACT) and found[0, 5] == found[1, 0] == 0
