"""Every family of transformers that dsf knows, as a whole tiny model: converted, put back, and caught when misread."""

import inspect
from dataclasses import replace

import pytest
import torch

import dsf
from dsf.streaming import cache_keyword
from tiny_models import FAMILIES, example_tokens, tiny_model

REPRODUCED = 1e-5  # of a layer's own tensors, relative to their largest entry, in fp32
SAME_LOGITS = 1e-4
SAME_GRADIENTS = 2e-3  # relative to the largest entry of each gradient, in fp32, through the whole model
SEEN = 1e-3  # what a control must change
NO_RECURRENCE = {
    "bidirectional_attention": "bidirectional",
    "cross_attention": "cross-attention|bidirectional",
    "indexed_attention": "neither a window nor padding",
}
TITLES = {
    "mamba": "Mamba",
    "mamba2": "Mamba-2",
    "gated_deltanet": "Gated DeltaNet",
    "kda": "Kimi Delta Attention",
    "rglru": "RG-LRU",
    "rwkv4": "RWKV-4",
    "mlstm": "mLSTM",
    "lightning": "RetNet",
    "short_conv": "Short convolution",
    "softmax_attention": "Softmax attention",
    "differential_attention": "Softmax attention",
}
NAMES = [pytest.param(name, id=name) for name in FAMILIES]


def convert(name, model=None, **options):
    family = FAMILIES[name]
    if family.module:
        pytest.importorskip(family.module)
    model = tiny_model(name) if model is None else model
    return model, dsf.convert(model, family.inputs(example_tokens()), **options)


def close(found, expected):
    """max |found - expected| / max |expected|."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_is_found_and_reproduced(name):
    model, conversion = convert(name)
    assert max(conversion.errors.values()) < REPRODUCED
    assert max(conversion.verify().values()) < REPRODUCED
    for path, kind in FAMILIES[name].mixers:
        if kind in NO_RECURRENCE:
            assert any(path.startswith(p) or p.startswith(path) for p in conversion.unconverted), path
            continue
        found = [layer for p, layer in conversion.layers.items() if p.startswith(first_path(model, path))]
        assert found, f"{path} was not converted: {conversion}"
        assert {layer.architecture.title.partition(",")[0] for layer in found} == {TITLES[kind]}
    allowed = [path for path, kind in FAMILIES[name].mixers if kind in NO_RECURRENCE]
    for path in conversion.unconverted:
        assert any(path.startswith(a) or a.startswith(path) for a in allowed), conversion


def first_path(model, path):
    """The first path of a module that several paths share."""
    part = model.get_submodule(path)
    return next(p for p, m in model.named_modules() if m is part)


@pytest.mark.parametrize("name", NAMES)
def test_put_back_the_model_has_the_same_logits_gradients_and_tokens(name):
    family = FAMILIES[name]
    model, conversion = convert(name)
    put_back, tokens = conversion.module(), example_tokens()
    assert isinstance(put_back, type(model))
    assert close(family.logits(put_back, tokens), family.logits(model, tokens)) < SAME_LOGITS
    gradients = [gradients_of(m, family.inputs(tokens[:, :24])) for m in (model, put_back)]
    assert gradients[0].keys() == gradients[1].keys()
    largest = max(g.abs().max() for g in gradients[0].values())
    for path, expected in gradients[0].items():
        error = (gradients[1][path] - expected).abs().max()
        assert error <= SAME_GRADIENTS * expected.abs().max() + 1e-6 * largest, path
    if hasattr(model, "generate"):
        few = tokens[: family.rows or 2, :20]
        assert torch.equal(family.generate(put_back, few), family.generate(model, few))


# Their own code forgets where it was: MiniMax's cache says that it is empty, RecurrentGemma's convolution starts anew.
FORGETFUL = ("minimax", "recurrent_gemma")


@pytest.mark.parametrize(
    "name", [n for n, f in FAMILIES.items() if f.cached and f.module and n not in (*FORGETFUL, "t5")]
)
def test_chunk_by_chunk_the_state_or_cache_is_carried(name):
    family = FAMILIES[name]
    model, conversion = convert(name)
    put_back, tokens = conversion.module(), example_tokens()[: family.rows or 2]
    whole = family.logits(put_back, tokens)
    pieces, cache, start = [], None, 0
    for size in (33, 1, 36):
        given = {} if cache is None else {cache_keyword(model): cache}
        if "position_ids" in inspect.signature(model.forward).parameters:
            given["position_ids"] = torch.arange(start, start + size)[None].expand(len(tokens), -1)
        with torch.no_grad():
            output = put_back(input_ids=tokens[:, start : start + size], use_cache=True, **given)
        cache, start = getattr(output, cache_keyword(model)), start + size
        pieces.append(output.logits)
    assert close(torch.cat(pieces, 1), whole) < SAME_LOGITS


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["mamba", "mamba2", "olmo_hybrid", "llama", "gpt_oss"])
def test_half_precision(name, dtype):
    family = FAMILIES[name]
    model, conversion = convert(name, tiny_model(name).to(dtype))
    assert max(conversion.errors.values()) < 2e-2
    assert next(iter(conversion.layers.values())).dtype == dtype
    assert close(family.logits(conversion.module(), example_tokens()), family.logits(model, example_tokens())) < 0.1


def gradients_of(model, inputs):
    for p in model.parameters():
        p.grad = None
    output = model(**inputs, use_cache=False) if hasattr(model, "config") else model(**inputs)
    logits = output if isinstance(output, torch.Tensor) else output.logits
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    (logits * weights).sum().backward()
    return {path: p.grad.clone() for path, p in model.named_parameters() if p.grad is not None}


# -------------------------------------------------------------------------------------------------- failing controls


def misread(layer, change):
    """The error of the layer after a change of its core."""

    def steps(call):
        right = layer.steps(call)
        result = yield change(next(right))
        try:
            right.send(result)
        except StopIteration as done:
            return done.value

    wrong = replace(layer, steps=steps)
    return wrong.verify()


@pytest.mark.parametrize("name", NAMES)
def test_a_dropped_term_is_seen(name):
    _, conversion = convert(name)
    for path, layer in conversion.layers.items():
        for signal in layer.signals:
            if signal == "log_gamma" and layer.signals[signal].abs().max() < 1e-4:
                continue  # the last lightning layer has next to no decay
            error = misread(
                layer, lambda core, s=signal: replace(core, signals={**core.signals, s: 0 * core.signals[s]})
            )
            assert error > SEEN or error != error, (path, signal)
        assert misread(layer, lambda core: replace(core, drive=0 * core.drive)) > SEEN, path


@pytest.mark.parametrize("name", [n for n, f in FAMILIES.items() if f.remembers])
def test_a_zeroed_state_is_seen(name):
    _, conversion = convert(name)
    recurrent = {path: layer for path, layer in conversion.layers.items() if "attention" not in layer.architecture.name}
    assert recurrent
    for path, layer in recurrent.items():
        if layer.architecture.name != "short_convolution":
            assert layer.verify(reset_every=10) > SEEN, path
