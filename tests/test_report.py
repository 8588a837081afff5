"""The row of a converted layer: its eigenvalues are those of torch's own step, its control fails."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import dsf
from dsf_analysis.findings import holds
from dsf_analysis.report import closing_words, layer_report, step_eigenvalues, step_moduli, time_constant


def made(cls, **options):
    torch.manual_seed(0)
    module = cls(3, 4, batch_first=True, **options).double()
    for weight in module.parameters():
        weight.data.mul_(2)
    return module, torch.randn(2, 100, 3).double()


def jacobian_by_torch(module, x, t, b):
    """d state_t / d state_{t-1} of one step of the torch module itself, at the state that its own run reaches."""
    states = module(x[b : b + 1, :t])[1] if t else None
    states = states if states is not None else module(x[b : b + 1, :1] * 0)[1]
    states = [s * (t > 0) for s in (states if isinstance(states, tuple) else (states,))]

    def step(flat):
        parts = [part[None, None] for part in flat.chunk(len(states))]
        after = module(x[b : b + 1, t : t + 1], tuple(parts) if len(parts) > 1 else parts[0])[1]
        return torch.cat([s.flatten() for s in (after if isinstance(after, tuple) else (after,))])

    return torch.autograd.functional.jacobian(step, torch.cat([s.flatten() for s in states]))


@pytest.mark.parametrize("cls", (nn.LSTM, nn.GRU, nn.RNN))
def test_eigenvalues_are_those_of_the_modules_own_step(cls):
    module, x = made(cls)
    layer = dsf.convert(module, x).layers["layer0"]
    found = step_moduli(layer, 3)
    assert found.shape == (3, 2, 1, 4)
    for row, t in enumerate((0, 50, 99)):
        for b in (0, 1):
            expected = torch.linalg.eigvals(jacobian_by_torch(module, x, t, b)).abs().sort(descending=True).values[:4]
            torch.testing.assert_close(found[row, b, 0], expected, rtol=1e-6, atol=1e-7)


def test_a_layer_without_feedback():
    """The converters of today are all of feedback layers: a stand-in with a linear recurrence takes the other path."""
    arch = dsf.architecture_named("gla")
    signals, u = arch.sample(batch=1, length=9, heads=1, n=4, p=4, ends=0.0)
    layer = dsf.convert(*made(nn.GRU)).layers["layer0"]
    y, _ = dsf.simulate(arch(**signals), u)

    def encode(x):  # x carries the step's number
        steps = x[0, :, 0].long()
        return {k: v[:, steps] for k, v in signals.items()}, u[:, steps]

    x = torch.arange(9.0)[None, :, None].double()
    linear = replace(layer, architecture=arch, encode=encode, input=x, output=y[:, :, 0], state=None, final=None)
    assert linear.verify() < 1e-12
    torch.testing.assert_close(step_eigenvalues(linear, 9)[:, 0, 0], signals["g"][0, :, 0].exp())
    row = layer_report(linear)
    assert not row.feedback and row.matrix == "A_t" and row.parity.answer is False
    assert 0 < row.median <= row.slowest < math.inf


def test_the_row_and_its_control():
    layer = dsf.convert(*made(nn.LSTM)).layers["layer0"]
    row = layer_report(layer)
    assert row.error < 1e-12 and row.control > 1e-3 and row.length == 100 and row.steps == 24
    assert len(row.cells()) == len(row.columns())
    assert row.to_dict()["time_constants"]["slowest"] == row.slowest
    assert "what the state carries is needed" in closing_words([row])
    assert "hardly changes" in closing_words([replace(row, control=row.error)])
    assert "too short" in closing_words([replace(row, control=None)])
    assert "does not fade" in closing_words([replace(row, slowest=math.inf)])
    assert replace(row, slowest=math.inf).to_dict()["time_constants"]["slowest"] is None


def test_time_constants():
    assert time_constant(math.exp(-1 / 40)) == pytest.approx(40)
    assert time_constant(0.0) == 0 and time_constant(1.0) == math.inf and time_constant(1.5) == math.inf


def test_a_spectrum_that_is_too_small_does_not_hold():
    arch = dsf.architecture_named("deltanet").with_domain(beta=dsf.Scalar(0, 2))
    assert holds(dsf.spectrum(arch), arch)
    assert not holds(dsf.spectrum(dsf.architecture_named("deltanet")), arch)
    assert not holds(dsf.spectrum(dsf.architecture_named("deltanet")), dsf.architecture_named("titans"))
