"""Zero-order hold and the generalised bilinear transform, of diagonals and matrices, against scipy and by symbols."""

import numpy as np
import pytest
import scipy.signal
import sympy as sp
import torch

import dsf
from dsf import Dense, Diagonal, bilinear, diag, gbt, zoh
from dsf.algebra import dense
from dsf.enclosures import enclose
from dsf.sets import Interval, inf
from dsf.values import Log, MatrixBound, value
from helpers import numbers, relative

EXACT = 1e-11  # fp64 against scipy, relative
N = 3
RULES = {
    "zoh": (zoh, {"method": "zoh"}),
    "euler": (lambda A, b, dt: gbt(A, b, dt, 0), {"method": "gbt", "alpha": 0.0}),
    "bilinear": (bilinear, {"method": "gbt", "alpha": 0.5}),
    "backward": (lambda A, b, dt: gbt(A, b, dt, 1), {"method": "gbt", "alpha": 1.0}),
    "gbt 0.3": (lambda A, b, dt: gbt(A, b, dt, 0.3), {"method": "gbt", "alpha": 0.3}),
}
every_rule = pytest.mark.parametrize("rule", RULES)


def scipys(A, b, dt, options):
    """scipy's matrices for every (batch, time, head), of A [.., n, n], b [.., n], dt [.., 1]."""
    lead = torch.broadcast_shapes(A.shape[:-2], b.shape[:-1], dt.shape[:-1])
    A, b, dt = A.expand(*lead, N, N), b.expand(*lead, N), dt.expand(*lead, 1)
    pairs = []
    for M, v, step in zip(A.reshape(-1, N, N), b.reshape(-1, N), dt.reshape(-1), strict=True):
        system = (M.numpy(), v[:, None].numpy(), np.zeros((1, N)), np.zeros((1, 1)))
        pairs.append([torch.tensor(part) for part in scipy.signal.cont2discrete(system, step.item(), **options)[:2]])
    return torch.stack([a for a, _ in pairs]).reshape(*lead, N, N), torch.stack([b[:, 0] for _, b in pairs]).reshape(
        *lead, N
    )


def assert_same(rule, A, b, dt, M=None, tolerance=EXACT):
    make, options = RULES[rule]
    step, write = make(A, b, dt)
    expected = scipys(dense(A, N) if M is None else M, b, dt, options)
    for found, right in zip((dense(step, N), write), expected, strict=True):
        assert relative(*torch.broadcast_tensors(found, right.to(found.dtype))) < tolerance
    return expected


@pytest.mark.parametrize("time", [1, 4], ids=["constant step", "a step per token"])
@every_rule
def test_diagonals_and_matrices_are_scipys(rule, time):
    dt = 0.1 + numbers(2, time, 2, 1, seed=1).abs()
    b = numbers(2, 1, 2, N, seed=2)
    d = -0.1 - numbers(1, 1, 2, N, seed=3).abs()
    assert_same(rule, Diagonal(d), b, dt)
    assert_same(rule, Dense(numbers(1, 1, 2, N, N, seed=4, special=0)), b, dt)
    wrong = RULES[rule][0](Diagonal(d), b, dt + 0.05)[0]
    assert relative(value(wrong.d), value(RULES[rule][0](Diagonal(d), b, dt)[0].d)) > 1e-3


@every_rule
def test_a_token_dependent_write_beside_a_constant_step(rule):
    """b varies in time, A and dt do not."""
    A, dt, b = (
        numbers(1, 1, 2, N, N, seed=4),
        torch.full((1, 1, 2, 1), 0.3, dtype=torch.float64),
        numbers(2, 5, 2, N, seed=5),
    )
    assert_same(rule, Dense(A), b, dt)
    assert_same(rule, Diagonal(-A[..., 0].abs() - 0.1), b, dt)


@every_rule
def test_complex_diagonals_are_complex_matrices(rule):
    make, options = RULES[rule]
    d = torch.complex(-numbers(1, 1, 2, N, seed=1).abs() - 0.1, 3 * numbers(1, 1, 2, N, seed=2))
    b = torch.complex(numbers(1, 1, 2, N, seed=3), numbers(1, 1, 2, N, seed=4))
    dt = torch.full((1, 1, 2, 1), 0.3, dtype=torch.float64)
    step, write = make(Diagonal(d), b, dt)
    other, wrote = make(Dense(torch.diag_embed(d)), b, dt)
    assert relative(dense(step, N), dense(other, N)) < EXACT and relative(write, wrote) < EXACT
    expected = scipys(torch.diag_embed(d), b, dt, options)
    assert relative(dense(step, N), expected[0]) < EXACT and relative(write, expected[1]) < EXACT


@pytest.mark.parametrize("form", ["diagonal", "dense"])
@every_rule
def test_a_pole_at_zero_integrates(rule, form):
    """Also near zero, and with the gradient of the limit: B = dt b (1 + dt lam / 2 + ...)."""
    lam = torch.tensor([0.0, 1e-9, -1e-4], dtype=torch.float64).reshape(1, 1, 1, N).requires_grad_()
    b, dt = numbers(1, 1, 1, N, seed=2, special=0), torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    A = Diagonal(lam) if form == "diagonal" else Dense(torch.diag_embed(lam))
    _, write = RULES[rule][0](A, b, dt)
    expected = scipys(torch.diag_embed(lam.detach()), b, dt, RULES[rule][1])[1]
    assert relative(write.detach(), expected) < EXACT
    if rule == "euler":  # B = dt b, whatever lam is
        return
    (slope,) = torch.autograd.grad(write.sum(), lam)
    factor = {"zoh": 0.5, "bilinear": 0.5, "backward": 1, "gbt 0.3": 0.3}[rule]
    torch.testing.assert_close(slope, factor * dt * dt * b, rtol=1e-3, atol=1e-12)


def test_the_ratio_is_smooth_across_its_series():
    from dsf.discretize import _expm1_ratio

    z = torch.tensor([1e-8, 9.999e-4, 1.0001e-3, -9.99e-4, -2e-3, 0.5], dtype=torch.float64, requires_grad=True)
    found = _expm1_ratio(z)
    (slope,) = torch.autograd.grad(found.sum(), z)
    x = sp.Symbol("x")
    exact = [float(((sp.exp(x) - 1) / x).subs(x, sp.Float(v, 60))) for v in z.tolist()]
    slopes = [float(sp.diff((sp.exp(x) - 1) / x).subs(x, sp.Float(v, 60))) for v in z.tolist()]
    torch.testing.assert_close(found, torch.tensor(exact, dtype=torch.float64), rtol=1e-13, atol=0)
    torch.testing.assert_close(slope, torch.tensor(slopes, dtype=torch.float64), rtol=1e-9, atol=0)


@pytest.mark.parametrize("form", ["diagonal", "dense"])
@every_rule
def test_symbols_are_the_numbers_at_n_2(rule, form):
    n = 2
    d, M = dsf.Vector.symbols("a", n), dsf.Matrix.symbols("m", n)
    M[0, 1] = sp.Integer(0)  # triangular, as HiPPO's
    b, dt = dsf.Vector.symbols("b", n), dsf.Scalar.symbols("dt", n)
    point = dict(
        zip(
            [*d, *M.ravel()[M.ravel() != 0], *b, *dt],
            map(sp.Rational, (-1, -0.5, -2, 0.25, -0.75, 1, 3, 0.5)),
            strict=True,
        )
    )

    def numeric(x):
        return torch.tensor(np.array(sp.Matrix(x).subs(point).evalf(20).tolist(), dtype=float)).reshape(
            1, 1, 1, *x.shape
        )

    make = RULES[rule][0]
    step, write = make(diag(d) if form == "diagonal" else Dense(M), b, dt)
    A = Diagonal(numeric(d)) if form == "diagonal" else Dense(numeric(M))
    expected, wrote = make(A, numeric(b), numeric(dt))
    assert relative(numeric(dense(step, n, d)), dense(expected, n)) < 1e-12
    assert relative(numeric(write), wrote) < 1e-12


def test_the_hold_of_a_diagonal_stays_in_log_space():
    step, _ = zoh(Diagonal(torch.full((1, 1, 1, 1), -1.0)), torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 200.0))
    assert isinstance(step.d, Log) and step.d.log.item() == -200


def test_bounds_by_spectral_mapping():
    stable, dt = MatrixBound(Interval(-inf, -1)), dsf.Positive.bound()
    b = dsf.Vector.bound()
    for make, expected in ((zoh, "[0, 1]"), (bilinear, "[-1, 1]"), (RULES["backward"][0], "[0, 1]")):
        step, write = make(Dense(stable), b, dt)
        assert repr(enclose(step).hull) == expected
        assert write.norm2 == Interval(0, inf) and write.dependence == "token"
    assert repr(enclose(bilinear(diag(dsf.Vector(-inf, 0).bound()), b, dt)[0]).hull) == "[-1, 1]"
    symmetric = MatrixBound(Interval(-1, -1), 1.0, symmetric=True)
    assert zoh(Dense(symmetric), b, dt)[0].M.norm == 1 and zoh(Dense(symmetric), b, dt)[0].M.symmetric
    assert zoh(Dense(stable), b, dt)[0].M.norm == inf


def test_refusals():
    b = dt = torch.ones(1, 1, 1, 1)
    with pytest.raises(ValueError, match="alpha must lie in"):
        gbt(Diagonal(b), b, dt, 1.5)
    for rule in (zoh, bilinear):
        with pytest.raises(TypeError, match="takes a Diagonal or a Dense operator, got Shift"):
            rule(dsf.Shift(), b, dt)
