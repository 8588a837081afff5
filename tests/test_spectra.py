"""dsf.spectrum: of what it speaks, what it refuses, and that measured eigenvalues lie in the sets it names."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import dsf
from dsf import (
    Dense,
    Drive,
    Each,
    First,
    I,
    Interval,
    LogDecay,
    Param,
    Prefix,
    Scalar,
    System,
    Vector,
    Window,
    architecture,
    block,
    decay,
    diag,
    microsteps,
    outer,
    tanh,
)
from dsf.reference import scan
from dsf.sets import Polar, annulus, arc, disc
from dsf_analysis.spectra import NotInvariant, merged
from eigenvalue_checks import furthest
from helpers import generator

NUMERICAL = 1e-4  # of eigenvalues of a defective matrix of size <= 4, by a solver
FEEDBACK = ("elman", "gru", "lstm")
INFINITE = ("alibi", "softmax_attention")
LINEAR = [name for name in dsf.architectures() if name not in (*FEEDBACK, *INFINITE)]


def system_of(name, n=3, seed=0, **more):
    arch = dsf.architecture_named(name)
    return arch, arch(**arch.sample(2, 7, 2, n, 2, generator=generator(seed), **more)[0])


# ------------------------------------------------------------------------------------------------- of an architecture
@pytest.mark.parametrize("name", LINEAR)
def test_measured_eigenvalues_lie_in_the_set_of_the_architecture(name):
    for n in (1, 2, 4):
        arch, system = system_of(name, n, ends=0.3)
        measured = dsf.spectrum(system)
        assert measured.subject == "A_t of these numbers" and measured.values.shape[-1] == system.state_size
        exact = measured.how[0].startswith("exact")
        assert furthest(measured.values, dsf.spectrum(arch).parts) < (1e-9 if exact else NUMERICAL)
        assert furthest(measured.values, measured.parts) < 1e-9


def test_an_architecture_names_its_gauge_lemmas_and_dependence():
    found = dsf.spectrum(dsf.architecture_named("deltanet"))
    assert found.parts == (Interval(0, 1),) and found.nonnegative and found.real and found.radius == 1
    assert "constant change of basis" in found.gauge and found.dependence == "token"
    assert any("rank one" in lemma for lemma in found.how) and found.values is None
    assert repr(found).startswith("[0, 1]  (A_t over all inputs; ")
    assert dsf.spectrum(dsf.architecture_named("retnet")).dependence == "const"


def test_infinite_features_are_said():
    found = dsf.spectrum(dsf.architecture_named("softmax_attention"))
    assert found.parts == (Interval(1, 1),) and "infinitely many features" in found.subject
    _, system = system_of("softmax_attention")
    assert dsf.spectrum(system).parts == (Interval(1, 1),) and "infinitely many" in dsf.spectrum(system).subject
    _, system = system_of("alibi")
    found = dsf.spectrum(system)
    ends = torch.exp(-system.signals["slope"]).sort().values.tolist()
    assert found.parts == (Interval(*ends),) and "infinitely many" in found.subject and "exact" in found.how[0]


@pytest.mark.parametrize("name", [*LINEAR, *INFINITE])
def test_plain_data(name):
    data = dsf.spectrum(dsf.architecture_named(name)).to_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_an_infinite_radius_is_plain_data_too():
    unnormalised = dsf.architecture_named("deltanet").with_domain(k=Vector)
    found = dsf.spectrum(unnormalised)
    assert found.radius == math.inf and found.to_dict()["radius"] is None and -5 in found
    json.dumps(found.to_dict(), allow_nan=False)


# ----------------------------------------------------------------------------------------------------------- cutting
def test_cutting_domains_never_loses_an_eigenvalue():
    titans = dsf.architecture_named("titans")
    radii = [dsf.spectrum(titans, split=split).radius for split in (1, 2, 4)]
    assert radii == sorted(radii, reverse=True) and radii[2] < radii[0]
    for split in (1, 2, 3, 5):
        for seed in range(3):
            _, system = system_of("titans", 2, seed, ends=0.5)
            assert furthest(dsf.spectrum(system).values, dsf.spectrum(titans, split=split).parts) < 1e-6


@architecture("Signed micro-steps", register=False)
def signed(q=Vector, k=Each(Vector), s=Each(Scalar(-1, 1))):
    return microsteps(System(A=s * I, B=k, C=q))


@architecture("Signed micro-steps of one sign", register=False)
def one_sign(q=Vector, k=Each(Vector), s=Scalar(-1, 1)):
    return microsteps(System(A=s * I, B=k, C=q))


@pytest.mark.parametrize("split", [1, 2, 4])
def test_micro_steps_are_not_cut_together(split):
    """(-1)(1) = -1: a cut would put both factors into one piece, and leave [0, 1]."""
    assert dsf.spectrum(signed, split=split).parts == (Interval(-1, 1),)
    sampled, _ = signed.sample(4, 50, 2, 2, 1, generator=generator(), ends=0.3)
    assert furthest(dsf.spectrum(signed(**sampled)).values, dsf.spectrum(signed, split=split).parts) < 1e-9


@pytest.mark.parametrize("split", [1, 2, 4])
def test_a_signal_without_micro_steps_acts_at_each_of_them(split):
    sampled, _ = one_sign.sample(4, 50, 2, 2, 1, generator=generator(), ends=0.3)
    values = dsf.spectrum(one_sign(**sampled)).values
    assert values.min() >= 0 and values.max() == 1  # s^2
    assert furthest(values, dsf.spectrum(one_sign, split=split).parts) < 1e-9


def test_a_decay_of_the_first_micro_step():
    @architecture("Two steps, one decays", register=False)
    def first(q=Vector, k=Each(Vector), g=First(LogDecay)):
        return microsteps(System(A=-(decay(g) * I), B=k, C=q))

    sampled, _ = first.sample(4, 50, 2, 2, 1, generator=generator(), ends=0.3)
    values = dsf.spectrum(first(**sampled)).values
    assert values.min() >= 0 and furthest(values, dsf.spectrum(first).parts) < 1e-9


@pytest.mark.parametrize("split", [0, -1])
def test_a_split_is_a_number_of_pieces(split):
    with pytest.raises(ValueError, match="number of pieces"):
        dsf.spectrum(dsf.architecture_named("titans"), split=split)


def test_pieces_cover_the_domain_to_its_last_digit():
    @architecture("Thirds", register=False)
    def thirds(q=Vector, k=Vector, s=Scalar(0.1, 0.3)):
        return System(A=s * I, B=k, C=q)

    for split in (1, 3, 7, 10):
        parts = dsf.spectrum(thirds, split=split).parts
        assert parts[0].lo == 0.1 and parts[-1].hi == 0.3 and len(parts) == 1


# -------------------------------------------------------------------------------------------------- of given numbers
@pytest.mark.parametrize("name", LINEAR)
def test_exact_and_numerical_agree(name):
    _, system = system_of(name, 3)
    A = system.dense()
    A = A[None, None, None] if A.dim() == 2 else A  # I has no [B, T, H]
    exact, numerical = dsf.spectrum(system), dsf.spectrum(lti(Dense(A), A.shape[-1]))
    assert numerical.how[0].startswith("numerical") and "not certified" in numerical.how[0]
    scale = max(1.0, exact.radius)
    assert furthest(numerical.values / scale, [disc(exact.radius / scale)]) < NUMERICAL
    assert numerical.radius == pytest.approx(exact.radius, rel=NUMERICAL, abs=NUMERICAL)


def ones(n):
    return torch.ones(1, 1, 1, n, dtype=torch.float64)


def lti(A, n=2):
    return System(A=A, B=ones(n), C=ones(n))


def test_numbers_alone():
    assert dsf.spectrum(lti(-0.5 * I)).parts == (Interval(-0.5, -0.5),)
    assert dsf.spectrum(lti(I)).parts == (Interval(1, 1),)
    assert dsf.spectrum(lti(1j * I)).parts == (annulus(1, 1),)
    assert dsf.spectrum(lti(diag(torch.tensor([-1.0, 0.5]).reshape(1, 1, 1, 2)))).parts == (Interval(-1, 0.5),)
    rotation = torch.tensor([[0.0, -1.0], [1.0, 0.0]]).double().reshape(1, 1, 1, 2, 2)
    assert dsf.spectrum(lti(Dense(rotation))).parts == (annulus(1, 1),)
    both = block([[Dense(rotation), 0], [0, 0.5 * I]])
    assert dsf.spectrum(lti(both, 4)).parts == (Interval(0.5, 0.5), annulus(1, 1))
    varying = lti(diag(torch.rand(1, 5, 1, 2)))
    found = dsf.spectrum(varying)
    assert found.dependence == "unknown" and "not known for a bare system" in found.gauge


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_numbers(dtype):
    A = Dense(torch.tensor([[0.5, 1.0], [0.0, -0.25]], dtype=dtype).reshape(1, 1, 1, 2, 2))
    assert dsf.spectrum(lti(A)).parts == (Interval(-0.25, 0.5),)


def test_numbers_that_are_none_are_refused():
    for A in (diag(torch.tensor([math.nan, 0.5]).reshape(1, 1, 1, 2)), Dense(torch.full((1, 1, 1, 2, 2), math.inf))):
        with pytest.raises(ValueError, match="NaN or infinity"):
            dsf.spectrum(lti(A))
    with pytest.raises(ValueError, match="this system has none"):
        dsf.spectrum(lti(diag(torch.rand(1, 0, 1, 2))))


def test_one_state_and_no_step():
    for name in LINEAR:
        arch, system = system_of(name, 1)
        assert dsf.spectrum(system).values.shape[-1] == system.state_size
    signals, _ = dsf.architecture_named("deltanet").sample(1, 0, 1, 2, 1)
    with pytest.raises(ValueError, match="this system has none"):
        dsf.spectrum(dsf.architecture_named("deltanet")(**signals))


# -------------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize("name", FEEDBACK)
def test_feedback_has_a_spectrum_along_a_trajectory_only(name):
    arch = dsf.architecture_named(name)
    with pytest.raises(NotInvariant, match=r"function of the state.*spectrum\(system, u\)"):
        dsf.spectrum(arch)
    signals, u = arch.sample(2, 9, 2, 3, generator=generator())
    system = arch(**signals)
    with pytest.raises(TypeError, match=r"spectrum\(system, u\)"):
        dsf.spectrum(system)
    found = dsf.spectrum(system, u)
    assert found.subject == "the Jacobian of (x, y) along this trajectory" and "Lyapunov" in found.gauge
    assert found.values.shape == (2, 9, 2, 6) and furthest(found.values, found.parts) < 1e-9
    frozen = system.along(scan(system, u)[0], u)
    with pytest.raises(NotInvariant, match="function of the state"):
        dsf.spectrum(frozen)
    with pytest.raises(ValueError, match="at least one step"):
        dsf.spectrum(system, u[:, :0])


def test_the_jacobian_of_a_saturated_lstm():
    """f = 1, i = 0, o = 0, no recurrent weights: x is kept and y forgotten; the eigenvalues are 1 and 0."""
    arch, n = dsf.architecture_named("lstm"), 2
    far = torch.full((1, 4, 1, n), 1e3, dtype=torch.float64)
    zero = torch.zeros(1, n, n, dtype=torch.float64)
    system = arch(f=far, i=-far, o=-far, **dict.fromkeys(("Rf", "Ri", "Ro", "Ru"), zero))
    assert dsf.spectrum(system, torch.ones(1, 4, 1, n).double()).parts == (Interval(0, 1),)


def test_a_converted_layer_starts_from_its_own_state():
    torch.manual_seed(0)
    module = torch.nn.LSTM(3, 4)
    x, state = torch.randn(6, 2, 3), (3 * torch.randn(1, 2, 4), 3 * torch.randn(1, 2, 4))
    layer, rested = (dsf.convert(module, inputs).layers["layer0"] for inputs in ((x, state), x))
    found, other = dsf.spectrum(layer), dsf.spectrum(rested)
    assert found.values.shape == other.values.shape and not torch.allclose(found.values, other.values)


@pytest.mark.parametrize("tag, of", [(Window, "the last tokens"), (Prefix, "all tokens so far")])
def test_operators_of_the_past_are_refused(tag, of):
    arch = dsf.architecture_named("gla").with_domain(g=tag(Vector(-math.inf, 0)))
    with pytest.raises(NotInvariant, match=of):
        dsf.spectrum(arch)
    with pytest.raises(NotInvariant, match=of):
        dsf.spectrum(arch(**arch.sample(1, 4, 1, 2, 1)[0]))
    elsewhere = dsf.architecture_named("gla").with_domain(q=tag(Vector))
    assert dsf.spectrum(elsewhere).parts == (Interval(0, 1),)  # A does not read q


def test_a_constant_stays_a_constant():
    arch = dsf.architecture_named("gla").with_domain(g=Param(Vector(-math.inf, 0)))
    assert dsf.spectrum(arch).dependence == "const"


def test_other_things_are_refused():
    def body(x):
        return x

    _, system = system_of("deltanet")
    for x in (body, 3, torch.eye(2), "deltanet", dsf.bidirectional(system, system)):
        with pytest.raises(TypeError, match="an architecture, a system or a converted layer"):
            dsf.spectrum(x)


def test_a_body_that_transforms_its_drive_has_a_spectrum():
    @architecture("Leaky", register=False)
    def leaky(a=Vector(0, 1), u=Drive):
        return System(A=diag(a), B=I, C=I, u=tanh(u))

    assert dsf.spectrum(leaky).parts == (Interval(0, 1),)


# ------------------------------------------------------------------------------------------------------ joining sets
def test_merging_keeps_every_point():
    assert merged([Interval(0, 1), Interval(1, 2), Interval(3, 4)]) == (Interval(0, 2), Interval(3, 4))
    assert merged([Interval(3, 4), Interval(0, 5)]) == (Interval(0, 5),)
    assert merged([disc(1), Interval(-1, 1)]) == (disc(1),)
    assert merged([annulus(0.5, 1), Interval(-1, 1)]) == (Interval(-1, 1), annulus(0.5, 1))
    assert merged([disc(1), annulus(2, 3)]) == (disc(3),)
    half = arc(1, 0, 1)
    assert merged([half, half, disc(0.5)]) == (disc(0.5), half)
    rng = np.random.default_rng(0)
    for _ in range(300):
        kinds = rng.integers(0, 3, 4)
        ends = np.sort(rng.uniform(-2, 2, (4, 2)), -1)
        rings = [Interval(*np.sort(abs(e))) for e in ends]
        kinds_of = [(Interval(*e), Polar(r), Polar(r, Interval(0, 1))) for e, r in zip(ends, rings, strict=True)]
        parts = [sets[kind] for sets, kind in zip(kinds_of, kinds, strict=True)]
        joined = merged(parts)
        points = rng.uniform(-2, 2, 40) + 1j * rng.uniform(-2, 2, 40) * rng.integers(0, 2, 40)
        for z in points:
            assert any(z in p for p in joined) or not any(z in p for p in parts)


def test_a_spectrum_answers_membership():
    found = dsf.spectrum(dsf.architecture_named("deltanet").with_domain(beta=Scalar(0, 2)))
    assert -1 in found and 1 in found and 0.3 in found and 1j not in found and -1.001 not in found
    assert not found.nonnegative and found.real
    assert not replace(found, parts=()).nonnegative and not replace(found, parts=()).real


def test_the_same_operator_written_in_other_ways():
    """k k^T as one vector, as two, as a dense matrix: the same eigenvalues, known or not."""
    k, beta = torch.nn.functional.normalize(torch.randn(1, 6, 1, 3).double(), dim=-1), torch.rand(1, 6, 1, 1).double()
    kk = Dense(k[..., :, None] * k[..., None, :])
    forms = [I - beta * outer(k), I - beta * outer(k, 1.0 * k), I - beta * kk, I - beta * outer(k) @ I]
    for form in forms:
        values = dsf.spectrum(lti(form, 3)).values
        assert values.shape[-1] == 3
        expected = torch.cat([torch.ones(1, 6, 1, 2).double(), 1 - beta], -1).sort(-1).values
        assert torch.allclose(values.real.sort(-1).values, expected, atol=1e-7)
