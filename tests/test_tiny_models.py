"""The tiny models do what the tests of the converter need: they run, remember, attend unevenly and use every mixer."""

import importlib
from functools import cache

import pytest
import torch

from helpers import relative
from tiny_models import FAMILIES, RECURRENT, VOCABULARY, example_tokens, tiny_model

ALL = list(FAMILIES)
LENGTH = 70


@cache
def built(name):
    """Model, tokens and logits of a family, computed once."""
    if FAMILIES[name].module:
        pytest.importorskip(FAMILIES[name].module)
    model = tiny_model(name)
    return model, example_tokens(), FAMILIES[name].logits(model, example_tokens())


def silenced(module):
    """Let a module put out zeros; returns the handle that ends it."""

    def zero(module, inputs, output):
        return (torch.zeros_like(output[0]), *output[1:]) if isinstance(output, tuple) else torch.zeros_like(output)

    return module.register_forward_hook(zero)


def logits_without(name, paths, tokens):
    """Logits when the mixers at these paths put out zeros."""
    model = built(name)[0]
    handles = [silenced(module) for module in {model.get_submodule(path) for path in paths}]
    try:
        return FAMILIES[name].logits(model, tokens)
    finally:
        for handle in handles:
            handle.remove()


def with_other_token(tokens, at):
    tokens = tokens.clone()
    tokens[:, at] = (tokens[:, at] + 33) % (VOCABULARY - 4) + 4
    return tokens


@pytest.mark.parametrize("name", ALL)
def test_runs(name):
    model, tokens, logits = built(name)
    assert logits.shape == (2, LENGTH, VOCABULARY) and logits.isfinite().all()
    assert 0.3 < logits.std() < 3
    assert all(p.dtype == torch.float32 for p in model.parameters()) and not model.training
    first, second = logits.topk(2).values.unbind(-1)
    assert (first - second).min() > 1e-4  # a hundred times the rounding: greedy choices are the same everywhere


@pytest.mark.parametrize("name", ALL)
def test_same_seed_same_model(name):
    _, tokens, logits = built(name)
    torch.manual_seed(5)  # which it does not depend on
    assert relative(FAMILIES[name].logits(tiny_model(name), tokens), logits) < 1e-6
    assert relative(FAMILIES[name].logits(tiny_model(name, seed=1), tokens), logits) > 0.1


@pytest.mark.parametrize("name", ALL)
def test_causal(name):
    model, tokens, logits = built(name)
    changed = FAMILIES[name].logits(model, with_other_token(tokens, 40))
    assert relative(changed[:, :40], logits[:, :40]) < 1e-5
    assert relative(FAMILIES[name].logits(model, tokens[:, :40]), logits[:, :40]) < 1e-5
    assert relative(changed[:, 40:], logits[:, 40:]) > 1e-2


@pytest.mark.parametrize("name", ALL)
def test_one_token(name):
    model, tokens, logits = built(name)
    one = tokens[: FAMILIES[name].rows, :1]
    assert relative(FAMILIES[name].logits(model, one), logits[: len(one), :1]) < 1e-5


@pytest.mark.parametrize("name", ALL)
def test_mixers_are_there_and_matter(name):
    model, tokens, logits = built(name)
    paths = [path for path, _ in FAMILIES[name].mixers]
    assert len(set(paths)) == len(paths)
    known = {id(model.get_submodule(path)) for path in paths}
    for path, module in model.named_modules():
        if hasattr(module, "A_log") and "ForgetGate" not in type(module).__name__ or hasattr(module, "is_causal"):
            assert id(module) in known, f"{path} is not listed"
    for path in paths:
        assert relative(logits_without(name, [path], tokens), logits) > 0.02, path


@pytest.mark.parametrize("name", [name for name in ALL if FAMILIES[name].remembers])
def test_each_recurrent_mixer_remembers(name):
    """With all mixers but one silent, token 2 still changes what follows 38 steps later."""
    _, tokens, _ = built(name)
    mixers = FAMILIES[name].mixers
    for path, kind in mixers:
        if kind in RECURRENT:
            others = [other for other, _ in mixers if other != path]
            before, after = (logits_without(name, others, t) for t in (tokens, with_other_token(tokens, 2)))
            for row in range(2):
                assert relative(after[row, 40:], before[row, 40:]) > 1e-3, (path, row)


@pytest.mark.parametrize("name", [name for name in ALL if FAMILIES[name].cached])
def test_generates_with_and_without_cache(name):
    model, tokens, _ = built(name)
    prompt = tokens[: FAMILIES[name].rows, :20]
    cached = FAMILIES[name].generate(model, prompt)
    assert cached.shape == (len(prompt), 8)
    assert torch.equal(cached, FAMILIES[name].generate(model, prompt, use_cache=False))
    assert len(set(cached.flatten().tolist())) > 4  # does not repeat itself


def attention_weights(name):
    """Path -> weights (batch, heads, T, S) of the softmax mixers, taken from what the modules put out."""
    model, tokens, _ = built(name)
    seen, handles = {}, []
    for path, kind in FAMILIES[name].mixers:
        if kind in ("softmax_attention", "differential_attention"):

            def look(module, inputs, output, path=path):
                found = [x for x in output if isinstance(x, torch.Tensor) and x.shape[-2:] == (LENGTH, LENGTH)]
                seen.update({path: found[-1]} if found else {})  # T5 puts out its bias before

            handles.append(model.get_submodule(path).register_forward_hook(look))
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    FAMILIES[name].logits(model, tokens, output_attentions=True)
    model.set_attn_implementation(before)
    for handle in handles:
        handle.remove()
    return seen


SOFTMAX = [n for n in ALL if any("softmax" in k or "diff" in k for _, k in FAMILIES[n].mixers) and "torch" not in n]


@pytest.mark.parametrize("name", SOFTMAX)
def test_attention_is_uneven(name):
    weights = attention_weights(name)
    assert len(weights) == sum(k in ("softmax_attention", "differential_attention") for _, k in FAMILIES[name].mixers)
    for path, w in weights.items():
        last = w[:, :, -1].sort(descending=True).values  # of the last token, over all keys
        assert (last[..., 0] / last[..., 11]).median() > 3, path  # the largest, and the twelfth largest of 24 or 70


@pytest.mark.parametrize("name", ["mistral", "gemma3", "gemma2", "gpt_oss", "recurrent_gemma"])
def test_windows_are_shorter_than_the_example(name):
    widths = [int((w[0, 0, -1] > 0).sum()) for w in attention_weights(name).values()]
    assert 24 in widths and set(widths) <= {24, LENGTH}


def test_sinks_take_a_share():
    for w in attention_weights("gpt_oss").values():
        assert (w.sum(-1) < 0.99).float().mean() > 0.3


def test_some_eigenvalues_are_negative(monkeypatch):
    model, tokens, _ = built("olmo_hybrid")
    modeling = importlib.import_module("transformers.models.olmo_hybrid.modeling_olmo_hybrid")
    rule, betas = modeling.torch_chunk_gated_delta_rule, []

    def tapped(*args, **more):
        betas.append(more["beta"])
        return rule(*args, **more)

    monkeypatch.setattr(modeling, "torch_chunk_gated_delta_rule", tapped)
    FAMILIES["olmo_hybrid"].logits(model, tokens)
    assert len(betas) == 2
    assert all(beta.max() > 1.5 and beta.min() < 0.5 for beta in betas)


@pytest.mark.parametrize("name, attention", [("zamba", "shared_transf"), ("zamba2", "shared_transformer")])
def test_attention_shares_its_parameters(name, attention):
    first, second = (getattr(layer, attention).self_attn for layer in built(name)[0].model.layers[1:])
    assert first is not second and first.q_proj.weight is second.q_proj.weight
