"""Values in every reading: bounds enclose what they bound, logs stay exact, structure numbers stay numbers."""

import operator
from dataclasses import dataclass

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dsf
from dsf.functions import inner, known, stack
from dsf.sets import Interval, annulus, disc, inf
from dsf.values import Bound, Log, MatrixBound, as_bound, is_one, is_zero, plus, times, value, widest
from helpers import numbers

ROUNDING = 1e-12  # relative, of two ways to compute the same number in fp64
N = 3  # entries of a vector
BINARY = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


# --- bounds ----------------------------------------------------------------------------------------------------------


@dataclass
class Pair:
    """A bound, and numbers that it must enclose: [1] or [N]."""

    bound: Bound
    x: np.ndarray

    def check(self):
        finite = np.isfinite(self.x)
        room = ROUNDING * (1 + np.abs(np.where(finite, self.x, 0)))
        for z, r in zip(self.x[finite], room[finite], strict=True):
            assert any(z + d in self.bound.set for d in (0, r, -r)), f"{z} is not in {self.bound.set}"
        if self.bound.norm2 is not None and np.abs(self.x).max() < 1e100:
            length2, slack = float((np.abs(self.x) ** 2).sum()), 1e-9
            assert length2 * (1 + slack) >= self.bound.norm2.lo and length2 * (1 - slack) <= self.bound.norm2.hi


# Below, fp64 loses the squares: the bound of |v|^2 that `signals` draws would not hold.
numbers_with_squares = st.floats(-3, 3).map(lambda x: x if abs(x) > 1e-100 else 0.0)


@st.composite
def signals(draw):
    """Two scalars and two vectors with bounds as tight as a domain's, or loose."""
    out = []
    for size in (1, 1, N, N):
        x = np.array([draw(st.one_of(st.sampled_from([0.0, 1.0, -1.0]), numbers_with_squares)) for _ in range(size)])
        lo, hi = x.min() - draw(st.sampled_from([0, 0.5])), x.max() + draw(st.sampled_from([0, 1.0, inf]))
        length2 = float((x * x).sum())
        norm2 = draw(
            st.sampled_from([Interval(length2, length2), Interval(length2 / 2, 2 * length2), Interval(0, inf)])
        )
        dependence = draw(st.sampled_from(["const", "token", "prefix"]))
        out.append(Pair(Bound(Interval(lo, hi), norm2 if size > 1 else None, dependence), x))
    return out


def unary(name):
    numpy = {
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "softplus": lambda x: np.log1p(np.exp(x)),
        "relu": lambda x: np.maximum(x, 0),
    }
    return getattr(dsf, name), numpy.get(name) or getattr(np, name)


STEPS = ["+", "-", "*", "/", "square", "neg", "inner", "number", "exp", "tanh", "sigmoid", "softplus", "relu"]


@settings(max_examples=200)
@given(
    signals(), st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=5)
)
def test_every_expression_of_bounds_encloses_its_values(pool, program):
    for name, i, j in program:
        a, b = pool[i % len(pool)], pool[j % len(pool)]
        with np.errstate(all="ignore"):
            if name in BINARY:
                made = Pair(BINARY[name](a.bound, b.bound), BINARY[name](a.x, b.x))
            elif name == "square":
                made = Pair(a.bound * a.bound, a.x * a.x)
            elif name == "neg":
                made = Pair(-a.bound, -a.x)
            elif name == "number":
                made = Pair(2 - 3 * a.bound / 4 + 1, 2 - 3 * a.x / 4 + 1)
            elif name == "inner":
                if a.bound.norm2 is None or b.bound.norm2 is None:
                    continue
                made = Pair(inner(a.bound, b.bound), (a.x * b.x).sum(keepdims=True))
            else:
                on_bounds, on_numbers = unary(name)
                if np.abs(a.x).max() > 50:
                    continue
                made = Pair(on_bounds(a.bound), on_numbers(a.x))
        made.check()
        assert (made.bound.norm2 is None) == (made.x.size == 1)
        if name in BINARY or name == "inner":
            assert made.bound.dependence == widest((a.bound.dependence, b.bound.dependence))
        pool.append(made)


def test_bounds_are_tight_where_a_proof_needs_it():
    gate, unit = Bound(Interval(0, 1)), Bound(Interval(-1, 1), Interval(1, 1))
    assert (1 - gate).set == Interval(0, 1)
    assert (gate * unit).norm2 == Interval(0, 1)
    assert (2 * unit).norm2 == Interval(4, 4)
    assert (-unit).norm2 == Interval(1, 1)
    assert inner(unit, unit).set == Interval(1, 1)
    assert inner(unit, Bound(Interval(-1, 1), Interval(1, 1))).set == Interval(-1, 1)
    assert (gate * unit * unit).norm2.hi <= 1  # |a o b| <= max|a| |b|
    assert (unit * unit).set == Interval(0, 1)  # one signal twice: a square
    assert dsf.exp(Bound(Interval(-inf, 0))).set == Interval(0, 1)
    assert dsf.decay(Bound(Interval(-inf, 0))).set == Interval(0, 1)
    assert stack(2 * unit, 0 * unit).norm2 == Interval(0, 4)


def test_bounds_of_complex_signals():
    lam = Bound(annulus(0.5, 0.9), Interval(0, 2))
    assert (2j * lam).set == annulus(1, 1.8)
    assert (lam * lam).set.abs == Interval(0.25, 0.81)
    assert inner(lam, lam).set == disc(2)
    assert (1 / lam).set.abs.lo == pytest.approx(1 / 0.9)
    assert (lam + 1).norm2 == Interval(0, inf)


def test_huge_bounds_do_not_overflow():
    big = Bound(Interval(-1e200, 1e200), Interval(0, 1e300))
    assert (big * Bound(Interval(-1e200, 1e200), Interval(0, 1e300))).norm2.hi == inf
    assert (big + big).norm2.hi == pytest.approx(4e300)
    assert (big * big).set == Interval(0, inf)


def test_a_number_in_a_stack_counts_in_its_norm():
    """[v; 1] has n more ones, and n is unknown."""
    v = Bound(Interval(0, 1), Interval(0, 1))
    assert stack(v, 1).norm2.hi == inf
    assert stack(v, 0).norm2.hi == 1
    assert stack(v, 1).set == Interval(0, 1)


def test_known_narrows_and_contradictions_are_refused():
    x = Bound(Interval(-inf, 1))
    assert known(x, 0, 5).set == Interval(0, 1)
    with pytest.raises(ValueError, match="lo <= hi"):
        known(x, 2, 3)
    assert known(torch.tensor(7.0), 0, 1) == 7


def test_dependence_is_the_widest():
    assert widest([]) == "const"
    assert widest(["token", "state", "window", "prefix"]) == "state"
    assert widest(["token", "window"]) == "window" and widest(["prefix", "window"]) == "prefix"
    beta, k = Bound(Interval(0, 1), None, "const"), Bound(Interval(), Interval(0, inf), "window")
    assert (dsf.I - beta * dsf.outer(k)).b.dependence == "const"
    assert dsf.algebra.dependence(dsf.I - beta * dsf.outer(k)) == "window"


def test_micro_steps_are_carried():
    k = Bound(Interval(), Interval(0, inf), steps=3)
    assert (2 * k).steps == (k + 1).steps == (k * Bound(Interval(0, 1))).steps == inner(k, k).steps == 3
    R = dsf.Dense(MatrixBound(Interval(0, 1), steps=2))
    assert (R @ Bound(Interval(), Interval(0, 1))).steps == 2


# --- logs ------------------------------------------------------------------------------------------------------------

LOGS = {
    "real": torch.tensor([-3.0, -0.5, 0.0, -1e-9, -inf], dtype=torch.float64),
    "complex": torch.tensor([-1 + 2j, 0.5j, -3 - 1j, -1e-9j], dtype=torch.complex128),
}


@pytest.mark.parametrize("kind", LOGS)
@pytest.mark.parametrize("symbol", BINARY)
@pytest.mark.parametrize("other", ["log", "tensor", 2, 0.5, 1, 1j, np.float64(3)])
def test_logs_compute_as_their_values(kind, symbol, other):
    log = LOGS[kind]
    a = Log(log)
    b = Log(log.flip(0) / 2) if other == "log" else numbers(len(log), seed=1) + 5 if other == "tensor" else other
    op = BINARY[symbol]
    for left, right in ((a, b), (b, a)):
        found, expected = value(op(left, right)), op(value(left), value(right))
        defined = torch.isfinite(expected.abs())
        torch.testing.assert_close(found[defined], expected[defined], rtol=1e-11, atol=0 if symbol in "*/" else 1e-15)
    torch.testing.assert_close(value(-a), -value(a))


def test_logs_keep_what_floats_lose():
    tiny = Log(torch.tensor([-1e-12]))  # float32
    assert (1 - tiny).item() == pytest.approx(1e-12, rel=1e-5, abs=0)
    assert (tiny - 1).item() == pytest.approx(-1e-12, rel=1e-5, abs=0)
    small = Log(torch.tensor([-80.0]))
    product = small * small * small / small
    assert isinstance(product, Log) and product.log.item() == -160
    reset = Log(torch.tensor([-inf]))
    assert value(reset).item() == 0 and (1 - reset).item() == 1 and value(reset * tiny).item() == 0


def test_one_times_a_log_is_the_log():
    a = Log(torch.tensor([-1.0]))
    assert 1 * a is a and a * 1.0 is a
    assert isinstance(2 * a, torch.Tensor)


# --- structure -------------------------------------------------------------------------------------------------------


def test_the_numbers_0_and_1_are_structure():
    x = torch.tensor([2.0])
    assert is_zero(times(0, x)) and is_zero(times(x, 0.0)) and times(1, x) is x and times(x, 1) is x
    assert plus(0, x) is x and plus(x, 0) is x
    assert plus(0, 0) == 0 and times(1, 1) == 1
    assert not is_zero(torch.zeros(1)) and not is_one(torch.ones(1)) and not is_one(sp.Integer(1))
    assert torch.equal(plus(Log(torch.zeros(1)), x), torch.tensor([3.0]))


def test_as_bound_takes_numbers_only():
    assert as_bound(2).set == Interval(2, 2) and as_bound(1j).set.rectangle.im == Interval(1, 1)
    assert as_bound("x") is None and as_bound(torch.ones(1)) is None
    with pytest.raises(TypeError):
        Bound(Interval(0, 1)) + "x"


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_powers_in_every_reading(k):
    x = torch.linspace(-2.0, 1.5, 50, dtype=torch.float64)
    found = Bound(Interval(-2, 1.5)) ** k
    assert all(z in found.set for z in (x**k).tolist())
    assert k % 2 or found.set.lo == 0.0  # one signal twice is a square
    g = torch.tensor([-1.5, 0.0, -float("inf")], dtype=torch.float64)
    assert torch.equal((Log(g) ** k).log, g * k)
