"""Scalars on both sides of an operator, the structures that are kept, and the special operators of B and C."""

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
    RealPart,
    Reflection,
    Scaled,
    Shift,
    Sum,
    diag,
    outer,
)
from dsf.algebra import dense
from dsf.sets import Interval, inf
from dsf.values import Bound, Log, MatrixBound
from helpers import numbers
from structures import (
    LEAD,
    READINGS,
    STRUCTURES,
    N,
    Tensors,
    assert_same,
    matrix,
)

structures = st.sampled_from(sorted(STRUCTURES))
seeds = st.integers(0, 50)


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
