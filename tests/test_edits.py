"""A change acts on a signal's values and on its domain alike."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dsf
from dsf import Ball, Gate, Interval, Param, Positive, Scalar, Shared, Unit, Vector, annulus, inf
from dsf.cores import Core
from dsf.edits import Edit, change_of, clamp, constant, drop, mute, parse_edit, scale

SIZES = {"B": 2, "T": 5, "H": 4, "n": 3}
DOMAINS = [Gate, Positive, Scalar(0, 2), Scalar, Vector, Vector(-inf, 0), Unit, Ball, Param(Scalar), Shared(Vector, 2)]
CHANGES = [clamp(0, 1), clamp(-0.5, 0.25), scale(0.5), scale(-2), constant(0.3), mute(0), mute(0, 1), drop(0)]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(DOMAINS), st.lists(st.sampled_from(CHANGES), min_size=1, max_size=3), st.integers(0, 2**31))
def test_every_changed_value_lies_in_the_changed_domain(domain, changes, seed):
    x = domain.sample(SIZES, generator=torch.Generator().manual_seed(seed))
    for change in changes:
        if change.text.startswith("drop") and domain.kind == "scalar":
            continue
        x, domain = change.values(x, 0 if domain.const else 2), change.domain(domain)
    assert domain.contains(x), (domain, changes)


def core(**signals):
    arch = dsf.architecture_named("gated_deltanet")
    found, u = arch.sample(batch=1, length=6, heads=2, n=3, p=3)
    return Core(arch, {**found, **signals}, u)


def test_signals_heads_and_the_drive():
    before = core()
    after = Edit("k", drop(0, 2))(before)
    assert not after.signals["k"][..., [0, 2]].any() and torch.equal(
        after.signals["k"][..., 1], before.signals["k"][..., 1]
    )
    assert not after.architecture.signals["k"].unit
    muted = Edit("drive", mute(1))(before)
    assert not muted.drive[:, :, 1].any() and muted.architecture is before.architecture
    param = Core(dsf.architecture_named("mamba2"), *dsf.architecture_named("mamba2").sample(1, 4, 2, 3, 3))
    assert Edit("log_a", mute(1))(param).signals["log_a"][1] == 0 != param.signals["log_a"][1]


def test_a_function_of_ones_own_has_the_widest_domain():
    change = change_of(lambda beta: beta.clamp(max=0.5))
    assert change.domain(Gate).set == Interval() and change_of(0.5).domain(Gate).set == Interval(0.5, 0.5)
    assert change_of(torch.tensor([0.1, 0.9])).domain(Gate).set.hi == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: clamp(2, 1), ValueError, "two ends, lo <= hi, got 2, 1"),
        (lambda: change_of("half"), TypeError, r"an edit is a change \(clamp, scale, constant, drop, mute\), a number"),
        (
            lambda: Edit("x", scale(2))(core()),
            ValueError,
            "gated_deltanet has the signals q, k, beta, g, drive, not 'x'",
        ),
        (lambda: Edit("k", drop(7))(core()), ValueError, r"name channels in 0\.\.2, got 7"),
        (lambda: Edit("k", mute())(core()), ValueError, r"name heads in 0\.\.1, got none"),
        (lambda: Edit("beta", change_of(lambda b: b[:, :1]))(core()), ValueError, "should keep its shape"),
        (lambda: clamp(0, 1).domain(Vector(annulus(0, 1))), ValueError, "clamp changes real signals"),
        (lambda: parse_edit("layers.0"), ValueError, "an edit is PATH:SIGNAL=CHANGE"),
        (lambda: parse_edit("a:b=halve(2)"), ValueError, "with clamp, scale, constant, drop, mute, as in"),
        (lambda: parse_edit("a:b=clamp(1,0)"), ValueError, r"clamp\(1,0\) does not read"),
        (lambda: parse_edit("a:b=scale(__import__('os'))"), ValueError, "does not read"),
    ],
)
def test_refused_in_words(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_edits_as_text():
    path, edit = parse_edit("model.layers.0.linear_attn:beta=clamp(0, oo)")
    assert (path, str(edit)) == ("model.layers.0.linear_attn", "beta = clamp(0, inf)")
    assert str(parse_edit("a: k = drop(1, 2)")[1]) == "k = drop(1, 2)"
