"""Architectures: how they are defined, named, changed, and what a wrong call is told."""

import pytest
import torch

import dsf
from dsf import (
    Each,
    First,
    I,
    Matrix,
    Param,
    Previous,
    Scalar,
    Shared,
    System,
    Unit,
    Vector,
    architecture,
    decay,
    diag,
    outer,
)
from dsf.enclosures import enclose
from dsf.reference import scan
from dsf.sets import Interval
from helpers import assert_close, sampled

deltanet = dsf.architecture_named("deltanet")


@pytest.fixture
def registry(monkeypatch):
    """A copy of the registry, thrown away after the test."""
    from dsf import definition

    dsf.architectures()
    monkeypatch.setattr(definition, "_REGISTRY", dict(definition._REGISTRY))


def define(name, module, source="def {name}(q=Vector, k=Vector): return System(A=I, B=k, C=q)"):
    """Defines an architecture as a user's module of that name would."""
    scope = {"__name__": module, **{k: getattr(dsf, k) for k in ("Vector", "System", "I")}}
    exec(source.format(name=name), scope)
    return architecture("A test")(scope[name])


# --- the registry ----------------------------------------------------------------------------------------------------


def test_a_name_of_the_library_is_refused(registry):
    with pytest.raises(ValueError, match="'gla' is taken by dsf.zoo.gla: rename"):
        define("gla", "__main__")


def test_a_name_of_the_library_is_refused_before_the_library_is_loaded(registry, monkeypatch):
    from dsf import definition

    monkeypatch.setattr(definition, "_REGISTRY", {})
    with pytest.raises(ValueError, match="'gla' is taken by dsf.zoo.gla"):
        define("gla", "__main__")


def test_ones_own_definition_is_replaced_and_anothers_is_refused(registry):
    first = define("mine_own", "a_notebook")
    assert dsf.architectures()["mine_own"] is first
    second = define("mine_own", "a_notebook")
    assert dsf.architecture_named("mine_own") is second is not first
    with pytest.raises(ValueError, match="'mine_own' is taken by a_notebook"):
        define("mine_own", "another_module")


def test_register_false_keeps_it_out():
    @architecture("Unlisted", register=False)
    def gla(q=Vector, k=Vector):
        return System(A=I, B=k, C=q)

    assert dsf.architectures()["gla"] is not gla and gla.name == "gla"


def test_the_mapping_is_sorted_and_read_only():
    found = dsf.architectures()
    assert list(found) == sorted(found) and all(arch.name == name for name, arch in found.items())
    with pytest.raises(TypeError):
        found["x"] = deltanet
    assert all(arch.year and arch.cite and arch.title for arch in found.values())


def test_unknown_names_suggest_near_ones():
    with pytest.raises(KeyError, match="delta_net.*deltanet"):
        dsf.architecture_named("delta_net")


# --- definitions -----------------------------------------------------------------------------------------------------


def bad(body):
    return lambda: architecture("A test", register=False)(body)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: architecture(lambda q=Vector: None), "takes a title"),
        (bad(lambda q, k=Vector: None), "signal q .* needs a domain"),
        (bad(lambda q=0.5: None), "signal q .* needs a domain"),
        (lambda: bad(lambda q=Vector: q)().bounds(), "should return a System"),
        (lambda: bad(lambda q=Vector: System(A=q, B=q, C=q))().bounds(), "A must be an operator"),
        (lambda: bad(lambda q=Vector, y=Previous: System(A=I, B=q, C=q))().bounds(), "B and C should be operators"),
        (lambda: deltanet.with_domain(gamma=Scalar), "has the signals q, k, beta, not gamma"),
        (lambda: deltanet.with_domain(beta=2), "should be a domain"),
    ],
)
def test_wrong_definitions(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def call(**changes):
    signals, _ = sampled(deltanet)
    return deltanet(**{k: v for k, v in (signals | changes).items() if v is not None})


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"beta": None}, TypeError, "lacks beta"),
        ({"gamma": torch.ones(1)}, TypeError, "does not know gamma"),
        ({"beta": 0.5}, TypeError, r"beta should be a torch.Tensor \[B, T, H\], got float"),
        ({"beta": torch.rand(2, 1, 2)}, ValueError, "axis T of beta is 1, but 7 in q"),
        ({"beta": torch.rand(1, 7, 2)}, ValueError, "axis B of beta is 1, but 2 in q"),
        ({"beta": torch.rand(2, 7, 1)}, ValueError, "axis H of beta is 1, but 2 in q"),
        ({"k": torch.rand(2, 7, 2, 1)}, ValueError, "axis n of k is 1, but 3 in q"),
        ({"beta": torch.rand(2, 7, 2, 1)}, ValueError, r"beta should be \[B, T, H\], got shape \(2, 7, 2, 1\)"),
        (
            {"beta": torch.ones(2, 7, 2, dtype=torch.int64)},
            TypeError,
            "beta should be a floating-point tensor, got torch.int64",
        ),
        ({"beta": torch.ones(2, 7, 2, device="meta")}, ValueError, "beta is on meta, but q on cpu"),
    ],
)
def test_wrong_signals(changes, error, message):
    with pytest.raises(error, match=message):
        call(**changes)


def test_wrong_micro_steps_groups_and_indices():
    arch = dsf.architecture_named("deltaproduct")
    signals, _ = sampled(arch)
    with pytest.raises(ValueError, match="axis J of k is 3, but its domain says 2"):
        arch(**(signals | {"k": signals["k"].repeat(1, 1, 1, 2, 1)[:, :, :, :3]}))
    grouped = deltanet.with_domain(k=Shared(Unit, 2))
    signals, _ = sampled(grouped, heads=2)
    with pytest.raises(ValueError, match="axis G of k is 1"):
        grouped(**(signals | {"k": signals["k"][:, :, :1]}))
    with pytest.raises(ValueError, match="3 heads do not divide into k's 2 groups"):
        grouped(**(sampled(deltanet, heads=3)[0] | {"k": signals["k"]}))

    @architecture("One hot", register=False)
    def one_hot(p=dsf.Index, d=Vector, b=Vector, c=Vector):
        return System(A=dsf.OneHotDiagonal(p, d), B=b, C=c)

    signals, u = sampled(one_hot)
    assert scan(one_hot(**signals), u)[0].shape == u.shape
    with pytest.raises(TypeError, match="p is an index and should be an integer tensor"):
        one_hot(**(signals | {"p": signals["d"]}))


# --- changes ---------------------------------------------------------------------------------------------------------


def test_with_domain_changes_bounds_samples_and_nothing_else():
    wide = deltanet.with_domain(beta=Scalar(0, 2))
    assert repr(enclose(wide.bounds().A).hull) == "[-1, 1]" and repr(enclose(deltanet.bounds().A).hull) == "[0, 1]"
    assert wide.sample(ends=0.5)[0]["beta"].max() == 2 and deltanet.signals["beta"].set == Interval(0, 1)
    assert wide.name == "deltanet" and list(wide.signals) == list(deltanet.signals)
    signals, u = sampled(deltanet)
    assert_close(scan(wide(**signals), u), scan(deltanet(**signals), u), 1e-15)


def test_dependence_follows_the_domains():
    assert deltanet.bounds().dependence()["A"] == "token"
    assert deltanet.with_domain(beta=Param(Scalar(0, 2))).bounds().dependence()["A"] == "token"
    constant = deltanet.with_domain(beta=Param(Scalar(0, 2)), k=Param(Unit))
    assert constant.bounds().dependence() == {"A": "const", "B": "const", "C": "token", "D": "const"}
    signals, u = sampled(constant)
    assert constant(**signals).A.k.shape == (1, 1, 2, 3) and scan(constant(**signals), u)[0].shape == u.shape
    prefix = deltanet.with_domain(k=dsf.Prefix(Unit))
    assert prefix.bounds().dependence()["A"] == "prefix"


def test_open_ranges_do_not_reach_their_ends():
    wide = deltanet.with_domain(beta=Scalar(0, 2)).open_range(1e-3)
    assert -1 not in enclose(wide.bounds().A) and -0.99 in enclose(wide.bounds().A)
    assert wide.sample(ends=1.0)[0]["beta"].max() < 2
    assert wide.signals["k"] is deltanet.signals["k"]


def test_bounds_within_a_cut():
    cut = deltanet.with_domain(beta=Scalar(0, 2)).bounds(beta=Interval(0, 0.5))
    assert repr(enclose(cut.A).hull) == "[0.5, 1]"


def test_groups_are_repeated_for_their_heads():
    arch = deltanet.with_domain(k=Shared(Unit, 2))
    signals, u = sampled(arch, heads=6)
    whole = signals | {"k": signals["k"].repeat_interleave(3, 2)}
    assert_close(scan(arch(**signals), u), scan(deltanet(**whole), u), 1e-15)
    only = deltanet.with_domain(q=Shared(Vector, 2), k=Shared(Unit, 2), beta=Shared(dsf.Gate, 2))  # no signal says H
    signals, u = sampled(only, heads=2)
    assert_close(scan(only(**signals), u), scan(deltanet(**signals), u), 1e-15)


def test_a_body_may_transform_the_drive_without_feedback():
    @architecture("Squashed input", register=False)
    def squashed(u=dsf.Drive, f=dsf.Vector(0, 1), R=Param(Matrix)):
        return System(A=diag(f), B=I, C=I, u=dsf.tanh(R @ u))

    signals, u = sampled(squashed)
    x, outputs = torch.zeros(2, 2, 3, dtype=torch.float64), []
    for t in range(7):
        x = signals["f"][:, t] * x + torch.tanh(torch.einsum("hij,bhj->bhi", signals["R"], u[:, t]))
        outputs.append(x)
    assert (scan(squashed(**signals), u)[0] - torch.stack(outputs, 1)).abs().max() < 1e-12
    assert squashed.bounds().dependence()["A"] == "token" and not squashed.feedback


def test_micro_steps_that_share_a_gate():
    """A gate without an axis J acts at every micro-step, First(gate) at the first one only."""

    def body(q=Vector, g=dsf.LogDecay, k=Each(Vector, 3)):
        return dsf.microsteps(System(A=decay(g) * I, B=k, C=q))

    shared = architecture("Shared gate", register=False)(body)
    once = shared.with_domain(g=First(dsf.LogDecay))
    signals, u = sampled(shared, ends=0.0)
    for arch, exponents in ((shared, (1, 1, 1)), (once, (1, 0, 0))):
        x, outputs = torch.zeros(2, 2, 3, 2, dtype=torch.float64), []
        for t in range(7):
            for j in range(3):
                g = (exponents[j] * signals["g"][:, t]).exp()[..., None, None]
                x = g * x + signals["k"][:, t, :, j, :, None] * u[:, t, :, j, None]
            outputs.append((signals["q"][:, t, ..., None] * x).sum(-2))
        y, state = scan(arch(**signals), u)
        assert (y - torch.stack(outputs, 1)).abs().max() < 1e-12 and (state - x).abs().max() < 1e-12
    negative = architecture("Shared sign", register=False)(
        lambda q=Vector, a=Scalar(-1, -0.5), k=Each(Vector, 2): dsf.microsteps(System(A=a * I, B=k, C=q))
    )
    assert 0.36 in enclose(negative.bounds().A) and -0.6 not in enclose(negative.bounds().A)
    assert deltanet.steps == 0 and shared.steps == 3


def test_a_users_own_body_has_every_reading():
    """A body with its own names, four lines, is a full member: bounds, symbols, numbers."""

    @architecture("Two erasures", register=False)
    def erasures(read=Vector, a=Unit, b=Unit, rate=Scalar(0, 2)):
        return System(A=(I - rate * outer(a)) @ (I - outer(b)), B=rate * a, C=read)

    signals, u = sampled(erasures)
    eigenvalues = torch.linalg.eigvals(erasures(**signals).dense()).flatten().tolist()
    enclosure = enclose(erasures.bounds().A)
    assert all(z in enclosure for z in eigenvalues)
    assert erasures.symbolic(2).dense().shape == (2, 2) and "read" in repr(erasures)
