"""The kernel "compiled_dense" against the reference: matrices of every step, constant ones, and what climbs to them."""

import pytest
import torch

import dsf
from dsf.operators import Dense
from kernel_cases import (
    EXACT,
    FP32,
    HALF,
    LENGTHS,
    check_causal,
    check_half,
    check_kept,
    check_pieces,
    check_reference,
    close,
    draw,
    poisoned_memory,  # noqa: F401
)

pytest.importorskip("numba")
pytestmark = pytest.mark.usefixtures("poisoned_memory")
KERNEL = "compiled_dense"


@dsf.architecture("A matrix of every step", register=False)
def varying(M=dsf.Matrix, b=dsf.Vector, c=dsf.Vector):
    return dsf.System(A=0.3 * M, B=b, C=c)


@dsf.architecture("A constant matrix, read before", register=False)
def constant(M=dsf.Param(dsf.Matrix), b=dsf.Vector, c=dsf.Shared(dsf.Vector)):
    return dsf.System(A=0.3 * M, B=b, C=c, reads="before")


@dsf.architecture("A transposed matrix, one read for all", register=False)
def transposed(M=dsf.Matrix, b=dsf.Vector, c=dsf.Param(dsf.Vector)):
    return dsf.System(A=(0.3 * M).T, B=b, C=c)


ALL = {a.name: a for a in (varying, constant, transposed)} | {"deltaproduct": dsf.architecture_named("deltaproduct")}


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", ALL)
def test_it_is_the_reference(name, length):
    signals, u = draw(ALL[name], length, heads=2)
    check_reference(KERNEL, ALL[name], signals, u)


@pytest.mark.parametrize("n, p", [(1, 1), (4, 64), (7, 1), (6, 70), (3, 130), (40, 2)])
def test_any_size_of_the_state(n, p):
    signals, u = draw(varying, 67, heads=1, n=n, p=p, batch=1)
    signals["M"] = signals["M"] / n**0.5
    check_reference(KERNEL, varying, signals, u)
    check_reference(KERNEL, varying, signals, u, torch.float32, FP32)


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision(dtype):
    signals, u = draw(constant, 130)
    signals["M"] = signals["M"] / 2
    check_half(KERNEL, constant, signals, u, dtype)


@pytest.mark.parametrize("name", ALL)
def test_pieces_and_causality(name):
    signals, u = draw(ALL[name], 150)
    check_pieces(KERNEL, ALL[name], signals, u)
    check_causal(KERNEL, ALL[name])


def test_second_derivatives():
    signals, u = draw(varying, 4, heads=1, n=2, p=1, batch=1)
    inputs = [signals[key].detach().requires_grad_() for key in signals]

    def f(*values):
        return dsf.simulate(varying(**dict(zip(signals, values, strict=True))), u, backend=KERNEL)

    assert torch.autograd.gradgradcheck(f, inputs)
    found = torch.func.grad(lambda x: f(x, *inputs[1:])[0].sum())(inputs[0])
    assert close(found, torch.autograd.grad(f(*inputs)[0].sum(), inputs[0])[0], EXACT)


def test_backward_keeps_inputs_and_one_state_per_chunk():
    heads, length, n = 2, 640, 8
    signals, u = draw(constant, length, heads=heads, n=n, p=n, batch=1)
    check_kept(KERNEL, constant, signals, u, 2 * heads * n * n * (length // 64 + 2))


def test_a_complex_matrix_is_declined():
    M, k = torch.ones(1, 1, 1, 2, 2, dtype=torch.complex128), torch.ones(1, 3, 1, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="complex"):
        dsf.simulate(dsf.System(A=Dense(M), B=k, C=k), k, backend=KERNEL)
