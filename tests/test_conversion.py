"""dsf.convert on torch.nn: the module is reproduced, wrong readings of it are caught, bad input is refused in words."""

import itertools
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import dsf
from dsf.checkpoints import bytes_of, load_checkpoint
from dsf.converter_registry import converter_of

EXACT = 1e-12
SHIPPED = Path(__file__).parent.parent / "examples" / "models" / "byte_lstm"
KINDS = {
    "tanh": dict(cls=nn.RNN),
    "relu": dict(cls=nn.RNN, nonlinearity="relu"),
    "lstm": dict(cls=nn.LSTM),
    "projected": dict(cls=nn.LSTM, proj_size=3),
    "gru": dict(cls=nn.GRU),
}
SHAPES = {
    "plain": {},
    "two layers": dict(num_layers=2),
    "both ways": dict(num_layers=3, bidirectional=True),
    "no bias": dict(bias=False, num_layers=2),
    "batch first": dict(batch_first=True, bidirectional=True),
}


def made(kind, **options):
    torch.manual_seed(0)
    arguments = KINDS[kind] | options
    module = arguments.pop("cls")(4, 6, **arguments).double()
    for weight in module.parameters():
        weight.data.mul_(2)  # the default weights have little memory, and would hide a wrong state
    return module


def initial(module, batch=None):
    count = module.num_layers * (1 + module.bidirectional)
    lead = (count,) if batch is None else (count, batch)
    h = torch.randn(*lead, module.proj_size or 6, dtype=torch.float64).tanh()
    return (h, torch.randn(*lead, 6, dtype=torch.float64)) if isinstance(module, nn.LSTM) else h


def halves(module, output):
    """The output of the last layer by direction, as the layers are called."""
    last = f"layer{module.num_layers - 1}"
    return dict(zip((last, last + ".reverse"), output.chunk(1 + module.bidirectional, -1), strict=False))


# ------------------------------------------------------------------------------------------------- it is reproduced


@pytest.mark.parametrize("given", (False, True), ids=("from zero", "given state"))
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_variant_of_torch_nn_is_reproduced(kind, shape, given):
    module = made(kind, **SHAPES[shape])
    x = torch.randn(2, 9, 4, dtype=torch.float64) if module.batch_first else torch.randn(9, 2, 4, dtype=torch.float64)
    arguments = (x, initial(module, 2)) if given else (x,)
    conversion = dsf.convert(module, arguments, tolerance=EXACT)
    assert len(conversion.layers) == module.num_layers * (1 + module.bidirectional)
    assert max(conversion.verify().values()) < EXACT
    output, final = module(*arguments)
    for path, expected in halves(module, output).items():
        layer = conversion.layers[path]
        torch.testing.assert_close(layer.simulate()[0], expected, rtol=0, atol=EXACT)
        torch.testing.assert_close(layer.simulate(method="reference")[0], expected, rtol=0, atol=EXACT)
    for row, layer in enumerate(conversion.layers.values()):  # the final states, in torch's order of rows
        y, (state, last) = dsf.simulate(layer.system, layer.drive, layer.state)
        out, h, *c = layer.simulate()
        torch.testing.assert_close(out, layer.output[0], rtol=0, atol=EXACT)
        torch.testing.assert_close(h, final[0][row] if c else final[row], rtol=0, atol=EXACT)
        torch.testing.assert_close(state[:, 0, :, 0], final[1][row] if c else h, rtol=0, atol=EXACT)
        if kind != "projected":
            torch.testing.assert_close(last[:, 0], h, rtol=0, atol=EXACT)


@pytest.mark.parametrize("given", (False, True))
@pytest.mark.parametrize("kind", KINDS)
def test_a_single_unbatched_sequence(kind, given):
    module = made(kind, num_layers=2, bidirectional=True)
    x = torch.randn(7, 4, dtype=torch.float64)
    arguments = (x, initial(module)) if given else (x,)
    conversion = dsf.convert(module, arguments, tolerance=EXACT)
    for path, expected in halves(module, module(*arguments)[0]).items():
        torch.testing.assert_close(conversion.layers[path].simulate()[0], expected, rtol=0, atol=EXACT)


@pytest.mark.parametrize("length", (1, 256, 257, 600))
def test_lengths_around_the_blocks_of_the_verification(length):
    module = made("lstm", bidirectional=True)
    assert max(dsf.convert(module, torch.randn(length, 1, 4).double(), tolerance=EXACT).errors.values()) < EXACT


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_runs_on_an_input_it_has_not_seen(kind):
    module = made(kind, batch_first=True, bidirectional=True)
    conversion = dsf.convert(module, torch.randn(2, 9, 4).double())
    fresh = torch.randn(5, 13, 4).double()
    for path, expected in halves(module, module(fresh)[0]).items():
        torch.testing.assert_close(conversion.layers[path].simulate(fresh)[0], expected, rtol=0, atol=EXACT)


def test_a_module_that_returns_zeros():
    module = made("relu")
    for weight in module.parameters():
        weight.data.zero_()
    assert dsf.convert(module, torch.randn(5, 1, 4).double()).errors == {"layer0": 0.0}


def test_float32_and_half_precision():
    x = torch.randn(2, 40, 4)
    module = made("gru", batch_first=True)
    assert dsf.convert(module.float(), x).errors["layer0"] < 1e-6
    assert dsf.convert(module.bfloat16(), x.bfloat16()).errors["layer0"] < 0.1


class Model(nn.Module):
    """Two recurrences at different paths, one of them called twice, one changed in place after its call."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 4)
        self.body = nn.ModuleDict({"encoder": made("lstm", batch_first=True), "unused": made("gru")})
        self.decoder = nn.GRU(6, 6, batch_first=True).double()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True).double()
        self.double()

    def forward(self, tokens, *, scale=1.0):
        x, _ = self.body["encoder"](self.embed(tokens) * scale)
        y, h = self.decoder(x)
        x += 1000  # in place: what was recorded must not change
        return self.decoder(input=y, hx=h)[0] + self.attention(y, y, y)[0]


def test_a_model_its_paths_and_what_is_left_out():
    model = Model().eval()
    conversion = dsf.convert(model, dict(tokens=torch.randint(11, (2, 8)), scale=2.0), tolerance=EXACT)
    assert list(conversion.layers) == ["body.encoder.layer0", "decoder[0].layer0", "decoder[1].layer0"]
    assert max(conversion.verify().values()) < EXACT
    assert list(conversion.unconverted) == ["attention", "body.unused"]
    assert "bidirectional" in conversion.unconverted["attention"]
    assert "not called" in conversion.unconverted["body.unused"]
    text = repr(conversion)
    for word in ("Conversion of Model, 3 layers", "decoder[1].layer0", "GRU", "not converted:", "MultiheadAttention"):
        assert word in text
    assert not any(hooks for part in model.modules() for hooks in (part._forward_hooks, part._forward_pre_hooks))


def test_a_conversion_is_a_copy_and_leaves_the_module_alone():
    module = made("lstm").train()
    x = torch.randn(20, 1, 4).double()
    layer = dsf.convert(module, x).layers["layer0"]
    assert module.training
    before = layer.simulate()[0]
    with torch.no_grad():
        x.zero_()
        for weight in module.parameters():
            weight.zero_()
    assert torch.equal(layer.simulate()[0], before) and layer.verify() < EXACT
    assert not any(s.requires_grad for s in layer.signals.values()) and not layer.output[0].requires_grad


def test_signals_are_views_of_one_tensor():
    layer = dsf.convert(made("lstm"), torch.randn(20, 1, 4).double()).layers["layer0"]
    assert (
        len({layer.signals[k].untyped_storage().data_ptr() for k in "fio"} | {layer.drive.untyped_storage().data_ptr()})
        == 1
    )


def test_reparametrised_weights_are_read_as_they_act():
    module = nn.utils.parametrizations.weight_norm(made("gru"), "weight_hh_l0")
    assert dsf.convert(module, torch.randn(20, 1, 4).double(), tolerance=EXACT).errors["layer0"] < EXACT


def test_the_state_before_any_step():
    layer = dsf.convert(made("gru"), torch.randn(300, 2, 4).double()).layers["layer0"]
    for t, system, u, state in layer.visit((0, 1, 255, 256, 299)):
        assert (state is None) == (t == 0)
        if state:
            torch.testing.assert_close(state[1][:, 0], layer.output[0][t - 1])
        y = system.step(0, state or system.zero_state(u[:, None]), u)[1]
        torch.testing.assert_close(y[:, 0], layer.output[0][t])
    with pytest.raises(ValueError, match=r"increase within 0\.\.299, got 300 after 5"):
        list(layer.visit((5, 300)))


# ------------------------------------------------------------------------------------------------- what must fail does


def errors_of_wrong_readings(layer):
    """Relative errors of layers that read the weights in a wrong way, by what is wrong."""

    def encoding(change):
        def steps(call):
            right = layer.steps(call)
            core = next(right)
            signals, drive = change(dict(core.signals), core.drive)
            result = yield replace(core, signals=signals, drive=drive)
            try:
                right.send(result)
            except StopIteration as done:
                return done.value[0]

        return replace(layer, steps=steps).verify()

    swapped = {
        f"{a} <-> {b}": encoding(lambda s, u, a=a, b=b: (s | {a: s[b], b: s[a]}, u))
        for a, b in itertools.combinations([k for k in layer.signals if k[0] != "R" and k != "bias"], 2)
    }
    matrices = [k for k in layer.signals if k[0] == "R"]
    swapped |= {
        f"{a} <-> {b}": encoding(lambda s, u, a=a, b=b: (s | {a: s[b], b: s[a]}, u))
        for a, b in itertools.combinations(matrices, 2)
    }
    dropped = {f"no {k}": encoding(lambda s, u, k=k: (s | {k: 0 * s[k]}, u)) for k in layer.signals}
    return swapped | dropped | {"no drive": encoding(lambda s, u: (s, 0 * u))}


@pytest.mark.parametrize("kind", KINDS)
def test_a_swapped_gate_or_a_dropped_term_is_seen(kind):
    layer = dsf.convert(made(kind), torch.randn(50, 2, 4).double()).layers["layer0"]
    for what, error in errors_of_wrong_readings(layer).items():
        assert error > 1e-3, what


def test_a_zeroed_state_is_seen():
    layer = dsf.convert(made("lstm"), torch.randn(200, 1, 4).double()).layers["layer0"]
    assert layer.verify(reset_every=64) > 1e-3 > 1e9 * layer.verify()
    assert layer.verify(reset_every=200) < EXACT


def test_the_shipped_lstm_needs_its_state():
    """With the state zeroed every 64 tokens, the error rises by 100x and more."""
    model, _ = load_checkpoint(SHIPPED)
    conversion = dsf.convert(model, bytes_of(Path(textwrap.__file__))[:, :1024])
    for layer in conversion.layers.values():
        error = layer.verify()
        assert error < 1e-4 and layer.verify(reset_every=64) > 100 * error


def test_a_module_that_is_not_reproduced_is_refused():
    module = made("lstm")
    module.register_forward_hook(lambda m, args, out: (out[0] * 1.01, out[1]))
    with pytest.raises(ValueError, match=r"layer0 is not reproduced: relative error .*e-0[23], allowed 1\.0e-10"):
        dsf.convert(module, torch.randn(5, 1, 4).double())
    module = made("lstm")
    module.register_forward_hook(lambda m, args, out: (out[0], (out[1][0], out[1][1] + 1)))
    with pytest.raises(ValueError, match="layer0 is not reproduced"):
        dsf.convert(module, torch.randn(5, 1, 4).double())


def test_the_tolerance_is_the_callers():
    with pytest.raises(ValueError, match=r"allowed 1\.0e-12"):
        dsf.convert(made("lstm").float(), torch.randn(50, 2, 4), tolerance=1e-12)
    module = made("lstm")
    module.register_forward_hook(lambda m, args, out: (out[0] * 1.01, out[1]))
    assert 1e-3 < dsf.convert(module, torch.randn(5, 1, 4).double(), tolerance=0.1).errors["layer0"] < 0.1


def test_the_module_runs_once_and_without_gradients():
    module, seen = made("gru"), []
    module.register_forward_pre_hook(lambda m, args: seen.append(torch.is_grad_enabled()))
    dsf.convert(module, torch.randn(5, 1, 4).double())
    assert seen == [False] and torch.is_grad_enabled()


# ------------------------------------------------------------------------------------------------- what is refused


def poisoned(kind, value=float("nan")):
    module = made(kind)
    module.weight_hh_l0.data[0, 0] = value
    return module


X = torch.randn(5, 2, 4).double()
REFUSED = {
    "no module": (lambda: (torch.relu, X), TypeError, "convert takes an nn.Module .* got builtin_function"),
    "nothing recurrent": (
        lambda: (nn.Linear(4, 4), X),
        ValueError,
        r"Linear holds nothing that dsf converts on these inputs \(`dsf convert --supported`",
    ),
    "a cell": (
        lambda: (nn.LSTMCell(4, 4), X),
        ValueError,
        r"(?s)\(the module itself\): LSTMCell runs one step at a time: use",
    ),
    "attention without a mask": (
        lambda: (nn.MultiheadAttention(4, 2).double(), (X, X, X)),
        ValueError,
        r"(?s)the module \(MultiheadAttention\) is bidirectional attention: a token sees those after it",
    ),
    "packed": (
        lambda: (made("gru"), nn.utils.rnn.pack_padded_sequence(X, [5, 3])),
        ValueError,
        r"the module \(GRU\) is given a PackedSequence: .* Pass the padded tensor",
    ),
    "rank": (lambda: (made("gru"), X[None]), ValueError, r"should be \[T, B, 4\], got shape \(1, 5, 2, 4\)"),
    "features": (
        lambda: (made("gru", batch_first=True), X[..., :3]),
        ValueError,
        r"\[B, T, 4\], got shape \(5, 2, 3\)",
    ),
    "dtype": (
        lambda: (made("gru"), X.float()),
        ValueError,
        r"is torch.float32 on cpu, its weights torch.float64 on cpu; move",
    ),
    "integers": (lambda: (made("gru"), X.long()), ValueError, r"is torch.int64 on cpu, its weights torch.float64"),
    "device": (
        lambda: (made("gru"), X.to("meta")),
        ValueError,
        r"is torch.float64 on meta, its weights .* on cpu; move",
    ),
    "no steps": (
        lambda: (made("gru"), X[:0]),
        ValueError,
        r"is empty: \[T, B, 4\] = \(0, 2, 4\); give one step or more",
    ),
    "no batch": (lambda: (made("gru"), X[:, :0]), ValueError, r"is empty: \[T, B, 4\] = \(5, 0, 4\)"),
    "NaN in the input": (
        lambda: (made("gru"), X * float("nan")),
        ValueError,
        r"the input of the module \(GRU\) holds NaN",
    ),
    "NaN in the state": (
        lambda: (made("gru"), (X, torch.full((1, 2, 6), float("nan")).double())),
        ValueError,
        r"initial state 0 of the module \(GRU\) holds NaN",
    ),
    "NaN in a weight": (
        lambda: (poisoned("lstm"), X),
        ValueError,
        r"weight_hh_l0 of the module \(LSTM\) holds NaN or inf",
    ),
    "infinite weight": (
        lambda: (poisoned("lstm", float("inf")), X),
        ValueError,
        "weight_hh_l0 .* holds NaN or infinity",
    ),
    "dropout": (
        lambda: (made("gru", num_layers=2, dropout=0.5), X),
        ValueError,
        r"dropout 0.5 .* Call module.eval\(\) first",
    ),
    "bad state": (
        lambda: (made("gru"), (X, torch.zeros(1, 3, 6).double())),
        ValueError,
        "GRU fails on the example inputs: RuntimeError: ",
    ),
    "no tensor": (lambda: (made("gru"), [1, 2]), ValueError, "takes a tensor, got list"),
    "other arguments": (lambda: (made("gru"), dict(y=X)), ValueError, "GRU fails on the example inputs: TypeError"),
    "projected state": (
        lambda: (zero_projection(), (X, (torch.ones(1, 2, 3).double(), torch.ones(1, 2, 6).double()))),
        ValueError,
        "initial state .* not in the range of its projection",
    ),
}


def zero_projection():
    module = made("projected")
    module.weight_hr_l0.data[0] = 0
    return module


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_words(case):
    make, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        dsf.convert(*make())


def test_dropout_in_eval_mode_is_fine():
    assert len(dsf.convert(made("gru", num_layers=2, dropout=0.5).eval(), X).layers) == 2


def test_a_submodule_is_named_in_its_error():
    model = nn.Sequential(nn.Linear(4, 3).double(), made("gru"))
    with pytest.raises(ValueError, match=r"the input of 1 \(GRU\) should be \[T, B, 4\]"):
        dsf.convert(model, X)
    assert not model[1]._forward_hooks and not model[1]._forward_pre_hooks


class Leaky(nn.Module):
    """y_t = y_{t-1} / 2 + x_t."""

    def forward(self, x):
        y, outputs = torch.zeros_like(x[:, 0]), []
        for t in range(x.shape[1]):
            y = y / 2 + x[:, t]
            outputs.append(y)
        return torch.stack(outputs, 1)


@pytest.mark.parametrize("share", (0.5, 0.6))
@pytest.mark.parametrize("named", (False, True))
def test_a_converter_of_ones_own(named, share, monkeypatch):
    """By class or by its full name; a wrong one is refused by the re-simulation."""
    from dsf import converter_registry

    monkeypatch.setattr(converter_registry, "_CLASSES", dict(converter_registry._CLASSES))

    @dsf.converter(f"{Leaky.__module__}.Leaky" if named else Leaky)
    def leaky(call):
        x = call.arguments["x"]
        ones = torch.ones_like(x[:, :, :1, None])
        signals = dict(q=ones, k=ones, log_gamma=torch.tensor([share]).double().log())
        y, _ = yield dsf.Core(dsf.architecture_named("retnet"), signals, x[:, :, None])
        return y[:, :, 0]

    model = nn.Sequential(Leaky(), made("gru", batch_first=True))
    if share == 0.6:
        with pytest.raises(ValueError, match="0 is not reproduced"):
            dsf.convert(model, X)
    else:
        conversion = dsf.convert(model, X, tolerance=EXACT)
        assert list(conversion.layers) == ["0", "1.layer0"]
        assert not conversion.layers["0"].architecture.feedback
        torch.testing.assert_close(conversion.layers["0"].simulate(X[:1]), Leaky()(X[:1]))


def test_a_subclass_with_its_own_forward_needs_its_own_converter():
    class Mine(nn.LSTM):
        def forward(self, x):
            return super().forward(x)[0]

    class Renamed(nn.LSTM):
        pass

    assert converter_of(Mine(4, 4)) is None and converter_of(Renamed(4, 4)) is not None
    with pytest.raises(ValueError, match="Mine has a forward of its own: pass mixers=.* or register a converter"):
        dsf.convert(Mine(4, 4), X)


def test_recurrent_by_name_only():
    class MySSMLayer(nn.Module):
        pass

    class ClassMLP(nn.Module):
        pass

    class MyRNN(nn.Sequential):
        """Recurrent by its name too, but it merely contains what is converted and what is listed."""

    model = MyRNN(made("gru"), nn.Sequential(MySSMLayer(), ClassMLP()))
    model.forward = lambda x: model[0](x)
    assert list(dsf.convert(model, X).unconverted) == ["1.0"]


def test_only_uncalled_modules():
    model = Model()
    model.forward = lambda x: x
    with pytest.raises(
        ValueError, match=r"(?s)Model holds nothing.*body\.encoder: LSTM was not called on these inputs"
    ):
        dsf.convert(model, X)


def test_inputs_of_a_layer_are_compared_with_its_own():
    layer = dsf.convert(made("gru"), X).layers["layer0"]
    for x, error, message in (
        (
            X.float(),
            TypeError,
            r"layer0 should be \[any, any, 4\], torch.float64 on cpu; got torch.float32",
        ),
        ([1.0], TypeError, "got list"),
        (X[0], ValueError, r"got shape \(2, 4\)"),
        (X[..., :2], ValueError, r"got shape \(5, 2, 2\)"),
        (X[:0], ValueError, r"empty shape \(0, 2, 4\)"),
    ):
        with pytest.raises(error, match=message):
            layer.simulate(x)
    started = dsf.convert(made("gru"), (X, torch.zeros(1, 2, 6).double())).layers["layer0"]
    with pytest.raises(ValueError, match="the state should be"):
        started.simulate(X[:, :1])
    with pytest.raises(ValueError, match="reset_every is a number of tokens, at least 1, got 0"):
        layer.verify(reset_every=0)
    with pytest.raises(ValueError, match="tolerance is a relative error"):
        dsf.convert(made("gru"), X, tolerance=0)
