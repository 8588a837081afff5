"""Domains: what is sampled or projected lies inside, what does not lie inside is told apart, ends are hit."""

import math

import pytest
import sympy as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

import dsf
from dsf import Each, First, Fixed, Index, Matrix, Param, Prefix, Scalar, Shared, Unit, Vector, Window
from dsf.sets import Interval, annulus, arc, disc, inf, pi
from dsf.values import Bound, MatrixBound
from helpers import generator, sampled

ARCHITECTURES = dict(dsf.architectures())
every = pytest.mark.parametrize("name", ARCHITECTURES)
SIZES = {"B": 2, "T": 5, "H": 2, "n": 3}

DOMAINS = {
    "scalar": Scalar,
    "gate": dsf.Gate,
    "wide gate": Scalar(0, 2),
    "positive": dsf.Positive,
    "log decay": dsf.LogDecay,
    "point": Scalar(2, 2),
    "vector": Vector(-1, 3),
    "half line": Vector(-inf, -0.5),
    "unit": Unit,
    "matrix": Param(Matrix),
    "left half plane": Vector(dsf.LeftHalfPlane),
    "complex": Vector(dsf.Complex),
    "disc": Vector(dsf.UnitDisc),
    "annulus": Vector(annulus(0.5, 0.9)),
    "arc": Vector(arc(1, 3, 4)),  # across the cut of the argument
    "micro-steps": Each(Unit, 3),
    "index": Index,
    "fixed": Fixed("matrix", lambda n: sp.diag(*range(n)), Interval(0, inf)),
}
every_domain = pytest.mark.parametrize("kind", DOMAINS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("ends", [0.0, 0.5, 1.0])
@every_domain
def test_samples_lie_inside(kind, ends, dtype):
    domain = DOMAINS[kind]
    x = domain.sample(SIZES, dtype, generator(1), ends)
    assert x.shape == tuple((SIZES | {"J": domain.steps})[axis] for axis in domain.axes)
    assert domain.contains(x)
    if kind != "index":
        assert x.real.dtype == dtype
        bound = domain.bound()
        if isinstance(bound, Bound) and dtype == torch.float64:
            assert all(z in bound.set for z in x.flatten().tolist())
            if bound.norm2:
                length2 = (x.abs() ** 2).sum(-1)
                assert ((length2 >= bound.norm2.lo - 1e-9) & (length2 <= bound.norm2.hi + 1e-9)).all()


@given(st.sampled_from(sorted(set(DOMAINS) - {"index", "fixed", "matrix"})), st.integers(0, 1000))
def test_projections_lie_inside_and_have_gradients(kind, seed):
    """A layer's numbers are wild: large ones saturate at the ends, and stay inside."""
    domain, g = DOMAINS[kind], generator(seed)
    parts = [(torch.randn(4, 3, generator=g, dtype=torch.float64) * 30).requires_grad_() for _ in range(domain.reals)]
    x = domain.project(*parts)
    assert domain.contains(x)
    assert all(p.isfinite().all() for p in torch.autograd.grad(x.abs().sum(), parts))


WRONG = {
    "gate": [1.01, -0.01, math.nan],
    "wide gate": [2.01, math.inf],
    "positive": [-1e-6],
    "log decay": [1e-6, math.nan],
    "half line": [-0.49],
    "unit": [0.7, 0.0, math.nan],
    "left half plane": [0.1 + 0j, complex(math.nan, 0)],
    "disc": [0.8 + 0.8j],
    "annulus": [0.4 + 0j, 0.95j],
    "arc": [1 + 0j, complex(math.cos(2.9), math.sin(2.9)), complex(math.cos(4.1), math.sin(4.1))],
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_outside_is_found(kind):
    domain = DOMAINS[kind]
    x = domain.sample(SIZES, torch.float64, generator(1), 0.0)
    for wrong in WRONG[kind]:
        bad = x.clone()
        bad.view(-1)[-1] = wrong
        assert not domain.contains(bad), wrong


def test_dtypes_and_prescribed_values_are_checked():
    assert not dsf.Gate.contains(torch.ones(2, 3, 1, dtype=torch.complex64))
    assert not dsf.Gate.contains(torch.ones(2, 3, 1, dtype=torch.int64))
    assert not dsf.Gate.contains(torch.full((1, 1, 1), 1.5, dtype=torch.bfloat16))
    assert dsf.Gate.contains(torch.full((1, 1, 1), 1.0, dtype=torch.bfloat16))
    assert not dsf.Gate.contains(torch.full((1, 1, 1), 1.0001))
    assert Unit.contains(torch.nn.functional.normalize(torch.randn(9, 8), dim=-1).half())
    assert not Index.contains(torch.tensor([[0, 1, 3]])) and not Index.contains(torch.tensor([[0, -1, 1]]))
    hippo = ARCHITECTURES["lssl"].signals["a"]
    a = hippo.sample(SIZES, torch.float32)
    assert hippo.contains(a) and not hippo.contains(a * 1.001) and not hippo.contains(-a)  # -a is unstable
    stable = dsf.Domain("matrix", spectrum=Interval(-inf, 0), const=True)
    assert stable.contains(-torch.eye(3)[None]) and not stable.contains(torch.eye(3)[None])
    with pytest.raises(ValueError, match="cannot be sampled"):
        stable.sample(SIZES)


@pytest.mark.parametrize(
    "kind, ends",
    [
        ("gate", {0.0, 1.0}),
        ("wide gate", {0.0, 2.0}),
        ("positive", {0.0}),
        ("annulus", {0.5, 0.9}),
        ("disc", {0.0, 1.0}),
        ("half line", {-0.5, -1e4}),
    ],
)
def test_samples_hit_every_end(kind, ends):
    some = DOMAINS[kind].sample(SIZES | {"T": 50}, torch.float64, generator(0), 0.5).flatten().tolist()
    everything = DOMAINS[kind].sample(SIZES | {"T": 50}, torch.float64, generator(0), 1.0).flatten().tolist()
    assert ends < {complex(z) for z in some} | {z.real for z in map(complex, some)}
    assert {complex(z).real for z in everything} == ends


def test_a_half_plane_is_sampled_on_its_edge():
    lam = DOMAINS["left half plane"].sample(SIZES, torch.float64, generator(0), 0.5)
    assert 0.2 < (lam.real == 0).double().mean() < 0.8


@every
def test_sampled_signals_lie_in_their_domains(name):
    arch = ARCHITECTURES[name]
    for ends in (0.1, 1.0):
        signals, u = sampled(arch, ends=ends)
        assert list(signals) == list(arch.signals)
        assert all(d.contains(signals[k]) for k, d in arch.signals.items())
        assert u.isfinite().all() and u.shape[:3] == (2, 7, 2)


def test_assumptions_of_symbols():
    gate, decay, lam = (d.symbols("x", 2)[0] for d in (dsf.Gate, dsf.LogDecay, DOMAINS["left half plane"]))
    assert gate.is_nonnegative and gate.is_positive is None  # 0 is a legal gate
    assert decay.is_nonpositive and decay.is_negative is None
    assert lam.is_real is None and Scalar(1, 2).symbols("x", 2)[0].is_positive
    assert [str(s) for s in Each(Vector, 2).symbols("k", 2).ravel()] == ["k_00", "k_01", "k_10", "k_11"]
    assert Matrix.symbols("R", 2).shape == (2, 2) and Scalar.symbols("g", 5).shape == (1,)


def test_bounds_of_domains():
    assert dsf.Gate.bound() == Bound(Interval(0, 1), None, "token")
    assert Unit.bound() == Bound(Interval(-1, 1), Interval(1, 1), "token")
    assert Param(Vector).bound() == Bound(Interval(), Interval(0, inf), "const")
    assert Each(dsf.Gate, 3).bound().steps == 3
    assert First(Scalar(-inf, -1)).bound().set == Interval(-inf, 0)  # 0 at the other micro-steps
    assert Window(Vector).bound().dependence == "window" and Prefix(Vector).bound().dependence == "prefix"
    assert Param(Matrix).bound().M == MatrixBound(dsf.Complex, dependence="const")
    assert dsf.Gate.bound(Interval(0, 0.5)).set == Interval(0, 0.5)


@pytest.mark.parametrize(
    "domain, inside, outside",
    [
        (dsf.Gate, 0.5, (0.0, 1.0)),
        (dsf.LogDecay, -5.0, (0.0, -inf)),
        (Vector(dsf.UnitDisc), 0j, (1j,)),
        (Vector(annulus(0.5, 1)), 0.7, (0.5, 1)),
        (Vector(dsf.LeftHalfPlane), -1 + 1j, (1j,)),
    ],
)
def test_open_ranges_leave_out_their_ends(domain, inside, outside):
    s = domain.shrunk(1e-3).set
    assert inside in s and not any(z in s for z in outside)
    assert all(z in domain.set for z in (inside, *(z for z in outside if abs(z) < inf)))


def test_tags_and_text():
    assert Shared(Vector, 2).axes == ("B", "T", "G", "n") and Param(Each(Vector)).axes == ("H", "J", "n")
    assert repr(dsf.Gate) == "scalar in [0, 1]" and repr(Param(Unit)) == "unit vector, constant"
    assert repr(Shared(Vector)) == "vector in [-oo, oo], shared by the heads"
    with pytest.raises(TypeError, match="two ends or a set"):
        Scalar(0)
    with pytest.raises(ValueError, match="two real tensors"):
        Vector(disc(1)).project(torch.zeros(3))
    nonnegative = Param(Matrix(0.5, 1))
    assert nonnegative.contains(nonnegative.sample(SIZES))
    assert Vector(arc(1, 0, pi)).reals == 2 and Vector.reals == 1
