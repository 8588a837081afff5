"""What goes wrong when recurrences are taken out of transformers' models by hand; each trap, with what dsf does."""

import importlib.util

import pytest
import torch
from torch import nn

import dsf
from dsf.streaming import cache_keyword
from tiny_models import FAMILIES, VOCABULARY, example_tokens, tiny_model

transformers = pytest.importorskip("transformers")
SAME = 1e-4


def converted(name, **options):
    model = tiny_model(name)
    return model, dsf.convert(model, FAMILIES[name].inputs(example_tokens()), **options)


def close(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


def continued(model, tokens, sizes, name):
    """Logits of a text in pieces, with the model's own cache carried on."""
    name_of_cache, outputs, cache, start = cache_keyword(model), [], None, 0
    with torch.no_grad():
        for size in sizes:
            given = {} if cache is None else {name_of_cache: cache}
            out = model(input_ids=tokens[:, start : start + size], use_cache=True, **given)
            cache, start = getattr(out, name_of_cache), start + size
            outputs.append(out.logits)
    return torch.cat(outputs, 1)


def test_1_packages_that_replace_the_functions_are_not_installed():
    """fla without a GPU breaks every delta-rule model on a CPU, xlstm without its kernels breaks xLSTM."""
    for package in ("fla", "mamba_ssm", "causal_conv1d", "xlstm", "mlstm_kernels"):
        assert importlib.util.find_spec(package) is None, f"{package} replaces functions that dsf compares itself with"


@pytest.mark.parametrize("name", ["llama", "olmo_hybrid"])
def test_2_attention_keeps_its_mask_while_it_is_recorded(name):
    """An attention function of one's own without a mask function sees the future; recording takes the model's own."""
    model = tiny_model(name)
    before = model.config._attn_implementation
    family, tokens = FAMILIES[name], example_tokens()
    expected = family.logits(model, tokens)
    seen = []
    handle = model.register_forward_hook(lambda m, args, out: seen.append(out.logits))
    dsf.convert(model, tokens)
    handle.remove()
    assert close(seen[0], expected) < 1e-5
    assert model.config._attn_implementation == before


@pytest.mark.parametrize("name", ["mamba", "mamba2", "olmo_hybrid"])
def test_3_in_float64_the_functions_still_compute_in_float32(name):
    model = tiny_model(name).double()
    conversion = dsf.convert(model, example_tokens())
    assert 1e-16 < max(conversion.errors.values()) < 1e-5
    put_back = conversion.module()
    assert (
        close(FAMILIES[name].logits(put_back, example_tokens()), FAMILIES[name].logits(model, example_tokens())) < SAME
    )


@pytest.mark.parametrize("name", ["nemotron_h", "zamba2"])
def test_4_the_time_step_is_clamped_in_decoding_too(name):
    """transformers clamps dt in its chunk function and not for one token; a token of dsf is a token of a chunk."""
    model = tiny_model(name)
    for part in model.modules():
        if hasattr(part, "time_step_limit"):
            part.time_step_limit = (0.5, float("inf"))  # far above what the model takes: the clamp acts everywhere
    tokens = example_tokens(length=24)
    put_back = dsf.convert(model, tokens).module()
    whole, pieces = FAMILIES[name].logits(model, tokens), [20, 1, 1, 1, 1]
    assert close(continued(model, tokens, pieces, name), whole) > 1e-3
    assert close(continued(put_back, tokens, pieces, name), whole) < SAME


@pytest.mark.parametrize("name", ["mamba", "falcon_mamba", "jamba", "zamba"])
def test_5_a_chunk_continues_the_state_of_the_one_before(name):
    """transformers' selective scan starts every chunk of several tokens at zero."""
    model, conversion = converted(name)
    tokens = example_tokens()
    whole = FAMILIES[name].logits(model, tokens)
    assert close(continued(model, tokens, [40, 30], name), whole) > 1e-2
    assert close(continued(conversion.module(), tokens, [40, 30], name), whole) < SAME
    assert close(continued(conversion.module(), tokens, [1, 40, 1, 28], name), whole) < SAME


def test_6_positions_are_given_where_a_model_takes_them():
    """Decoded by hand without position_ids, Bamba's attention takes every chunk for the beginning of the text."""
    from dsf.streaming import stream

    model, conversion = converted("bamba")
    tokens = example_tokens(1)
    whole = FAMILIES["bamba"].logits(model, tokens)
    assert close(continued(model, tokens, [40, 30], "bamba"), whole) > 1e-2
    for module in (model, conversion.module()):
        found = torch.cat([logits for logits, _ in stream(module, tokens, 30)], 1)
        assert close(found, whole[:, :-1]) < SAME


def test_7_a_stack_of_linear_layers_alone_converts():
    """With use_cache=True such a stack raises when it is asked for the length of its cache."""
    config = transformers.Qwen3NextConfig(
        **dict(vocab_size=VOCABULARY, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_experts=0),
        **dict(layer_types=["linear_attention"] * 2, linear_num_key_heads=2, linear_num_value_heads=2),
        **dict(linear_key_head_dim=8, linear_value_head_dim=8, num_attention_heads=2, num_key_value_heads=2),
    )
    torch.manual_seed(0)
    model = transformers.Qwen3NextForCausalLM(config).eval()
    conversion = dsf.convert(model, example_tokens())
    assert [layer.architecture.name for layer in conversion.layers.values()] == ["gated_deltanet"] * 2
    assert model.config.use_cache


def test_8_an_xlstm_of_any_width_converts():
    """Its cache has a wrong shape where hidden_size * qk_dim_factor is no multiple of 64; converting takes none."""
    config = transformers.xLSTMConfig(
        **dict(vocab_size=VOCABULARY, hidden_size=64, num_heads=2, num_hidden_layers=2, qk_dim_factor=0.5),
        **dict(mode="inference", chunk_size=16),
    )
    torch.manual_seed(0)
    model = transformers.xLSTMForCausalLM(config).eval()
    assert len(dsf.convert(model, example_tokens()).layers) == 2


def test_9_the_fast_path_of_the_encoder_layer_is_not_taken():
    """In eval mode it computes attention without calling self_attn, so that no hook fires."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0).eval()
    x, mask = torch.randn(2, 12, 16), nn.Transformer.generate_square_subsequent_mask(12)
    inputs = dict(src=x, src_mask=mask, is_causal=True)
    conversion = dsf.convert(layer, inputs)
    assert list(conversion.layers) == ["self_attn"]
    with torch.no_grad():
        put_back = conversion.edit("self_attn", drive=0.0).module()
        assert close(conversion.module()(**inputs), layer(**inputs)) < 1e-6
        assert close(put_back(**inputs), layer(**inputs)) > 1e-2  # it is really dsf that runs
    stack = nn.TransformerEncoder(layer, 2).eval()
    inputs = dict(src=x, mask=mask, is_causal=True)
    conversion = dsf.convert(stack, inputs)
    assert list(conversion.layers) == ["layers.0.self_attn", "layers.1.self_attn"]
    with torch.no_grad():
        put_back = conversion.edit("layers.1.self_attn", drive=0.0).module()
        assert close(conversion.module()(**inputs), stack(**inputs)) < 1e-6
        assert close(put_back(**inputs), stack(**inputs)) > 1e-2


def test_10_the_models_of_the_tests_remember():
    """Initialised as transformers does, a gated delta rule forgets at once, and no test of its state means anything."""
    for name in ("olmo_hybrid", "qwen3_next"):
        for path, layer in converted(name)[1].layers.items():
            if "g" in layer.signals:
                assert layer.signals["g"].exp().quantile(0.75) > 0.9, path


@pytest.mark.parametrize("wrong", ["A_log", "held"])
def test_11_A_is_minus_the_exponential_of_A_log_and_B_is_eulers(wrong):
    from test_families import misread

    for layer in converted("mamba")[1].layers.values():
        signals, arch = layer.signals, layer.architecture

        def change(core, arch=arch, signals=signals):
            from dataclasses import replace

            if wrong == "A_log":
                return replace(core, signals={**core.signals, "log_a": signals["log_a"].exp()})
            hold = -torch.expm1(-signals["dt"][..., None] * signals["log_a"].exp()) / signals["log_a"].exp()
            share = (hold / signals["dt"][..., None]).mean(-1, keepdim=True)  # what a zero-order hold would write
            return replace(core, drive=core.drive * share)

        assert misread(layer, change) > 1e-3


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.module])
def test_12_no_transition_is_complex(name):
    for path, layer in converted(name)[1].layers.items():
        assert not any(s.is_complex() for s in layer.signals.values()), path
