"""An architecture on other domains, with other micro-steps, groups and drives: still one body."""

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


def test_symbols_of_different_entries_differ():
    @architecture("A clash", register=False)
    def clash(k=Vector, k_0=Scalar):
        return System(A=k_0 * I, B=k, C=k)

    with pytest.raises(ValueError, match="both be the symbol k_0: rename"):
        clash.symbolic(2)

    @architecture("Own names for y and u", register=False)
    def named(y=Vector, h=Previous, R=Param(Matrix)):
        return System(A=diag(y), B=I, C=R, u=dsf.tanh(R @ h))

    system = named.symbolic(2)
    assert {str(s) for s in system.u[0].free_symbols} == {"R_00", "R_01", "h_0", "h_1"}
    for n in (3, 12):
        assert len({str(s) for s in Matrix.symbols("R", n).ravel()}) == n * n


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
