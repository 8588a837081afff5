"""Sets hold every result of every operation on their points, also at infinite ends, at 0 and where floats overflow."""

import cmath
import math

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from dsf import sets
from dsf.sets import Interval, Polar, Rectangle, annulus, arc, disc, inf, pi

FAR = 60.0  # a point of an unbounded set
MANY = settings(max_examples=200)

finite = st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-9, 700.0]), st.floats(-8, 8))
share = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1))


def between(s: Interval, t: float) -> float:
    lo, hi = max(s.lo, -FAR), min(s.hi, FAR)
    return min(max(lo + t * (hi - lo), s.lo), s.hi)


@st.composite
def intervals(draw, low=-inf):
    a, b = sorted((max(draw(finite), low), max(draw(finite), low)))
    lo = -inf if low == -inf and draw(st.integers(0, 5)) == 0 else a
    return Interval(lo, inf if draw(st.integers(0, 5)) == 0 else b)


@st.composite
def members(draw, kinds=("interval", "rectangle", "polar")):
    """A set and one of its points."""
    kind = draw(st.sampled_from(kinds))
    if kind == "interval":
        s = draw(intervals())
        return s, between(s, draw(share))
    if kind == "rectangle":
        s = Rectangle(draw(intervals()), draw(intervals()))
        return s, complex(between(s.re, draw(share)), between(s.im, draw(share)))
    lo = draw(st.floats(-7, 7))
    theta = Interval(lo, lo + draw(st.sampled_from([0.0, 0.5, pi, 2 * pi, 9.0])))
    s = Polar(draw(intervals(low=0.0)), theta)
    return s, cmath.rect(between(s.r, draw(share)), between(theta, draw(share)))


def near(z, s):
    """Membership, up to the rounding of a number that an operation computed (relative 1e-12 of its largest part)."""
    z = complex(z)
    room = 1e-12 * max(1.0, abs(z))
    return any(z + d in s for d in (0, room, -room, 1j * room, -1j * room))


@given(members())
def test_a_point_lies_in_its_set_and_in_both_of_its_forms(member):
    s, z = member
    assert near(z, s) and near(z, s.rectangle) and near(z, s.polar)
    assert abs(z) in s.abs


@MANY
@given(members(), members())
def test_sums_and_products(a, b):
    (s, x), (t, y) = a, b
    assert near(x + y, s + t)
    product = s * t
    assert near(x * y, product) or abs(x * y) > 1e9  # there the arguments' rounding exceeds any absolute slack
    assert near(-x, -s)


@example((Interval(-inf, -1.0), -1.0))
@example((Polar(Interval(0, 0)), 0j))
@given(members())
def test_inverses(member):
    s, x = member
    found = sets.inverse(s)
    assume(abs(x) > 1e-8)
    assert near(1 / x, found)


@given(members())
def test_exponentials(member):
    s, x = member
    found = sets.exp(s)
    assume(complex(x).real < 20 and abs(complex(x).imag) < 1e3)
    assert near(cmath.exp(x), found)


@given(members(("interval",)))
def test_squares(member):
    s, x = member
    assert near(x * x, sets.square(s))
    assert sets.square(s).lo >= 0


@given(st.lists(members(), min_size=1, max_size=3))
def test_hulls(found):
    hull = sets.hull([s for s, _ in found])
    assert all(near(z, hull) for _, z in found)


@given(members(), st.floats(-3, 3))
def test_multiples(member, factor):
    s, x = member
    assert near(factor * x, sets.scaled(s, factor))


@settings(max_examples=200)
@given(*[members(("interval",)) for _ in range(4)])
def test_eigenvalues_of_two_by_two_matrices(a, b, c, d):
    entries = np.array([[a[1], b[1]], [c[1], d[1]]])
    parts = sets.eigenvalues_2x2([[a[0], b[0]], [c[0], d[0]]])
    trace, det = entries.trace(), a[1] * d[1] - b[1] * c[1]
    root = cmath.sqrt(trace * trace / 4 - det)
    for z in (trace / 2 + root, trace / 2 - root):
        # near a double root the solver's error is the square root of rounding
        moved = [z, *(z + 1e-5 * cmath.exp(0.25j * pi * k) for k in range(8)), complex(z.real, 0)]
        assert any(w in part for part in parts for w in moved)


def test_two_by_two_enclosures_are_not_everything():
    def one(lo, hi=None):
        return Interval(lo, lo if hi is None else hi)

    rotation = sets.eigenvalues_2x2([[one(0), one(-1)], [one(1), one(0)]])
    assert rotation == [annulus(1, 1)]
    triangle = sets.eigenvalues_2x2([[one(0.2, 0.3), one(0)], [one(5), one(0.8, 0.9)]])
    assert all(isinstance(part, Interval) for part in triangle)
    assert any(0.25 in part for part in triangle) and not any(-0.5 in part or 1.5 in part for part in triangle)


# --- values: what each operation gives exactly -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "found, expected",
    [
        (Interval(0, 1) * Interval(-2, 3), Interval(-2, 3)),
        (Interval(-inf, 0) * Interval(0, inf), Interval(-inf, 0)),  # 0 * oo is 0: the end is a limit
        (Interval(0, 0) * Interval(-inf, inf), Interval(0, 0)),
        (Interval(1, 2) + Interval(-inf, 3), Interval(-inf, 5)),
        (sets.inverse(Interval(2, 4)), Interval(0.25, 0.5)),
        (sets.inverse(Interval(0, 2)), Interval(0.5, inf)),
        (sets.inverse(Interval(-0.0, 2)), Interval(0.5, inf)),
        (sets.inverse(Interval(-2, 0)), Interval(-inf, -0.5)),
        (sets.inverse(Interval(-inf, -1)), Interval(-1, 0)),
        (sets.inverse(Interval(-1, 1)), Interval()),
        (sets.inverse(annulus(0.5, 2)), annulus(0.5, 2)),
        (sets.square(Interval(-1, 2)), Interval(0, 4)),
        (sets.exp(Interval(-inf, 0)), Interval(0, 1)),
        (sets.exp(Interval(0, 1e6)), Interval(1, inf)),
        (sets.exp(sets.LeftHalfPlane).abs, Interval(0, 1)),
        (disc(0.5) * disc(2), disc(1)),
        (annulus(0.5, 0.9) * annulus(2, 2), annulus(1, 1.8)),
        (arc(2, 0, 1) * arc(3, 1, 1), Polar(Interval(6, 6), Interval(1, 2))),
        (Interval(-1, 1) * disc(2), disc(2)),
        (sets.inverse(Polar(Interval(0, 0))), Polar(Interval(0, inf))),
        (Polar(Interval(0, 1), Interval(3, 3 + 7)), disc(1)),
        (-Rectangle(Interval(0, 1), Interval(2, 3)), Rectangle(Interval(-1, 0), Interval(-3, -2))),
        (sets.hull([Interval(0, 1), disc(2)]), disc(2)),
        (sets.point(2), Interval(2, 2)),
        (sets.point(1j), Rectangle(Interval(0, 0), Interval(1, 1))),
    ],
)
def test_tight_results(found, expected):
    assert found == expected


@pytest.mark.parametrize(
    "z, s",
    [
        (1.001, Interval(0, 1)),
        (0.5j, Interval(0, 1)),
        (-1e-6, Interval(0, inf)),
        (math.nan, Interval()),
        (complex(0, math.nan), sets.Complex),
        (1e-6, sets.LeftHalfPlane),
        (1j, Rectangle(Interval(0, 1), Interval(0, 0.5))),
        (0.4, annulus(0.5, 1)),
        (1.001j, disc(1)),
        (-1j, arc(1, 0, pi)),
        (cmath.exp(1.1j), arc(1, -1, 1)),
    ],
)
def test_membership_says_no(z, s):
    assert z not in s


@pytest.mark.parametrize("turns", [-2, -1, 0, 1, 3])
def test_arguments_are_compared_modulo_a_turn(turns):
    s = arc(1, 3 + 2 * pi * turns, 4 + 2 * pi * turns)  # across the cut of atan2
    assert cmath.exp(3j) in s and cmath.exp(3.5j) in s and cmath.exp(4j) in s
    assert cmath.exp(2.9j) not in s and cmath.exp(4.1j) not in s


@pytest.mark.parametrize(
    "make", [lambda: Interval(1, 0), lambda: Interval(math.nan, 1), lambda: Polar(Interval(-1, 1))]
)
def test_what_is_no_set_is_refused(make):
    with pytest.raises(ValueError, match="interval needs|modulus is"):
        make()


def test_text():
    assert repr(Interval(-inf, 0.5)) == "[-oo, 0.5]"
    assert repr(disc(1)) == "{|z| in [0, 1]}"
    assert repr(arc(1, 0, 1)) == "{|z| in [1, 1], arg z in [0, 1]}"
    assert repr(sets.Complex) == "C"
