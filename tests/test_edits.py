"""A change acts on a signal's values and on its domain alike."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dsf
from dsf import (
    Ball,
    Complex,
    Each,
    Fixed,
    Gate,
    Interval,
    LogDecay,
    Matrix,
    Param,
    Positive,
    Scalar,
    Shared,
    Unit,
    Vector,
    annulus,
    inf,
)
from dsf.cores import Core
from dsf.edits import Edit, change_of, clamp, constant, drop, mute, parse_edit, scale
from tiny_models import example_tokens, tiny_model

SIZES = {"B": 2, "T": 5, "H": 4, "n": 3}
DOMAINS = [Gate, Positive, Scalar(0, 2), Scalar, Vector, Vector(-inf, 0), Unit, Ball, Param(Scalar), Shared(Vector, 2)]
DOMAINS += [Param(Matrix), Each(Scalar(-1, 3)), Each(Unit), LogDecay, Scalar(1, 2), Vector(-3, -2)]
NUMBERS = st.floats(-4, 4)
CHANGES = st.one_of(
    st.tuples(NUMBERS, NUMBERS).map(lambda ends: clamp(min(ends), max(ends))),
    NUMBERS.map(lambda end: clamp(lo=end)),
    NUMBERS.map(lambda end: clamp(hi=end)),
    NUMBERS.map(scale),
    NUMBERS.map(constant),
    st.sampled_from([mute(0), mute(0, 1), drop(0), drop(1, 2)]),
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(DOMAINS), st.lists(CHANGES, min_size=1, max_size=3), st.integers(0, 2**31))
def test_every_changed_value_lies_in_the_changed_domain(domain, changes, seed):
    x = domain.sample(SIZES, generator=torch.Generator().manual_seed(seed))
    for change in changes:
        if change.text.startswith("drop") and not domain.own_axes:
            with pytest.raises(ValueError, match="drop names entries of vectors, and this signal is a scalar"):
                change.domain(domain)
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
        (lambda: parse_edit("a:b=scale(__import__('os'))"), ValueError, "between the brackets stand numbers, as in"),
        (lambda: parse_edit("a:b=scale(oo)"), ValueError, "scale takes a finite factor, got inf"),
        (lambda: parse_edit("a:b=scale(1, 2)"), ValueError, "takes 1 positional argument but 2 were given"),
        (lambda: scale(float("nan")), ValueError, "scale takes a finite factor, got nan"),
        (lambda: constant(float("nan")), ValueError, "constant takes numbers, got NaN"),
        (lambda: change_of(torch.zeros(0)), ValueError, "constant takes numbers, got none"),
        (
            lambda: Edit("k", constant(torch.ones(7)))(core()),
            ValueError,
            r"the edit of k: a tensor of shape \(7,\) does not expand to the signal's \(1, 6, 2, 3\)",
        ),
        (lambda: Edit("drive", mute(5))(core()), ValueError, r"the edit of drive: name heads in 0\.\.1, got 5"),
        (lambda: Edit("beta", drop(0))(core()), ValueError, "drop names entries of vectors"),
        (lambda: Edit("beta", mute(2))(core()), ValueError, r"name heads in 0\.\.1, got 2"),
        (lambda: constant(1.0).domain(Fixed("vector", lambda n: None)), ValueError, "a signal that is a fixed vector"),
    ],
)
def test_refused_in_words(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_eigenvalues_of_a_changed_matrix_are_not_known_any_more():
    domain = replace(Matrix, spectrum=annulus(0, 1))
    assert scale(-2).domain(domain).spectrum == Complex == mute(0).domain(domain).spectrum


def test_heads_of_a_constant_and_of_groups():
    heads_first = Param(Vector).sample(SIZES)
    muted = mute(3).values(heads_first, 0)
    assert not muted[3].any() and torch.equal(muted[:3], heads_first[:3])
    grouped = Shared(Vector, 2).sample(SIZES)
    assert not mute(1).values(grouped, 2)[:, :, 1].any()
    with pytest.raises(ValueError, match=r"name heads in 0\.\.1, got 2"):
        mute(2).values(grouped, 2)


def test_edits_as_text():
    path, edit = parse_edit("model.layers.0.linear_attn:beta=clamp(0, oo)")
    assert (path, str(edit)) == ("model.layers.0.linear_attn", "beta = clamp(0, oo)")
    assert str(parse_edit("a: k = drop(1, 2)")[1]) == "k = drop(1, 2)"


@pytest.mark.parametrize("change", [clamp(), clamp(hi=1 / 3), scale(-1e-9), scale(2), constant(0.1 + 0.2), mute(1, 0)])
def test_the_text_of_a_change_reads_as_the_same_change(change):
    found = parse_edit(f"a:b={change.text}")[1].change
    assert found.text == change.text and found.domain(Vector) == change.domain(Vector)
    x = torch.randn(2, 3, 2, 4, dtype=torch.float64)
    assert torch.equal(found.values(x, 2), change.values(x, 2))


def test_the_verdict_is_that_of_the_edited_layer():
    pytest.importorskip("transformers")
    path = "model.layers.0.linear_attn"
    conversion = dsf.convert(tiny_model("olmo_hybrid"), example_tokens())
    layer, edited = conversion.layers[path], conversion.edit(path, beta=clamp(0, 1)).layers[path]
    assert dsf.parity(layer).answer is True and min(part.lo for part in dsf.spectrum(layer.architecture).parts) == -1
    assert dsf.parity(edited).answer is False and dsf.spectrum(edited.architecture).nonnegative
    assert dsf.parity(conversion.edit(path, beta=lambda b: b / 2).layers[path]).answer is not False  # nothing is known
    with pytest.raises(KeyError, match="no layer is called 'layers.0'; the layers are model.layers.0.linear_attn"):
        conversion.edit("layers.0", beta=1.0)
    with pytest.raises(ValueError, match="has the signals q, k, beta, g, drive, not 'dt'"):
        conversion.edit(path, dt=1.0)
    with pytest.raises(ValueError, match="the edit of beta: constant takes numbers, got NaN"):
        conversion.edit(path, beta=float("nan"))
