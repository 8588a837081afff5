"""dsf_analysis.horizons: closed forms, a bit that is really kept and lost, and what has no horizon."""

import json
import math

import pytest
import torch

import dsf
from dsf import Matrix, Param, Scalar, System, Vector, Window, architecture
from dsf.converted_layer import ConvertedLayer
from dsf.cores import Core
from dsf.recording import Call
from dsf_analysis.horizons import horizon, tokens_until_lost
from dsf_analysis.spectra import NotInvariant
from helpers import generator

DELTA = dsf.architecture_named("deltanet").with_domain(beta=Scalar(0, 2))


def layer_of(arch, signals, drive=None):
    """A converted layer of these signals, as a converter of one's own would hand it out."""
    some = next(x for x in signals.values() if x.dim() > 2)
    B, T, H = some.shape[:3]
    u = torch.ones(B, T, H, 1, dtype=some.dtype) if drive is None else drive
    core = Core(arch, signals, u)

    def steps(call):
        y, _ = yield core
        return y

    return ConvertedLayer("mixer", Call("mixer", None, {"u": u}, u), steps)


def delta(beta, dtype=torch.float32, n=2):
    """One sequence, heads along the last axis of beta [T, H]: eigenvalues 1 and 1 - beta on a fixed unit k."""
    beta = torch.as_tensor(beta, dtype=dtype)[None]
    k = torch.zeros(*beta.shape, n, dtype=dtype)
    k[..., 0] = 1
    return layer_of(DELTA, dict(q=k, k=k, beta=beta))


def test_gaps_steps_and_horizons_of_each_head():
    layer = delta([[0.5, 0.5], [1.75, 0.0], [1.5, 0.25], [1.875, 1.0]])
    found = horizon(layer)
    first, second = found.heads
    assert (first.smallest, first.smallest_step, first.largest, first.largest_step) == (-0.875, 3, 1.0, 0)
    assert first.flip_gap == 0.125 and first.hold_gap == 0.0 and first.holds == math.inf
    assert first.flips == first.mixed == pytest.approx(24 * math.log(2) / -math.log(0.875))
    assert second.flip_gap is None and (second.flips, second.mixed) == (0.0, 0.0) and second.smallest == 0.0
    assert found.best is first and found.steps == found.length == 4 and found.how.startswith("exact")
    cut = horizon(layer, [1, 2])
    assert cut.heads[0].smallest == -0.75 and cut.heads[0].smallest_step == 1 and cut.steps == 2


@pytest.mark.parametrize(
    "dtype, resolution", [(torch.float32, 2**-24), (torch.bfloat16, 2**-8), (torch.float64, 2**-53)]
)
def test_the_resolution_is_that_of_the_dtype(dtype, resolution):
    found = horizon(delta([[1.5]], dtype))
    assert found.resolution == resolution and found.heads[0].flips == -math.log2(resolution)  # of -1/2
    assert found.dtype == str(dtype).removeprefix("torch.")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_bit_is_below_the_resolution_after_so_many_flips_and_not_before(dtype):
    """(1 - beta)^t in exact powers: added to 1, it changes 1 until the horizon, and no longer."""
    found = horizon(delta([[1.75]], dtype))
    before, after = math.floor(found.heads[0].flips), math.ceil(found.heads[0].flips)
    one, bit = torch.ones((), dtype=dtype), torch.tensor(0.75, dtype=dtype)
    assert one + bit**before != one and one + bit**after == one


def test_an_exact_reflection_never_loses_the_bit():
    found = horizon(delta([[2.0], [0.0]]))
    assert found.heads[0].flips == found.heads[0].mixed == math.inf and found.heads[0].flip_gap == 0
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data["heads"][0]["flips"] is None and data["heads"][0]["flip_gap"] == 0
    assert "infinitely many flips" in repr(found) and "text and of no other" in repr(found)
    assert data["speaks_of"] == "the tokens of this text only"


@architecture("Scaled by s", register=False)
def scaled(q=Vector, k=Vector, s=Scalar(-2, 2)):
    return System(A=s * dsf.I, B=k, C=q)


def scaled_by(*s):
    s = torch.tensor(s).reshape(1, -1, 1)
    return layer_of(scaled, dict(q=torch.ones(1, s.shape[1], 1, 1), k=torch.ones(1, s.shape[1], 1, 1), s=s))


def test_a_word_of_flips_and_holds_takes_the_worse_gap():
    head = horizon(scaled_by(-0.99, 0.5)).heads[0]
    assert head.hold_gap == 0.5 and head.holds == 24 and head.mixed == 24 and head.flips > 1000
    head = horizon(scaled_by(-0.5, 0.99)).heads[0]
    assert head.mixed == head.flips == 24 and head.holds > 1000


def test_beyond_the_end_points_the_bit_grows():
    head = horizon(scaled_by(-1.5, 0.5)).heads[0]
    assert head.flip_gap == -0.5 and head.flips == math.inf and head.mixed == 24
    head = horizon(scaled_by(-0.5, -0.75)).heads[0]  # nothing holds
    assert head.hold_gap == 1 and head.holds == head.mixed == 0 and head.largest == -0.5


def test_eigenvalues_are_those_of_the_signals_without_more_rounding():
    k = torch.nn.functional.normalize(torch.randn(1, 9, 1, 16, generator=generator()), dim=-1)
    beta = torch.full((1, 9, 1), 1.9)
    found = horizon(layer_of(DELTA, dict(q=k, k=k, beta=beta))).heads[0]
    assert found.smallest == pytest.approx((1 - beta.double() * k.double().square().sum(-1)).min().item(), abs=1e-14)


def test_many_steps_are_looked_at_in_pieces():
    s = [0.5] * 500
    s[300], s[17] = -0.75, 0.875
    head = horizon(scaled_by(*s)).heads[0]
    assert (head.smallest_step, head.largest_step) == (300, 17)


@architecture("A dense matrix", register=False)
def dense_one(q=Vector, k=Vector, M=Param(Matrix)):
    return System(A=M, B=k, C=q)


def test_numerical_eigenvalues_are_said_to_be_and_complex_ones_are_no_flips():
    k = torch.ones(1, 3, 1, 2)
    rotation = torch.tensor([[[0.0, -1.0], [1.0, 0.0]]])
    found = horizon(layer_of(dense_one, dict(q=k, k=k, M=rotation)))
    head = found.heads[0]
    assert head.smallest is head.largest is head.flip_gap is None and head.flips == head.mixed == 0
    assert "numerical" in found.how and "no token flips" in repr(found)


def test_what_has_no_horizon_says_why():
    recurrent = dsf.convert(torch.nn.LSTM(3, 4), torch.randn(6, 2, 3)).layers["layer0"]
    with pytest.raises(NotInvariant, match="function of the state"):
        horizon(recurrent)
    windowed = dsf.architecture_named("gla").with_domain(g=Window(Vector(-math.inf, 0)))
    with pytest.raises(NotInvariant, match="the last tokens"):
        horizon(layer_of(windowed, windowed.sample(1, 4, 1, 2, 1, generator=generator())[0]))
    softmax = dsf.architecture_named("softmax_attention")
    with pytest.raises(NotInvariant, match="keeps the tokens themselves"):
        horizon(layer_of(softmax, softmax.sample(1, 4, 1, 2, 1, generator=generator())[0]))
    for wrong in ([], [4], [-1]):
        with pytest.raises(ValueError, match="within 0..3"):
            horizon(delta([[0.5]] * 4), wrong)


@pytest.mark.parametrize("modulus, tokens", [(0.0, 0.0), (0.5, 24.0), (1.0, math.inf), (1.1, math.inf)])
def test_tokens_until_lost(modulus, tokens):
    assert tokens_until_lost(modulus, 2**-24) == tokens


def test_extremes_of_a_layer_name_step_sequence_and_head():
    beta = torch.full((2, 100, 3), 0.5)
    beta[1, 99, 2] = 1.75
    k = torch.zeros(2, 100, 3, 2)
    k[..., 0] = 1
    k[0, 0, 1, 0] = 2  # 1 - 4 / 2 = -1: smaller still
    layer = layer_of(DELTA.with_domain(k=Vector), dict(q=k, k=k, beta=beta))
    smallest, largest = dsf.spectrum(layer).extremes
    assert (smallest.value, smallest.step, smallest.batch, smallest.head) == (-1.0, 0, 0, 1)
    assert abs(largest.value) == 1
    k[0, 0, 1, 0] = 1
    smallest, _ = dsf.spectrum(layer_of(DELTA, dict(q=k, k=k, beta=beta))).extremes
    assert (smallest.value, smallest.step, smallest.batch, smallest.head) == (-0.75, 99, 1, 2)
    json.dumps(dsf.spectrum(layer).to_dict(), allow_nan=False)
