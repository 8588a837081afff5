"""Every structure acts, transposes, adds, scales and composes as its matrix, on tensors and on symbols."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsf import (
    Composed,
    Dense,
    Diagonal,
    I,
    OneHotDiagonal,
    Product,
    Reflection,
    Scaled,
    Shift,
    Sum,
    Writes,
    block,
    diag,
    outer,
)
from dsf.algebra import dense, rows
from dsf.composites import nodes
from helpers import numbers
from structures import (
    LEAD,
    READINGS,
    STRUCTURES,
    J,
    N,
    P,
    Tensors,
    assert_same,
    by_definition,
    matrix,
    some_dense,
    some_reflection,
)

structures = st.sampled_from(sorted(STRUCTURES))
seeds = st.integers(0, 50)


@given(structures, seeds)
def test_structures_are_the_matrices_of_their_definitions(name, seed):
    r = Tensors(seed)
    A = STRUCTURES[name](r)
    expected = by_definition(name, A, r)
    if expected is not None:
        assert_same(matrix(A), expected.to(torch.complex128))


@pytest.mark.parametrize("reading", READINGS)
@given(structures, seeds)
def test_apply_and_matvec_and_transpose(reading, name, seed):
    r = READINGS[reading](seed)
    A, x, v = STRUCTURES[name](r), r.state(), r.array(N)
    M = matrix(A, x)
    if reading == "tensors":
        assert_same(A.apply(x).to(M), M @ x.to(M))
        assert_same((A @ v).to(M), (M @ v.to(M)[..., None])[..., 0])
    else:
        M = dense(A, N, x)
        assert (A.apply(x) == np.dot(M, x)).all() and (A @ v == np.dot(M, v)).all()
    assert_same(matrix(A.T, x), matrix(A, x).mT)
    assert_same(matrix(A.T.T, x), matrix(A, x))


@pytest.mark.parametrize("reading", READINGS)
@settings(max_examples=200)
@given(structures, structures, seeds)
def test_sums_differences_and_products_of_every_pair(reading, left, right, seed):
    r = READINGS[reading](seed)
    A, B = STRUCTURES[left](r), STRUCTURES[right](r)
    like = r.state()
    L, R = matrix(A, like), matrix(B, like)
    assert_same(matrix(A + B, like), L + R)
    assert_same(matrix(A - B, like), L - R)
    assert_same(matrix(A @ B, like), L @ R)
    assert_same(matrix((A @ B).T, like), (L @ R).mT)
    assert_same(matrix((A + B).T, like), (L + R).mT)


def test_every_pair_once():
    """The sampled pairs are a part of them."""
    for i, (left, right) in enumerate(itertools.product(STRUCTURES, STRUCTURES)):
        r = Tensors(i % 50)
        A, B = STRUCTURES[left](r), STRUCTURES[right](r)
        assert_same(matrix(A @ B), matrix(A) @ matrix(B))
        assert_same(matrix(A + B), matrix(A) + matrix(B))


def test_one_hots_compose_by_index():
    r = Tensors(3)
    A, B = OneHotDiagonal(r.index(N), r.array(N)), OneHotDiagonal(r.index(N), r.complex(N))
    assert type(A @ B) is OneHotDiagonal and type(A @ B @ A) is OneHotDiagonal
    assert (A @ B).p.shape[-1] == N


def test_infinite_states_do_not_leak_through_zeros():
    x = torch.full((N, 1), torch.inf)
    assert Shift(1).apply(x)[0] == 0 and Shift(-1).apply(x)[-1] == 0


@pytest.mark.parametrize("shared", ["nothing", "the write", "the operator"])
def test_writes_push_each_input_through_the_later_factors(shared):
    r = Tensors(7)
    A = Product(Scaled(r.array(1, 1)) if shared == "the operator" else some_reflection(r, J), J)
    b = r.array(1 if shared == "the write" else J, N)
    u = numbers(*LEAD, J, P, seed=9)
    x = 0
    for j in range(J):
        bj = b[..., j if b.shape[-2] > 1 else 0, :]
        x = A.factors()[j].apply(x + 0 * u[..., 0, :][..., None, :]) + bj[..., None] * u[..., j, :][..., None, :]
    assert_same(Writes(A, b).apply(u), x)


def test_a_product_of_equal_factors_is_a_power():
    """An operator without an axis J acts at every micro-step, not once."""
    assert torch.equal(dense(Product(Scaled(2), J), 1, torch.ones(1)), torch.tensor([[8.0]]))
    assert len(Product(I, J).factors()) == J and len(Product(I, J).T.factors()) == J


def test_sizes():
    r = Tensors(0)
    assert rows(I) is rows(Shift()) is rows(Scaled(r.array(1))) is None
    assert rows(Composed(Shift(), some_dense(r))) == rows(Sum(Shift(), some_dense(r))) == N
    assert rows(Sum(Diagonal(r.array(1)), some_dense(r))) == rows(Composed(Diagonal(r.array(1)), some_dense(r))) == N
    assert rows(block([[I, 0], [0, diag(r.array(N))]])) == 2 * N
    assert rows(Composed(Dense(r.array(2, N)), some_dense(r))) == 2
    with pytest.raises(ValueError, match="fits any size"):
        dense(I)
    with pytest.raises(ValueError, match="square list of rows"):
        block([[I, I], [I]])
    assert len(nodes(block([[I @ Shift(), I], [I, I]]))) == 5


def test_reflections_are_checked_at_their_ends():
    """beta = 0 keeps, 1 projects, 2 reflects: exactly."""
    k = torch.tensor([0.6, 0.8], dtype=torch.float64)
    M = [dense(I - torch.tensor([beta], dtype=torch.float64) * outer(k)) for beta in (0.0, 1.0, 2.0)]
    assert torch.equal(M[0], torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(M[1] @ k, torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(M[2] @ k, -k)
    assert isinstance(0 * (I - outer(k)), Reflection) and torch.equal(dense(0 * (I - outer(k))), torch.zeros(2, 2))
