"""dsf.convert on whole models: what is refused, in which words; one's own mixers; and what conversions leave alone."""

import inspect

import pytest
import torch
from torch import nn

import dsf
from dsf import I, LogDecay, System, Vector, architecture, attention_masks, decay, interception
from dsf.converters import softmax_attention
from dsf.edits import clamp, mute
from helpers import relative
from tiny_models import FAMILIES, example_tokens, tiny_model

TOKENS = example_tokens()


def with_nan(model):
    with torch.no_grad():
        next(p for path, p in model.named_parameters() if path.endswith("A_log"))[0] = float("nan")
    return model


REFUSED = {
    "floats": (lambda m: (m, torch.randn(2, 5)), r"takes token ids, int64 \[B, T\], got torch.float32; .long\(\)"),
    "rank": (lambda m: (m, TOKENS[0]), r"takes token ids \[B, T\], one or more, got shape \(70,\)"),
    "empty": (lambda m: (m, TOKENS[:, :0]), r"one or more, got shape \(2, 0\)"),
    "vocabulary": (lambda m: (m, TOKENS + 100), r"token ids should be in 0..127, the vocabulary of .*; got 104..227"),
    "negative": (lambda m: (m, TOKENS - 50), r"token ids should be in 0..127"),
    "device": (lambda m: (m, TOKENS.to("meta")), r"the token ids are on meta, Mamba2ForCausalLM on cpu; move one"),
    "no tensor": (lambda m: (m, [1, 2]), r"takes token ids, a tensor \[B, T\] of int64, got list"),
    "NaN": (lambda m: (with_nan(m), TOKENS), r"A_log of backbone.layers.0.mixer \(Mamba2Mixer\) holds NaN or infinity"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_inputs_are_named(case):
    pytest.importorskip("transformers")
    make, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        dsf.convert(*make(tiny_model("mamba2")))


@pytest.mark.parametrize("name", ["mamba", "mamba2", "olmo_hybrid", "llama", "minimax"])
def test_one_token_and_one_row(name):
    pytest.importorskip("transformers")
    conversion = dsf.convert(tiny_model(name), TOKENS[:1, :1])
    assert max(conversion.errors.values()) < 1e-5
    assert all(layer.length == 1 for layer in conversion.layers.values())


def test_a_function_that_changed_its_signature_is_refused_by_name(monkeypatch):
    modeling = pytest.importorskip("transformers.models.mamba2.modeling_mamba2")
    own = modeling.mamba2_chunk_scan

    def mamba2_chunk_scan(hidden_states, dt, A, B, C, chunk_size, euler=False, **kwargs):
        return own(hidden_states, dt, A, B, C, chunk_size, **kwargs)

    monkeypatch.setattr(modeling, "mamba2_chunk_scan", mamba2_chunk_scan)
    with pytest.raises(
        ValueError, match=r"mamba2_chunk_scan of backbone.layers.0.mixer \(Mamba2Mixer\) .*new parameter euler"
    ):
        dsf.convert(tiny_model("mamba2"), TOKENS)


def test_a_mixer_that_computes_something_else_is_refused(monkeypatch):
    modeling = pytest.importorskip("transformers.models.mamba2.modeling_mamba2")
    own = modeling.mamba2_chunk_scan
    wrong = lambda *args, **kwargs: 1.01 * own(*args, **kwargs)  # noqa: E731
    wrong.__signature__ = inspect.signature(own)
    monkeypatch.setattr(modeling, "mamba2_chunk_scan", wrong)
    with pytest.raises(ValueError, match=r"layers.0.mixer is not reproduced: relative error 9.9e-03"):
        dsf.convert(tiny_model("mamba2"), TOKENS)


def test_bidirectional_attention_is_refused_in_a_sentence():
    transformers = pytest.importorskip("transformers")
    sizes = dict(vocab_size=128, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    model = transformers.BertModel(transformers.BertConfig(**sizes)).eval()
    with pytest.raises(
        ValueError, match=r"(?s)BertSelfAttention\) is bidirectional attention: a token sees those after it"
    ):
        dsf.convert(model, TOKENS)


def test_bidirectional_attention_with_padding_is_refused_for_the_same_reason():
    transformers = pytest.importorskip("transformers")
    sizes = dict(vocab_size=128, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    model = transformers.BertModel(transformers.BertConfig(**sizes)).eval()
    mask = torch.ones_like(TOKENS)
    mask[0, :5] = 0
    with pytest.raises(ValueError, match=r"\(BertSelfAttention\) is bidirectional attention: a token sees those"):
        dsf.convert(model, dict(input_ids=TOKENS, attention_mask=mask))


def test_packed_documents_are_refused():
    pytest.importorskip("transformers")
    mixer, x = tiny_model("mamba2").backbone.layers[0].mixer, torch.randn(1, 20, 48)
    with pytest.raises(ValueError, match=r"is given packed sequences \(seq_idx\): give one document per row"):
        dsf.convert(mixer, dict(hidden_states=x, seq_idx=torch.zeros(1, 20, dtype=torch.int32)))


# ---------------------------------------------------------------------------------------------------- one's own mixers


@architecture("Fading memory", register=False)
def fading(q=Vector, k=Vector, g=LogDecay):
    return System(A=decay(g) * I, B=k, C=q)


class Fading(nn.Module):
    """A mixer that nobody has written a converter for."""

    def __init__(self, width=12, heads=2):
        super().__init__()
        self.inward, self.gate = nn.Linear(width, 3 * width), nn.Linear(width, heads)
        self.outward, self.heads = nn.Linear(width, width), heads

    def parts(self, x):
        q, k, v = self.inward(x).unflatten(-1, (self.heads, -1)).chunk(3, -1)
        return q, k, v, nn.functional.logsigmoid(self.gate(x))

    def forward(self, x):
        q, k, v, g = self.parts(x)
        state, outputs = 0.0, []
        for t in range(x.shape[1]):
            state = g[:, t].exp()[..., None, None] * state + k[:, t, :, :, None] * v[:, t, :, None]
            outputs.append((q[:, t, :, :, None] * state).sum(-2))
        return self.outward(torch.stack(outputs, 1).flatten(2))


def fading_signals(module, x):
    q, k, v, g = module.parts(x)
    return fading, dict(q=q, k=k, g=g), v, lambda y: module.outward(y.flatten(2))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.rnn, self.attention_like = Fading(), nn.GRU(12, 12, batch_first=True), Unknown()

    def forward(self, x):
        return self.attention_like(self.rnn(self.first(x))[0])


class Unknown(nn.Module):
    def forward(self, x):
        return x.cumsum(1)


class UnknownAttention(Unknown):
    pass


def test_a_mixer_of_ones_own():
    net, x = Net().double(), torch.randn(2, 20, 12).double()
    conversion = dsf.convert(net, x, mixers={Fading: fading_signals})
    assert list(conversion.layers) == ["first", "rnn.layer0"] and max(conversion.errors.values()) < 1e-12
    put_back = conversion.module()
    for a, b in zip(gradients(net, x), gradients(put_back, x), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    assert dsf.parity(conversion.layers["first"]).answer is False
    wrong = {Fading: lambda module, x: (fading, *fading_signals(module, x)[1:2], 2 * fading_signals(module, x)[2])}
    with pytest.raises(ValueError, match="first is not reproduced"):
        dsf.convert(net, x, mixers=wrong)


@pytest.mark.parametrize(
    ("mixers", "error", "message"),
    [
        ([Fading], TypeError, r"mixers maps classes to functions, as in mixers=\{MyMixer: signals_of\}"),
        ({"Fading": fading_signals}, TypeError, "mixers maps classes to functions"),
        ({Fading: 3}, TypeError, "mixers maps classes of modules to functions, got Fading: 3"),
        ({nn.LSTM: fading_signals}, ValueError, "mixers names LSTM, and Net holds none"),
        ({Fading: lambda module: 3}, ValueError, r"mixers=\{Fading: ...\} fails on first \(Fading\): TypeError"),
        ({Fading: lambda module, x: 3}, ValueError, r"should return \(architecture, signals, drive\).*; got int"),
        ({Fading: lambda module, x: (fading, {}, 1)}, ValueError, r"got \(Architecture, dict, int\)"),
        ({Fading: lambda module, x: (fading, dict(q=x, k=x, g=x), x)}, ValueError, r"q should be \[B, T, H, n\]"),
        ({Fading: lambda module, x: fading_signals(module, x)[:3]}, ValueError, "first is not reproduced"),
    ],
)
def test_wrong_mixers_of_ones_own(mixers, error, message):
    with pytest.raises(error, match=message):
        dsf.convert(Net(), torch.randn(2, 20, 12), mixers=mixers)


def gradients(net, x):
    x = x.clone().requires_grad_()
    y = net(x)
    return [y, *torch.autograd.grad(y.square().sum(), [x, *net.parameters()])]


def test_an_unknown_mixer_is_named_and_the_rest_is_converted():
    net, x = Net(), torch.randn(2, 20, 12)
    net.attention_like = UnknownAttention()
    conversion = dsf.convert(net, x)
    assert list(conversion.layers) == ["rnn.layer0"]
    why = conversion.unconverted["attention_like"]
    assert "UnknownAttention" in why and "mixers={Class: function}" in why and "dsf.linearize" in why


# --------------------------------------------------------------------------------------------------- put back, edited


def test_the_model_put_back_shares_its_weights_and_leaves_the_original_alone():
    pytest.importorskip("transformers")
    model = tiny_model("olmo_hybrid")
    conversion = dsf.convert(model, TOKENS)
    put_back = conversion.module()
    assert {id(p) for p in model.parameters()} == {id(p) for p in put_back.parameters()}
    assert not interception._users
    before = FAMILIES["olmo_hybrid"].logits(model, TOKENS)
    changed = conversion.edit("model.layers.0.linear_attn", drive=0.0).module()
    assert not torch.allclose(FAMILIES["olmo_hybrid"].logits(changed, TOKENS), before)
    assert torch.equal(FAMILIES["olmo_hybrid"].logits(model, TOKENS), before)
    assert torch.allclose(FAMILIES["olmo_hybrid"].logits(put_back, TOKENS), before, atol=1e-4)


def test_a_mixer_may_take_a_view_of_what_its_function_returns():
    transformers = pytest.importorskip("transformers")
    sizes = dict(vocab_size=128, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_key_value_heads=2)
    config = transformers.JetMoeConfig(**sizes, kv_channels=16, num_local_experts=4, num_experts_per_tok=2)
    torch.manual_seed(0)
    model = transformers.JetMoeForCausalLM(config).eval()
    with torch.no_grad():
        torch.testing.assert_close(dsf.convert(model, TOKENS).module()(TOKENS).logits, model(TOKENS).logits)


def test_an_edit_changes_its_layer_alone_and_its_verdict():
    pytest.importorskip("transformers")
    conversion = dsf.convert(tiny_model("olmo_hybrid"), TOKENS)
    path = "model.layers.0.linear_attn"
    layer = conversion.layers[path]
    assert layer.architecture.signals["beta"].set == dsf.Interval(0, 2) and layer.signals["beta"].max() > 1
    assert dsf.parity(layer).answer is True
    edited = conversion.edit(path, beta=clamp(0, 1))
    assert edited.layers[path].signals["beta"].max() <= 1
    assert dsf.parity(edited.layers[path]).answer is False
    assert dsf.parity(edited.layers["model.layers.2.linear_attn"]).answer is True
    muted = conversion.edit(path, drive=mute(0))
    y, _ = dsf.simulate(muted.layers[path].system, muted.layers[path].drive)
    assert not y[:, :, 0].any() and y[:, :, 1].any()
    with pytest.raises(KeyError, match="no layer is called 'nowhere'; the layers are model.layers.0.linear_attn"):
        conversion.edit("nowhere", beta=0.5)
    with pytest.raises(ValueError, match="gated_deltanet has the signals q, k, beta, g, drive, not 'dt'"):
        conversion.edit(path, dt=0.5)
    with pytest.raises(ValueError, match=r"the edit of beta should keep its shape .* got float"):
        conversion.edit(path, beta=lambda beta: 0.5)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_attention_of_a_model_put_back_reads_no_mask_of_all_pairs(name, monkeypatch):
    """Torch's attention is taken over where a model calls it: causal without a mask; padding brings its own."""
    model = tiny_model(name)
    model.set_attn_implementation("sdpa")
    tokens = example_tokens(2, 20)
    module = dsf.convert(model, tokens).module()
    seen = []
    read, core, calls = attention_masks._read, softmax_attention.attention_core, []
    monkeypatch.setattr(attention_masks, "_read", lambda mask, *rest: seen.append(mask) or read(mask, *rest))
    monkeypatch.setattr(softmax_attention, "attention_core", lambda *a: calls.append(1) or core(*a))
    with torch.no_grad():
        assert relative(module(tokens).logits, model(tokens).logits) < 1e-5 and calls and not seen
        padding = torch.ones_like(tokens)
        padding[0, :3] = 0
        found, expected = (m(tokens, attention_mask=padding).logits for m in (module, model))
        assert relative(found[padding.bool()], expected[padding.bool()]) < 1e-5 and seen
