"""Certified eigenvalues against closed forms, sympy's exact ones, mpmath's in high precision, and each other."""

import math
from fractions import Fraction

import mpmath
import pytest
import sympy as sp
import torch

import dsf
from dsf import Dense, I, Interval, System, outer
from dsf.sets import Polar
from dsf_analysis import exact_spectra, flint_roots
from dsf_analysis.exact_roots import NotCertified, Root, _on_the_line, _proved, _radii, above, below, isolated
from dsf_analysis.exact_spectra import all_real, all_real_nonnegative, certified, characteristic
from helpers import generator

FLINT = pytest.mark.skipif(not flint_roots.flint_is_here(), reason='needs the extra "exact"')


def one(A):
    return certified(torch.as_tensor(A))[0]


def jordan(value, n):
    return value * torch.eye(n) + torch.diag(torch.ones(n - 1), 1)


def random(n, seed, dtype=torch.float32):
    return torch.randn(n, n, generator=generator(seed), dtype=dtype)


def reference(A, digits=400):
    """Eigenvalues in so many digits that even those of a defective matrix have dozens."""
    with mpmath.workdps(digits):
        values = mpmath.eig(mpmath.matrix(A.tolist()), left=False, right=False)
        return [(mpmath.re(z), mpmath.im(z)) for z in values]


def assert_holds(found, A, slack):
    """Each of the reference values lies in its disc, and each disc holds as many as it says."""
    with mpmath.workdps(400):
        values = reference(A)
        for root in found.roots:
            for sign in (1,) if root.real else (1, -1):
                re, im = (mpmath.mpf(x.numerator) / x.denominator for x in (root.re, sign * root.im))
                radius = mpmath.mpf(root.radius.numerator) / root.radius.denominator + slack
                inside = [z for z in values if mpmath.hypot(z[0] - re, z[1] - im) <= radius]
                assert len(inside) == root.multiplicity, f"{len(inside)} in the disc of {root}"


# ------------------------------------------------------------------------------------------------------- closed forms
@pytest.mark.parametrize("n", [1, 2, 5, 8, pytest.param(13, marks=FLINT)])
@pytest.mark.parametrize("value", [1.0, -1.0, 0.1, 0.0])
def test_a_jordan_block_has_one_eigenvalue_and_nothing_beside_it(n, value):
    found = one(jordan(value, n))
    exact = Fraction(torch.tensor(value).item())
    assert found.roots == (Root(exact, Fraction(0), Fraction(0), n),)
    assert found.real and found.nonnegative == (value >= 0) and found.within_one and found.holds(float(exact))


def test_a_jordan_block_where_a_solver_fails():
    A = jordan(1.0, 8).double()
    P = torch.tril(torch.ones(8, 8)).double()  # of determinant 1, with an inverse of integers
    A = P @ A @ torch.linalg.inv(P).round()
    assert (torch.linalg.eigvals(A) - 1).abs().max() > 1e-5  # what is not to be believed
    assert one(A).roots == (Root(Fraction(1), Fraction(0), Fraction(0), 8),) and all_real_nonnegative(A) is True


def test_householder_matrices():
    k = torch.tensor([0.6, 0.0, 0.8]).double().mul(5).round()  # (3, 0, 4): |k|^2 = 25
    for beta, last in ((2.0, -49), (0.5, Fraction(-23, 2))):
        found = one(torch.eye(3).double() - beta * k[:, None] * k)
        assert [(root.re, root.radius, root.multiplicity) for root in found.roots] == [(last, 0, 1), (1, 0, 2)]
    exact = one(torch.eye(4) - 2 * torch.full((4, 4), 0.25))  # k = (1, 1, 1, 1) / 2
    assert exact.holds(-1.0) and exact.holds(1.0) and exact.within_one and not exact.nonnegative


def test_rotations():
    quarter = one([[0.0, -1.0], [1.0, 0.0]])
    assert not quarter.real and quarter.roots[0].modulus == Interval(1, 1)
    angle = torch.tensor(0.3).double()
    c, s = angle.cos(), angle.sin()
    (root,) = one(torch.stack([torch.stack([c, -s]), torch.stack([s, c])])).roots
    squared = Fraction(c.item()) ** 2 + Fraction(s.item()) ** 2  # of the rounded numbers: not 1
    assert root.squared == squared and Fraction(root.modulus.lo) ** 2 <= squared <= Fraction(root.modulus.hi) ** 2
    assert root.modulus.hi - root.modulus.lo <= 3e-16 and root.modulus.lo <= 1 <= root.modulus.hi + 1e-15
    cycle = one(torch.eye(4).roll(1, 0))
    assert cycle.holds(1.0) and cycle.holds(-1.0) and [r.modulus for r in cycle.roots] == [Interval(1, 1)] * 3


def test_a_pair_beside_irrational_roots_is_enclosed_all_the_same():
    A = torch.block_diag(torch.tensor([[0.0, 2.0], [1.0, 0.0]]), torch.tensor([[0.0, -1.0], [1.0, 0.0]]))
    found = one(A)
    (pair,) = [root for root in found.roots if not root.real]
    assert (
        pair.squared is None and pair.modulus.lo <= 1 <= pair.modulus.hi and pair.modulus.hi - pair.modulus.lo < 1e-15
    )
    lo, hi = found.reals[0].interval, found.reals[1].interval
    assert hi.lo <= math.sqrt(2) <= hi.hi and lo.lo <= -math.sqrt(2) <= lo.hi and found.real is False


def test_what_is_decided_a_hair_beside_the_end():
    """Eigenvalues nearer to 0 and 1 than any double beside them."""
    tiny = 2.0**-60
    outside = one(torch.block_diag(torch.tensor([[1.0, tiny], [tiny, 1.0]], dtype=torch.float64)))
    assert [root.re - 1 for root in outside.roots] == [-Fraction(tiny), Fraction(tiny)]
    assert not outside.within_one and outside.roots[1].interval == Interval(1, math.nextafter(1, 2))
    assert all_real(torch.tensor([[1.0, 1.0], [tiny, 1.0]]).double()) is True  # 1 +- sqrt(tiny)
    assert all_real(torch.tensor([[1.0, 1.0], [-tiny, 1.0]]).double()) is False
    assert all_real_nonnegative(torch.tensor([[1.0, 1.0], [1.0, 1.0 - 2**-50]], dtype=torch.float64)) is False
    assert all_real_nonnegative(torch.tensor([[1.0, 1.0], [1.0, 1.0]])) is True  # 0 exactly


# --------------------------------------------------------------------------------------------- independent references
def test_the_characteristic_polynomial_is_that_of_sympy():
    for seed in range(5):
        M = torch.randint(-9, 9, (6, 6), generator=generator(seed)).tolist()
        assert characteristic(M) == [int(c) for c in sp.Matrix(M).charpoly().all_coeffs()]


@pytest.mark.parametrize("seed", range(4))
def test_sympy_finds_the_same_exact_eigenvalues(seed):
    """Triangular ones in a basis of integers: with multiplicities, and Jordan blocks where entries above agree."""
    g = generator(seed)
    d = torch.randint(-2, 3, (5,), generator=g).double() / 2
    T = torch.diag(d) + torch.triu(torch.randint(-2, 3, (5, 5), generator=g).double(), 1)
    P = torch.tril(torch.randint(-1, 2, (5, 5), generator=g).double(), -1) + torch.eye(5).double()
    A = P @ T @ torch.linalg.inv(P).round()
    expected = sp.Matrix(5, 5, [sp.Rational(x) for x in A.flatten().tolist()]).eigenvals()
    found = {sp.Rational(r.re.numerator, r.re.denominator): r.multiplicity for r in one(A).roots if r.radius == 0}
    assert found == expected


@pytest.mark.parametrize("n", [2, 3, 5, 8, pytest.param(12, marks=FLINT)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mpmath_finds_each_eigenvalue_in_its_disc(n, dtype):
    for seed in range(2):
        A = random(n, seed, dtype)
        assert_holds(one(A), A, 1e-300)
        S = A + A.T
        found = one(S)
        assert found.real and len(found.roots) == n and all_real(S)
        assert_holds(found, S, 1e-300)


@pytest.mark.parametrize("n", [3, 6, pytest.param(10, marks=FLINT)])
def test_clusters_of_rounding(n):
    """I - b k k^T in floating point: n - 1 eigenvalues within 1e-16 of 1, all distinct or not, all proved."""
    k = torch.nn.functional.normalize(torch.randn(n, generator=generator(1)).double(), dim=0)
    A = torch.eye(n).double() - 1.3 * k[:, None] * k
    found = one((A + A.T) / 2)
    assert found.real and sum(root.multiplicity for root in found.roots) == n
    assert found.roots[0].re == pytest.approx(-0.3) and found.roots[1].re == pytest.approx(1, abs=1e-14)
    assert_holds(found, (A + A.T) / 2, 1e-300)


def test_wilkinson_a_small_change_of_a_defective_matrix():
    """J + e in the corner has the n-th roots of e around 1: the exact ones, not those of the solver."""
    A = jordan(1.0, 8).double()
    A[7, 0] = 2.0**-48
    found = one(A)  # (x - 1)^8 = 2^-48: moduli 2^-6 around 1
    assert found.holds(1 + 2.0**-6) and found.holds(1 - 2.0**-6) and len(found.roots) == 5
    for root in found.roots:
        distance = (root.re - 1) ** 2 + root.im**2
        assert abs(distance - Fraction(1, 2**12)) < Fraction(1, 10**20)
    assert_holds(found, A, 1e-40)


def test_entries_of_very_different_size():
    A = torch.diag(torch.tensor([1e-300, 1.0, 1e300], dtype=torch.float64))
    A[0, 1] = A[1, 2] = 1.0
    assert [float(root.re) for root in one(A).roots] == [1e-300, 1.0, 1e300]


@FLINT
@pytest.mark.parametrize("n", [2, 5, 8])
def test_flint_agrees(n):
    for A in (random(n, 3), random(n, 4).round(), torch.eye(n).roll(1, 0), jordan(0.5, n)):
        matrix, unit = exact_spectra._in_units(A)
        other, found = flint_roots.flint_roots(matrix, unit), one(A).roots
        assert [r.real for r in other] == [r.real for r in found]
        assert [r.multiplicity for r in other] == [r.multiplicity for r in found]
        for a, b in zip(found, other, strict=True):
            assert (a.re - b.re) ** 2 + (a.im - b.im) ** 2 <= (a.radius + b.radius) ** 2
            assert (a.radius == 0) == (b.radius == 0) or not a.real


def test_complex_matrices_are_told_up_to_conjugation():
    found = one(torch.tensor([[1j, 1.0], [0.0, 0.5]]))
    pair, real = found.roots
    assert (real.re, real.im, real.radius, real.multiplicity) == (Fraction(1, 2), 0, 0, 1)
    assert abs(pair.re) <= pair.radius and abs(pair.im - 1) <= pair.radius and pair.squared == pair.multiplicity == 1
    A = torch.randn(4, 4, generator=generator(0), dtype=torch.complex128)
    found = one(A)
    for z in torch.linalg.eigvals(A).tolist():
        gaps = [abs(complex(float(r.re), float(r.im)) - complex(z.real, abs(z.imag))) for r in found.roots]
        assert min(gaps) < 1e-12


# ------------------------------------------------------------------------------------------------------- its building
def test_roots_of_a_polynomial_by_their_closed_form():
    x = sp.Symbol("x")
    golden = isolated(sp.Poly(x**2 - x - 1, x), 1)
    with mpmath.workdps(60):
        for root, sign in zip(golden, (-1, 1), strict=True):
            error = abs((1 + sign * mpmath.sqrt(5)) / 2 - mpmath.mpf(root.re.numerator) / root.re.denominator)
            assert error <= mpmath.mpf(root.radius.numerator) / root.radius.denominator < 1e-24


def test_bad_proposals_prove_nothing():
    zero, tenth = Fraction(0), Fraction(1, 10)
    assert _radii([1, 0, -1], [(tenth, zero), (-tenth, zero)]) is None  # the discs meet
    assert _radii([1, 0, -1], [(tenth, zero), (tenth, zero)]) is None
    assert _proved([1, 0, 1], 1, [], [(zero, 1 + tenth**3)]) is None  # apart, and not tight
    (pair,) = _proved([1, 0, 1], 1, [], [(zero, 1 + tenth**30)])
    assert tenth**30 <= pair.radius < tenth**28 and pair.squared == 1
    unit = 2**150
    assert _on_the_line([1, 0, -(unit**2) - 1], Fraction(unit), Fraction(1, 2**40), unit) is None  # on which side of 1?


def test_outward_rounding():
    third = Fraction(1, 3)
    assert Fraction(below(third)) < third < Fraction(above(third))
    assert math.nextafter(below(third), 1) == above(third)
    assert below(Fraction(1, 2)) == above(Fraction(1, 2)) == 0.5
    huge = Fraction(10) ** 400
    assert above(huge) == math.inf and below(-huge) == -math.inf and below(huge) < math.inf


def test_equal_matrices_are_looked_at_once_and_all_told():
    A = torch.stack([jordan(1.0, 2), jordan(-1.0, 2)]).repeat(100, 1, 1)
    found = certified(A.reshape(2, 100, 2, 2))
    assert [one.roots[0].re for one in found] == [1, -1] * 100


def test_what_is_not_looked_at_is_said(monkeypatch):
    many = torch.randn(65, 2, 2, generator=generator(0))
    with pytest.raises(NotCertified, match="65 different matrices, and up to 64"):
        certified(many)
    assert all_real(many) is None and all_real_nonnegative(many) is None
    with pytest.raises(NotCertified, match="n = 17, and n <= 16"):
        certified(torch.eye(17)) if flint_roots.flint_is_here() else pytest.skip("needs flint")
    monkeypatch.setattr(exact_spectra, "flint_is_here", lambda: False)
    with pytest.raises(NotCertified, match=r'n = 9, and n <= 8, <= 16 with the extra "exact"'):
        certified(torch.eye(9))
    with pytest.raises(ValueError, match="square"):
        certified(torch.ones(2, 3))
    with pytest.raises(ValueError, match="NaN"):
        certified(torch.tensor([[math.nan]]))
    assert certified(torch.ones(0, 2, 2)) == ()


# ---------------------------------------------------------------------------------------------------------- a spectrum
def lti(A, n):
    ones = torch.ones(1, 1, 1, n, dtype=torch.float64)
    return System(A=A, B=ones, C=ones)


def test_the_spectrum_of_a_jordan_block_is_one_point():
    found = dsf.spectrum(lti(Dense(jordan(1.0, 6).double()[None, None, None]), 6))
    assert found.parts == (Interval(1, 1),) and found.certified and found.real and (found.values == 1).all()
    assert found.how[-1].startswith("certified: Sturm on exact rationals, 1 matrices, at most 64")
    assert "not certified" in found.how[0] and found.to_dict()["certified"] is True and found.extremes == ()


def test_a_spectrum_says_when_it_is_a_solvers():
    A = torch.randn(1, 70, 1, 3, 3, generator=generator(0)).double()
    found = dsf.spectrum(lti(Dense(A), 3))
    assert not found.certified and "70 different matrices" in found.how[0] and found.how[0].startswith("numerical")
    fewer = dsf.spectrum(lti(Dense(A[:, :64]), 3))
    assert fewer.certified and fewer.values.shape == (1, 64, 1, 3)


def test_a_structure_that_is_formed_is_said_to_be_rounded():
    k = torch.nn.functional.normalize(torch.randn(1, 5, 1, 3, generator=generator(0)), dim=-1)
    found = dsf.spectrum(lti((I - 1.5 * outer(k)) @ (I - 1.9 * outer(k.roll(1, -1))), 3))
    assert found.certified and "as rounded to float32" in found.how[-1]
    assert "rounded" not in dsf.spectrum(lti(Dense(torch.eye(3)[None, None, None]), 3)).how[-1]


def test_a_set_of_pairs_holds_their_moduli():
    found = dsf.spectrum(lti(Dense(random(5, 7, torch.float64)[None, None, None]), 5))
    (ring,) = [part for part in found.parts if isinstance(part, Polar)]
    moduli = [math.hypot(*map(float, z)) for z in reference(random(5, 7, torch.float64)) if abs(z[1]) > 1e-9]
    assert ring.r.lo <= min(moduli) * (1 + 1e-15) and ring.r.hi >= max(moduli) * (1 - 1e-15)
    assert ring.r.lo == pytest.approx(min(moduli)) and ring.r.hi == pytest.approx(max(moduli))


def test_what_is_proved_of_architectures_structures_and_trajectories():
    arch = dsf.architecture_named("deltanet")
    assert dsf.spectrum(arch).certified and dsf.spectrum(arch(**arch.sample(1, 4, 1, 2, 1)[0])).certified
    layer = dsf.convert(torch.nn.LSTM(3, 4), torch.randn(6, 2, 3, generator=generator(0))).layers["layer0"]
    found = dsf.spectrum(layer)
    assert not found.certified and found.extremes[-1].what == "largest modulus"
    last = found.extremes[-1]
    assert abs(last.value) == pytest.approx(found.values.abs().max().item())
    assert found.values[last.batch, last.step, last.head].abs().max() == found.values.abs().max()
