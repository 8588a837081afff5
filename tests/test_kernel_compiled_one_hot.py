"""The kernel "compiled_one_hot" against the reference: both orientations, indices that collide, ends of the factors."""

import pytest
import torch

import dsf
from dsf.operators import OneHotDiagonal
from dsf.reference import scan
from kernel_cases import (
    EXACT,
    FP32,
    HALF,
    LENGTHS,
    check_causal,
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
KERNEL = "compiled_one_hot"


@dsf.architecture("One-hot times diagonal", register=False)
def moved(p=dsf.Index, d=dsf.Vector(-1, 1), b=dsf.Vector, c=dsf.Vector):
    return dsf.System(A=OneHotDiagonal(p, d), B=b, C=c)


@dsf.architecture("The transpose, read before, one read for all", register=False)
def gathered(p=dsf.Index, d=dsf.Vector(-1, 1), b=dsf.Vector, c=dsf.Shared(dsf.Vector)):
    return dsf.System(A=OneHotDiagonal(p, d).T, B=b, C=c, reads="before")


@dsf.architecture("One constant permutation of decaying rows", register=False)
def constant(p=dsf.Param(dsf.Index), g=dsf.LogDecay, b=dsf.Shared(dsf.Vector), c=dsf.Vector):
    return dsf.System(A=dsf.decay(g) * OneHotDiagonal(p, 1), B=b, C=c)


@dsf.architecture("Rows move and nothing else", register=False)
def plain(p=dsf.Index, b=dsf.Vector, c=dsf.Vector):
    return dsf.System(A=OneHotDiagonal(p, 1).T, B=b, C=c)


ALL = {a.name: a for a in (moved, gathered, constant, plain)}


def at_the_ends(signals):
    ends = {"d": (0.0, 1.0, -1.0), "g": (0.0, -20.0, -1e4, -torch.inf)}
    return with_ends(signals, **{key: values for key, values in ends.items() if key in signals})


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", ALL)
def test_it_is_the_reference(name, length):
    signals, u = draw(ALL[name], length, heads=2)
    check_reference(KERNEL, ALL[name], at_the_ends(signals), u)


@pytest.mark.parametrize("n, p", [(1, 1), (16, 64), (20, 1), (5, 70), (3, 130)])
@pytest.mark.parametrize("name", [moved.name, gathered.name])
def test_any_size_of_the_state(name, n, p):
    signals, u = draw(ALL[name], 67, heads=1, n=n, p=p, batch=1)
    check_reference(KERNEL, ALL[name], signals, u)
    check_reference(KERNEL, ALL[name], signals, u, torch.float32, FP32)


@pytest.mark.parametrize("name", ALL)
def test_fp32_over_many_chunks(name):
    signals, u = draw(ALL[name], 1000, heads=1, batch=1)
    signals = signals if "d" not in signals else signals | {"d": signals["d"] * 0.9}
    u = u if "d" in signals or "g" in signals else u / 30
    check_reference(KERNEL, ALL[name], signals, u, torch.float32, FP32)


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision(dtype):
    signals, u = draw(moved, 130)
    p, u, rest = signals.pop("p"), u.to(dtype), {key: x.to(dtype) for key, x in signals.items()}
    y, state = dsf.simulate(moved(p=p, **rest), u, backend=KERNEL)
    expected, final = scan(moved(p=p, **{key: x.double() for key, x in rest.items()}), u.double())
    assert (y.dtype, state.dtype) == (dtype, torch.float32)
    assert close(y, expected, HALF[dtype]) and close(state, final, HALF[dtype])


@pytest.mark.parametrize("name", ALL)
def test_pieces_and_causality(name):
    check_pieces(KERNEL, ALL[name], *draw(ALL[name], 150))
    check_causal(KERNEL, ALL[name])


def test_second_derivatives_and_torch_func():
    signals, u = draw(gathered, 4, heads=1, n=2, p=1, batch=1)
    inputs = [signals[key].detach().requires_grad_() for key in ("d", "b", "c")]

    def f(*values):
        return dsf.simulate(gathered(**dict(zip(signals, (signals["p"], *values), strict=True))), u, backend=KERNEL)

    assert torch.autograd.gradgradcheck(f, inputs)
    found = torch.func.grad(lambda x: f(x, *inputs[1:])[0].sum())(inputs[0])
    assert close(found, torch.autograd.grad(f(*inputs)[0].sum(), inputs[0])[0], EXACT)


def test_backward_keeps_inputs_and_one_state_per_chunk():
    heads, length, n = 2, 640, 8
    signals, u = draw(moved, length, heads=heads, n=n, p=n, batch=1)
    check_kept(KERNEL, moved, signals, u, 2 * heads * n * n * (length // 64 + 1) + signals["p"].numel())


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_beyond_the_state_is_refused(index):
    p, k = torch.zeros(1, 4, 1, 3, dtype=torch.long), torch.ones(1, 4, 1, 3)
    p[:, 2, :, 1] = index
    with pytest.raises(IndexError, match="0..2"):
        dsf.simulate(dsf.System(A=OneHotDiagonal(p, 1), B=k, C=k), k, backend=KERNEL)


def test_it_is_chosen():
    signals, u = draw(moved, 512, n=32, p=32)
    assert dsf.explain(moved(**signals), u).kernel == KERNEL
