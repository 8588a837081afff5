"""The row of a converted layer: its eigenvalues are those of torch's own step, its control fails."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import dsf
from dsf_analysis import check_text
from dsf_analysis.findings import holds, layer_finding, verdict_findings
from dsf_analysis.measured import measure, step_eigenvalues, step_moduli, time_constant
from dsf_analysis.on_text import on_text
from dsf_analysis.report import layer_report
from dsf_analysis.report_text import cells, closing_words, csv_row, header, lines
from tiny_models import FAMILIES, example_tokens, tiny_model


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


class Given(nn.Module):
    """A mixer that is handed its signals: one layer of any architecture."""

    def __init__(self, arch, **signals):
        super().__init__()
        self.arch, self.signals = arch, signals

    def forward(self, u):
        return dsf.simulate(self.arch(**self.signals), u)[0]


def layer_of(arch, u, **signals):
    module = Given(arch, **signals)
    mixers = {Given: lambda m, u: (m.arch, m.signals, u, lambda y: y)}
    return dsf.convert(nn.Sequential(module), u, mixers=mixers).layers["0"]


def test_two_heads_of_one_decay_each():
    """A head of 0.5 and one of 0.99: ranges are of both, the slowest head is the second."""
    arch = dsf.architecture_named("retnet")
    gamma = torch.tensor([0.5, 0.99], dtype=torch.float64)
    signals, u = arch.sample(batch=2, length=100, heads=2, n=3, p=4)
    layer = layer_of(arch, u, **{**signals, "log_gamma": gamma.log()})
    assert step_eigenvalues(layer, 9).shape == (9, 2, 2, 3)
    row = layer_report(layer)
    m = row.measured
    assert m.real == pytest.approx((0.5, 0.99)) and m.moduli == m.real and m.steps == 24
    assert m.slowest == pytest.approx(time_constant(0.99)) and m.median == pytest.approx(time_constant(0.5))
    assert (row.heads, row.state_size, row.channels) == (2, 3, 4) and row.all_inputs == ("[0, 1]",)
    assert cells(row)[3:7] == ("2 x 3 x 4", "[0, 1]", "[0.5, 0.99]", "99.5, 1.44")
    assert not row.feedback and row.matrix == "A_t" and row.parity.answer is False


def test_the_slowest_and_the_median_entry():
    """Of one head with three decays: the slowest is the largest, the median that in the middle."""
    arch = dsf.architecture_named("gla")
    signals, u = arch.sample(batch=1, length=9, heads=1, n=3, p=1)
    g = torch.tensor([0.5, 0.9, 0.1], dtype=torch.float64).log().expand(1, 9, 1, 3)
    m = measure(layer_of(arch, u, **{**signals, "g": g}))
    assert (m.slowest, m.median) == pytest.approx((time_constant(0.9), time_constant(0.5)))


def test_eigenvalues_at_the_chosen_steps_are_those_of_dense_matrices():
    """By the structure (a reflection), and by a solver (Kimi's diag(g) before the reflection)."""
    for arch in (dsf.architecture_named("gated_deltanet"), dsf.architecture_named("kda")):
        signals, u = arch.sample(batch=2, length=20, heads=3, n=4, p=2)
        found = step_eigenvalues(layer_of(arch, u, **signals), 5)
        dense = arch(**signals).dense()
        for row, t in enumerate((0, 5, 10, 14, 19)):
            expected = torch.linalg.eigvals(dense[:, t])
            one, other = (x.to(torch.complex128) for x in (found[row], expected))
            torch.testing.assert_close(*(x.real.sort(-1).values for x in (one, other)), rtol=1e-7, atol=1e-7)


def test_only_the_chosen_steps_are_looked_at():
    """A_t of 4096 steps and 64 heads is never made: its matrices would be 68 GB, its diagonals 0.5 GB each."""
    arch = dsf.architecture_named("gla")
    g = torch.full((1, 4096, 64, 1), -0.01).expand(-1, -1, -1, 128)
    zero = torch.zeros(1, 1, 1, 1).expand_as(g)
    layer = layer_of(arch, torch.zeros(1, 4096, 64, 1), q=zero, k=zero, g=g)
    made = []

    class Counted(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and "expand" not in str(func):
                made.append(out.untyped_storage().nbytes())
            return out

    with Counted():
        found, m = dsf.spectrum(layer), measure(layer)
    assert max(made) < 64 * 64 * 128 * 8 * 2 and "at 64 of 4096 steps" in found.how
    assert m.slowest == pytest.approx(100, rel=1e-3) and found.values.shape == (1, 64, 64, 128)


@pytest.fixture(scope="module")
def rows():
    """Path -> row, of two tiny models: feedback is in neither."""
    found = {}
    for name in ("olmo_hybrid", "mistral"):
        pytest.importorskip(FAMILIES[name].module)
        layers = dsf.convert(tiny_model(name), example_tokens(1, 90)).layers
        found |= {(name, path): layer_report(layer, model=name) for path, layer in layers.items()}
    return found


def test_negative_eigenvalues_show(rows):
    row = rows["olmo_hybrid", "model.layers.0.linear_attn"]
    assert row.all_inputs == ("[-1, 1]",) and row.measured.real[0] < -0.5 < 0.9 < row.measured.real[1]
    assert cells(row)[5].startswith("[-0.") and row.to_dict()["real"][0] < -0.5
    assert csv_row(row)["real_min"] == row.measured.real[0]
    assert "2 of 5 layers have negative ones, down to -0." in closing_words(list(rows.values()))
    assert "negative" not in closing_words([rows["mistral", "model.layers.0.self_attn"]])


def test_infinite_features_and_registers(rows):
    plain, window = rows["olmo_hybrid", "model.layers.1.self_attn"], rows["mistral", "model.layers.0.self_attn"]
    assert plain.infinite and cells(plain)[3] == "4 x oo x 12" and cells(plain)[6] == "no decay"
    assert plain.to_dict()["time_constants"] == {"slowest": None, "median": None} and plain.parity.answer is None
    assert window.register == 24 and cells(window)[6] == "holds 24" and window.measured.real == (0, 0)
    assert "features of softmax attention" in closing_words([plain])
    assert "features of softmax attention" not in closing_words([rows["olmo_hybrid", "model.layers.0.linear_attn"]])


def test_a_card_says_what_a_row_says(rows):
    for row in rows.values():
        card = "\n".join(lines(row))
        assert max(map(len, lines(row))) <= 80
        for cell in (row.title, row.structure, f"{row.error:.1e}", row.parity.word, f"{row.heads} head"):
            assert cell in card
        assert len(cells(row)) == len(header())
        assert row.error < 1e-5 < 0.1 < row.control


def test_an_edit_is_in_the_row_and_in_the_verdict():
    pytest.importorskip(FAMILIES["olmo_hybrid"].module)
    conversion = dsf.convert(tiny_model("olmo_hybrid"), example_tokens(1, 70))
    path = "model.layers.0.linear_attn"
    row = layer_report(conversion.edit(path, beta=dsf.edits.clamp(0, 1)).layers[path])
    assert row.title == "Gated DeltaNet, beta = clamp(0, 1)" and row.all_inputs == ("[0, 1]",)
    assert row.parity.answer is False and row.measured.real[0] > -1e-6
    assert cells(row)[5].startswith("[0, 0.9") and row.error > 1e-2  # it is no longer the module's own


def test_the_row_of_feedback_and_its_control():
    layer = dsf.convert(*made(nn.LSTM)).layers["layer0"]
    row = layer_report(layer)
    assert row.error < 1e-12 and row.control > 1e-3 and row.length == 100 and row.measured.steps == 24
    assert row.all_inputs is None and cells(row)[4] == "function of the state" and row.measured.real is None
    assert cells(row)[3] == "1 x 4 x 1" and cells(row)[5].startswith("|z| [")
    assert row.to_dict()["time_constants"]["slowest"] == row.measured.slowest
    assert "what the state carries is needed" in closing_words([row])
    assert "layer0 hardly changes" in closing_words([replace(row, control=row.error)])
    assert "too short" in closing_words([replace(row, control=None)])
    small = replace(row, measured=replace(row.measured, moduli=(0.1, 0.9)))
    assert "is no instability" not in closing_words([small])
    large = replace(row, measured=replace(row.measured, moduli=(0.1, 1.2), slowest=math.inf))
    near = replace(row, measured=replace(row.measured, real=(-0.99999, 0.99951)))
    assert (
        cells(near)[5] == "[-0.99999, 0.9995]"
        and cells(replace(row, measured=replace(row.measured, real=(0, 1))))[5] == "[0, 1]"
    )
    assert "is no instability" in closing_words([large]) and cells(large)[6].startswith("oo, ")
    assert large.to_dict()["time_constants"]["slowest"] is None


def test_time_constants():
    assert time_constant(math.exp(-1 / 40)) == pytest.approx(40)
    assert time_constant(0.0) == 0 and time_constant(1.0) == math.inf and time_constant(1.5) == math.inf


def test_a_spectrum_that_is_too_small_does_not_hold():
    arch = dsf.architecture_named("deltanet").with_domain(beta=dsf.Scalar(0, 2))
    assert holds(dsf.spectrum(arch), arch)
    assert not holds(dsf.spectrum(dsf.architecture_named("deltanet")), arch)
    assert not holds(dsf.spectrum(dsf.architecture_named("deltanet")), dsf.architecture_named("titans"))


def given(name, **domains):
    """A layer of an architecture, on gates of 0.5 but for two tokens, which are 3 and 7 of 9."""
    arch = dsf.architecture_named(name).with_domain(**domains)
    signals, u = arch.sample(batch=1, length=9, heads=1, n=1, p=1)
    a = torch.full((1, 9, 1, 1), 0.5, dtype=torch.float64)
    a[0, 3], a[0, 7] = -0.9, 0.99
    return layer_of(arch, u, **(signals | {"k": torch.ones_like(signals["k"]), "beta": 1 - a[..., 0]}))


def test_the_weights_on_a_text():
    weights = on_text(given("deltanet", beta=dsf.Scalar(0, 2)))
    assert (weights.place(weights.low), weights.place(weights.high)) == (3, 7)
    assert weights.distances == pytest.approx((0.1, 0.01))
    keeps = math.log(2**-53) / math.log(0.9)
    assert (
        weights.horizon.best.mixed == pytest.approx(keeps) and check_text.lost(weights) == f"after {keeps:,.0f} tokens"
    )
    row = weights.to_dict()
    assert row["nearest"]["-1"]["token"] == 3 and row["nearest"]["1"]["distance"] == pytest.approx(0.01)
    assert row["no_horizon_because"] is None and row["same_for_every_token"] is False


def test_the_weights_of_a_layer_that_runs_backwards():
    torch.manual_seed(0)
    both = dsf.convert(nn.LSTM(3, 4, bidirectional=True, batch_first=True), torch.randn(1, 30, 3)).layers
    forwards, backwards = (on_text(both[path]) for path in ("layer0", "layer0.reverse"))
    assert forwards.place(forwards.high) == forwards.high.step
    assert backwards.place(backwards.high) == 29 - backwards.high.step
    assert check_text.lost(forwards) == "- (a function of the state)"


def test_a_check_of_a_layer_in_words():
    layer = given("deltanet", beta=dsf.Scalar(0, 2))
    verdicts = verdict_findings(layer)
    row = check_text.LayerCheck(
        "", "a", "DeltaNet", layer_finding(layer), on_text(layer), verdicts, lambda t: f"'x' ({t})"
    )
    found = check_text.cells(row)
    assert len(found) == len(check_text.header(["parity"])) and row.held
    assert found[2:7] == ("[-1, 1]", "[-0.9, 0.99]", "0.1, 'x' (3)", "0.01, 'x' (7)", "yes")
    card = "\n".join(check_text.lines(row))
    for cell in found:
        assert cell in card
    assert "rounding of float64" in check_text.closing_words(
        [row]
    ) and "no such horizon" not in check_text.closing_words([row])
    failed = replace(row, verdicts=(replace(verdicts[0], held=False),))
    assert check_text.cells(failed)[6] == "FAILED" and not failed.held
