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
from dsf.mixing import Mixing

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


# -------------------------------------------------------------------------------------------- what is left out is named


class Fading(nn.Module):
    """A mixer of no telling name."""

    def forward(self, x, mask=None):
        state, outputs = 0.0, []
        for t in range(x.shape[1]):
            state = 0.9 * state + x[:, t]
            outputs.append(state)
        return torch.stack(outputs, 1), None


class Whole(Fading):
    """A mixer with parts, some of which mix, in a list."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([Fading(), Own()])

    def forward(self, x, mask=None):
        return self.parts[1](self.parts[0](x)[0]), None


class Own(nn.Module):
    """No mixer, but random, more so in training; in place, and with a shift of one token, as RWKV's feed-forward."""

    def __init__(self):
        super().__init__()
        self.up, self.drop = nn.Linear(6, 6), nn.Dropout(0.5)

    def forward(self, x):
        x *= 2
        return self.drop(self.up(x).relu()) + nn.functional.pad(x, (0, 0, 1, -1)) + torch.rand((), dtype=x.dtype)


class RotaryAttention(nn.Module):
    """No mixer either, whatever it is called."""

    def forward(self, x):
        return x.cos()


class Block(nn.Module):
    def __init__(self, mixer):
        super().__init__()
        self.norm, self.mixer, self.own = RotaryAttention(), mixer, Own()

    def forward(self, x):
        x = x + self.mixer(self.norm(x))[0]
        return x + self.own(x)


class Stack(nn.Module):
    def __init__(self, *mixers):
        super().__init__()
        self.blocks = nn.ModuleList(map(Block, mixers))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


STEPS = torch.randn(2, 20, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64, torch.bfloat16))
@pytest.mark.parametrize("training", (False, True))
def test_an_unknown_mixer_is_known_by_what_it_does(dtype, training):
    torch.manual_seed(0)
    model = Stack(nn.GRU(6, 6, batch_first=True), Fading(), Whole()).train(training).to(dtype)
    conversion = dsf.convert(model, STEPS.to(dtype))
    assert list(conversion.layers) == ["blocks.0.mixer.layer0"]
    assert list(conversion.unconverted) == ["blocks.1.mixer", "blocks.2.mixer.parts.0"]
    why = "Fading mixes tokens along time, and dsf does not know it: mixers={Class: function}, @dsf.converter(Class)"
    assert all(text.startswith(why) for text in conversion.unconverted.values())
    assert all(part.training == training for part in model.modules())


def test_a_model_of_unknown_mixers_alone_names_them():
    with pytest.raises(
        ValueError, match=r"(?s)Stack holds nothing.*\n  blocks\.0\.mixer: Fading mixes .*\n  blocks\.1\."
    ):
        dsf.convert(Stack(Fading(), Fading()), STEPS)
    with pytest.raises(ValueError, match=r"\(the module itself\): Fading mixes tokens along time"):
        dsf.convert(Fading(), STEPS)
    with pytest.raises(ValueError, match=r"holds nothing .*; and Stack fails on the example inputs: RuntimeError"):
        dsf.convert(Stack(Fading()), STEPS[..., :5])


def test_asking_the_modules_changes_no_number():
    """Of a run that is random, by modules that change their inputs in place."""
    model = Stack(nn.GRU(6, 6, batch_first=True), Fading()).train()
    seen = []
    model.register_forward_hook(lambda m, args, y: seen.append(y.detach()))
    torch.manual_seed(0)
    dsf.convert(model, STEPS)
    torch.manual_seed(0)
    with torch.no_grad():
        assert torch.equal(seen[0], model(STEPS))


@pytest.mark.parametrize(("dtype", "seen"), ((torch.float32, True), (torch.float16, False), (torch.bfloat16, False)))
def test_what_rounding_does_is_no_mixing(dtype, seen):
    """Half precision rounds rows otherwise where they are computed in other groups, as experts do."""

    class Faint(nn.Module):
        def forward(self, x):
            return x + 3e-3 * x.mean(1, keepdim=True)

    mixing, x = Mixing(), STEPS.to(dtype)
    mixing.begin((x,), {})
    mixing.ran.add("")
    mixing.ask("", module := Faint(), (x,), {})
    assert mixing.answer("", module) is seen


def test_a_call_that_may_change_an_object_is_not_repeated():
    class Cache:
        calls = 0

    class Cached(Fading):
        def forward(self, x, cache=None):
            cache.calls += 1
            return super().forward(x)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.mixer = nn.GRU(6, 6, batch_first=True), Cached()

        def forward(self, x, cache):
            return self.mixer(self.gru(x)[0], cache=cache)[0]

    cache = Cache()
    assert not dsf.convert(Model(), (STEPS, cache)).unconverted  # by name and class there is nothing to tell
    assert cache.calls == 1


def test_what_was_not_run_says_so():
    class MySSM(nn.Module):
        pass

    model = nn.Sequential(made("gru"), MySSM())
    model.forward = lambda x: model[0](x)
    assert dsf.convert(model, X).unconverted["1"].startswith("MySSM was not run on these inputs; it looks recurrent")


def test_a_model_that_dsf_runs_already_is_not_converted_again():
    put_back = dsf.convert(nn.Sequential(made("gru")), X).module()
    with pytest.raises(ValueError, match="of this Sequential are already run by dsf: convert the original, not what"):
        dsf.convert(put_back, X)


def test_NaN_among_arguments_by_name():
    with pytest.raises(ValueError, match=r"x of the module \(Fading\) holds NaN: give other inputs"):
        dsf.convert(Fading(), dict(x=STEPS * float("nan")))


def test_a_module_that_fails_in_half_precision_without_dsf_too():
    class Narrow(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(6, 6, batch_first=True)

        def forward(self, x):
            return self.gru(x)[0] @ torch.ones(6, 6)

    assert dsf.convert(Narrow(), STEPS).layers
    with pytest.raises(ValueError, match=r"It fails so without dsf too, in bfloat16: try module.float\(\), .*--dtype"):
        dsf.convert(Narrow().bfloat16(), STEPS.bfloat16())


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file/inside cannot be written: Not a directory"):
        dsf.convert(made("gru"), X).save(tmp_path / "file" / "inside")


class Kept(nn.Module):
    """Keeps its last output, with whatever graph it has, in an attribute, a list and a dict; knows the whole model."""

    def __init__(self, whole):
        super().__init__()
        self.lin, self.kept = nn.Linear(6, 6), None
        self.whole = [whole]

    def forward(self, x):
        y = self.lin(x)
        self.kept, self.also = y, [y * 1, dict(y=y + 1)]
        return y


def test_what_modules_keep_and_lead_to_is_not_copied(monkeypatch):
    """A state with a graph is taken without it, and neither the rest of the model nor dsf's own hooks go along."""
    from dsf import converter_registry

    monkeypatch.setattr(converter_registry, "_CLASSES", dict(converter_registry._CLASSES))

    @dsf.converter(Kept)
    def kept(call):
        x = call.arguments["x"]
        ones = torch.ones_like(x[:, :, :1, None])
        y, _ = yield dsf.Core(
            dsf.architecture_named("retnet"), dict(q=ones, k=ones, log_gamma=torch.tensor([-torch.inf])), x[:, :, None]
        )
        return call.module.lin(y[:, :, 0])

    model = nn.ModuleList()
    model.forward = lambda x: model[1](model[0](x))
    model.extend([Kept(model), Kept(model)])
    own = model[0].lin.register_forward_hook(lambda m, args, y: None)
    model(STEPS)  # with gradients
    for layer in dsf.convert(model, STEPS).layers.values():
        part = layer.call.module
        assert part.whole[0] is model and not part.also[1]["y"].requires_grad and not part.kept.requires_grad
        hooks = {number for m in part.modules() for number in (*m._forward_hooks, *m._forward_pre_hooks)}
        assert hooks <= {own.id}
        assert layer.verify() < 1e-5
