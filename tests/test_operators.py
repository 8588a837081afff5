"""Every structure acts, transposes, adds, scales and composes as its matrix, on tensors and on symbols."""

import itertools

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dsf
from dsf import (
    Composed,
    Dense,
    Diagonal,
    DiagonalPlusLowRank,
    I,
    OneHotDiagonal,
    Product,
    RealPart,
    Reflection,
    Scaled,
    Shift,
    Sum,
    Writes,
    block,
    diag,
    outer,
)
from dsf.operators import dense, nodes, rows
from dsf.sets import Interval, inf
from dsf.values import Bound, Log, MatrixBound
from helpers import numbers, relative
from structures import LEAD, READINGS, STRUCTURES, J, N, P, Tensors, by_definition, matrix, some_dense, some_reflection

EXACT = 1e-12  # fp64, relative; symbols are exact

structures = st.sampled_from(sorted(STRUCTURES))
seeds = st.integers(0, 50)


def assert_same(found, expected):
    assert relative(*torch.broadcast_tensors(found, expected)) < EXACT


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


SCALARS = {
    "int": lambda r: 3,
    "zero": lambda r: 0,
    "one": lambda r: 1.0,
    "complex": lambda r: 2j - 1,
    "numpy": lambda r: np.float64(-1.5),
    "signal": lambda r: r.array(1),
}


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("scalar", [*SCALARS, "log", "zero-dimensional"])
@settings(max_examples=60)
@given(structures, seeds)
def test_scalars_on_both_sides(reading, scalar, name, seed):
    r = READINGS[reading](seed)
    A, like = STRUCTURES[name](r), r.state()
    if scalar == "zero-dimensional":
        c = torch.tensor(0.7, dtype=torch.float64) if reading == "tensors" else 3
    else:
        c = r.log(1) if scalar == "log" else SCALARS[scalar](r)
    factor = dense(Scaled(c), N, like)
    factor = torch.tensor(np.array(factor.tolist(), dtype=complex)) if isinstance(factor, np.ndarray) else factor
    expected = factor.to(torch.complex128) @ matrix(A, like)
    assert_same(matrix(c * A, like), expected)
    assert_same(matrix(A * c, like), expected)
    assert_same(matrix(-A, like), -matrix(A, like))
    if scalar not in ("zero", "log", "signal"):
        assert_same(matrix(A / c, like), matrix(A, like) / complex(c))


def test_bounds_and_names_scale_from_both_sides():
    bound, name_ = Bound(Interval(0, 1)), sp.Symbol("g")
    for A in (
        I,
        Scaled(bound),
        Diagonal(bound),
        outer(Bound(Interval(), Interval(0, inf))),
        Dense(MatrixBound(Interval(0, 1))),
        Shift(),
    ):
        assert isinstance(bound * A, dsf.Operator) and isinstance(A * bound, dsf.Operator)
    for A in (I, diag(sp.Symbol("d")), outer(sp.Symbol("k")), Dense(sp.Symbol("R")), Shift()):
        assert isinstance(name_ * A, dsf.Operator) and isinstance(A * name_, dsf.Operator)


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_vector_does_not_multiply_an_operator(name):
    """v * A would scale rows, and keep a structure that claims to be symmetric."""
    A, v = STRUCTURES[name](Tensors(1)), numbers(*LEAD, N)
    for wrong in (v, Log(v), np.array([1, 2], dtype=object), Bound(Interval(), Interval(0, 1))):
        for product in (lambda w: w * A, lambda w: A * w):
            with pytest.raises(ValueError, match="diag\\(v\\) @ A"):
                product(wrong)
    with pytest.raises(TypeError, match="composed with @"):
        A * A
    with pytest.raises(TypeError):
        A + 1
    with pytest.raises(TypeError):
        v + A


@pytest.mark.parametrize(
    "make, structure",
    [
        (lambda b, k, g, d: I - b * outer(k), Reflection),
        (lambda b, k, g, d: g * (I - b * outer(k)), Reflection),
        (lambda b, k, g, d: (1 - b) * I - 2 * outer(k), Reflection),
        (lambda b, k, g, d: outer(k) + outer(k), Reflection),
        (lambda b, k, g, d: g * I, Scaled),
        (lambda b, k, g, d: I - I, Scaled),
        (lambda b, k, g, d: (g * I) @ (b * I), Scaled),
        (lambda b, k, g, d: diag(d) + b * I, Diagonal),
        (lambda b, k, g, d: g * diag(d) @ diag(d), Diagonal),
        (lambda b, k, g, d: diag(d) - b * outer(k), DiagonalPlusLowRank),
        (lambda b, k, g, d: diag(d) - outer(k, d), DiagonalPlusLowRank),
        (lambda b, k, g, d: outer(k, d) + I, DiagonalPlusLowRank),
        (lambda b, k, g, d: (I - b * outer(k)) @ diag(d), Composed),
        (lambda b, k, g, d: outer(k) + outer(d), Sum),
        (lambda b, k, g, d: I @ Shift(), Shift),
        (lambda b, k, g, d: 1 * Shift(), Shift),
    ],
)
def test_the_narrowest_structure_is_kept(make, structure):
    """A lost structure gives right numbers, slowly."""
    r = Tensors(0)
    assert type(make(r.array(1), r.array(N), r.log(1), r.log(N))) is structure


def test_logs_stay_logs_inside_operators():
    g, h = Log(-numbers(*LEAD, 1).abs()), Log(-numbers(*LEAD, N).abs())
    for op in (g * I, g * diag(h), diag(h) @ diag(h), (g * I) @ diag(h), g * (I - 2 * outer(numbers(*LEAD, N)))):
        assert any(isinstance(part, Log) for part in vars(op).values())


def test_one_hots_compose_by_index():
    r = Tensors(3)
    A, B = OneHotDiagonal(r.index(N), r.array(N)), OneHotDiagonal(r.index(N), r.complex(N))
    assert type(A @ B) is OneHotDiagonal and type(A @ B @ A) is OneHotDiagonal
    assert (A @ B).p.shape[-1] == N


def test_infinite_states_do_not_leak_through_zeros():
    x = torch.full((N, 1), torch.inf)
    assert Shift(1).apply(x)[0] == 0 and Shift(-1).apply(x)[-1] == 0


def test_real_part_reads_and_stays_a_real_part():
    r = Tensors(5)
    c, d, x = r.complex(N), r.complex(N), torch.complex(r.state(), r.state())
    expected = (c[..., None] * x).sum(-2, keepdim=True).real
    assert_same(RealPart(c).apply(x), expected)
    assert_same((2 * RealPart(c)).apply(x), 2 * expected)
    assert_same((RealPart(c) + RealPart(d)).apply(x), RealPart(c + d).apply(x))
    for A in (Diagonal(d), Dense(r.array(N, N)), outer(r.array(N), d), Shift()):
        assert_same((RealPart(c) @ A).apply(x), RealPart(c).apply(A.apply(x)))
    for op in (
        2 * RealPart(c),
        -RealPart(c),
        RealPart(c) + RealPart(d),
        RealPart(c) - RealPart(d),
        RealPart(c) @ diag(d),
    ):
        assert type(op) is RealPart
    for factor in (1j, d[..., :1]):
        with pytest.raises(ValueError, match="Re\\(c\\^T x\\)"):
            factor * RealPart(c)
    with pytest.raises(ValueError, match="not complex linear"):
        dense(RealPart(c), N)
    y = RealPart(np.array([sp.I, 2], dtype=object)).apply(
        np.array([[sp.Symbol("a", real=True)], [3 + sp.I]], dtype=object)
    )
    assert y.shape == (1, 1) and y[0, 0] == 6


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


def test_matrices_under_bounds():
    R = Dense(MatrixBound(Interval(0, 1), 1.0, symmetric=True, dependence="token"))
    assert (2 * R).M == MatrixBound(Interval(0, 2), 2.0, True, "token")
    assert (-1 * R).M.spectrum == Interval(-1, 0)
    assert not (1j * R).M.symmetric and (0 * Dense(MatrixBound(Interval()))).M.norm == 0
    v = Bound(Interval(-1, 1), Interval(0, 4), "prefix")
    assert (R @ v).norm2 == Interval(0, 4) and (R @ v).set == Interval(-2, 2) and (R @ v).dependence == "prefix"
    assert (Dense(MatrixBound(Interval())) @ v).norm2.hi == inf
    assert (0 * Dense(MatrixBound(Interval())) @ Bound(Interval(), Interval(0, inf))).norm2 == Interval(0, 0)
    assert (I @ v) is v
    unknown = Dense(MatrixBound(Interval(), 1.0)) @ Bound(Interval(-1, 1))  # a scalar is no vector of known length
    assert unknown.norm2.hi == inf
    for complex_ in (R @ Bound(dsf.disc(1), Interval(0, 1)), diag(Bound(dsf.disc(1), Interval(0, 1))) @ v):
        assert not isinstance(complex_.set, Interval)
