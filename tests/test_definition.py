"""Architectures: how they are defined, named, changed, and what a wrong call is told."""

import pytest
import torch

import dsf
from dsf import (
    I,
    Previous,
    Scalar,
    Shared,
    System,
    Unit,
    Vector,
    architecture,
)
from dsf.reference import scan
from dsf.sets import Interval
from helpers import sampled

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
        (lambda: deltanet.with_domain(beta=dsf.Drive), "should be a domain"),
        (lambda: deltanet.bounds(gamma=Interval(0, 1)), "has the signals q, k, beta, not gamma"),
        (lambda: Unit(0, 1), "has its own set"),
        (lambda: dsf.Index(0, 1), "has its own set"),
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
