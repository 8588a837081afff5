"""A text in chunks is the text in one run; a model whose cache does not carry over is refused, with a sentence."""

import pytest
import torch
from torch import nn

import dsf
from dsf.checkpoints import ByteModel
from dsf.streaming import CannotStream, Diverged, check_streaming, known_positions, stream
from helpers import relative
from tiny_models import FAMILIES, example_tokens, tiny_model

TOKENS = example_tokens(1, 121)


def built(name):
    if FAMILIES[name].module:
        pytest.importorskip(FAMILIES[name].module)
    return tiny_model(name)


def streamed(module, chunk, tokens=TOKENS):
    parts = list(stream(module, tokens, chunk))
    logits, targets = (torch.cat(x, 1) for x in zip(*parts, strict=True))
    assert torch.equal(targets, tokens[:, 1:]) and not logits.requires_grad
    return logits, len(parts)


def whole(name, tokens=TOKENS):
    return FAMILIES[name].logits(tiny_model(name), tokens)[:, :-1]


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("by_dsf", [False, True])
def test_byte_models(cell, by_dsf):
    torch.manual_seed(0)
    model = ByteModel(cell, width=6, hidden=9, layers=2).eval()
    with torch.no_grad():
        expected = model(TOKENS)[:, :-1]
    module = dsf.convert(model, TOKENS[:, :30]).module() if by_dsf else model
    for chunk, count in ((1, 120), (50, 3), (120, 1), (500, 1)):
        logits, parts = streamed(module, chunk)
        assert parts == count and relative(logits, expected) < 1e-5


# Of each way to carry: past_key_values, with windows and without; cache_params; a state; a cache as a keyword.
STREAMS = "gpt2 gemma3 mistral bloom olmo_hybrid mamba2 xlstm rwkv granitemoehybrid nemotron_h".split()


@pytest.mark.parametrize("name", STREAMS)
def test_transformers_in_chunks(name):
    assert relative(streamed(built(name), 40)[0], whole(name)) < 2e-5


@pytest.mark.parametrize("name", ["gemma3", "olmo_hybrid", "mamba2", "mamba", "jamba", "minimax"])
def test_run_by_dsf_in_chunks(name):
    """Mamba-1 among them, whose state transformers itself sets to zero at every chunk, and MiniMax (trap 6)."""
    module = dsf.convert(built(name), TOKENS[:, :50]).module()
    assert relative(streamed(module, 40)[0], whole(name)) < 2e-5


@pytest.mark.parametrize("name", ["mamba", "jamba", "minimax", "recurrent_gemma"])
def test_a_cache_that_does_not_continue_is_refused_and_runs_whole(name):
    module = built(name)
    with pytest.raises(CannotStream, match="cannot be continued: .* a chunk of 120 or more runs the text whole"):
        stream(module, TOKENS, 40)
    assert relative(streamed(module, 120)[0], whole(name)) < 1e-5
    assert relative(streamed(module, 1)[0], whole(name)) < 1e-4  # one token at a time they are right


@pytest.mark.parametrize("name", ["mamba", "falcon_mamba"])
def test_half_precision_is_known_by_the_weights(name):
    """The logits of these are cast to float32, and are not more exact for that."""
    module = dsf.convert(built(name).bfloat16(), TOKENS[:, :50]).module()
    with torch.no_grad():
        expected = module(TOKENS[:, :120]).logits
    logits, _ = streamed(module, 40)
    assert logits.dtype == torch.float32 and relative(logits, expected) < 5e-2


def test_a_failure_in_the_second_chunk_says_so():
    def fail(module, args, given):
        if given["position_ids"][0, 0] == 40:
            raise RuntimeError("of whatever kind")

    module = built("llama")
    module.register_forward_pre_hook(fail, with_kwargs=True)
    with pytest.raises(CannotStream, match="fails on tokens 40..79: .* of whatever kind; a chunk of 120 or more"):
        stream(module, TOKENS, 40)


def test_states_kept_in_modules_are_forgotten_before_a_text():
    module = built("recurrent_gemma")
    first = streamed(module, 1)[0]
    assert torch.equal(streamed(module, 1)[0], first)


def test_a_window_is_left_behind_in_the_comparison():
    """A cache that is wrong only once the window is full: seen by chunks that reach beyond it."""
    module = built("mistral")  # a window of 24
    seen = []
    module.register_forward_pre_hook(lambda m, a, kw: seen.append(kw.get("input_ids", *a).shape[1]), with_kwargs=True)
    check_streaming(module, TOKENS, 10)
    assert seen == [1, 34, 10, 10, 10, 4]


def test_models_without_a_cache():
    module = built("torch_encoder")
    with pytest.raises(CannotStream, match="takes no cache .* a chunk of 120 or more runs the text whole"):
        stream(module, TOKENS, 40)
    assert relative(streamed(module, 120)[0], whole("torch_encoder")) < 1e-6
    with pytest.raises(CannotStream, match="has an encoder"):
        stream(built("t5"), TOKENS, 500)


def test_learned_positions_end():
    module = built("gpt2")
    assert known_positions(module) == 128
    assert streamed(module, 60, example_tokens(1, 129))[0].shape[1] == 128
    with pytest.raises(CannotStream, match="has learned 128 positions, and is to read 129 tokens"):
        stream(module, example_tokens(1, 130), 60)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_token_that_the_vocabulary_has_not_is_no_position(name):
    tokens = TOKENS.clone()
    tokens[0, 0] = 500
    with pytest.raises(ValueError, match=r"token ids should be in 0\.\.127, the vocabulary of .*; got .*\.\.500"):
        stream(built(name), tokens, 40)


def test_only_what_fails_at_the_last_position_alone_is_one_of_positions():
    def fail(module, args, given):
        raise IndexError("of whatever kind")

    module = built("llama")
    module.register_forward_pre_hook(fail, with_kwargs=True)
    with pytest.raises(CannotStream, match="fails on tokens 0..79: IndexError: of whatever kind"):
        stream(module, TOKENS, 40)


@pytest.mark.parametrize("chunk", [40, 500])
def test_logits_that_are_not_numbers_are_refused(chunk):
    module = ByteModel("GRU", width=4, hidden=4)
    nn.init.constant_(module.readout.bias, float("nan"))
    with pytest.raises(Diverged, match=r"ByteModel diverged: its logits in tokens 0\.\.\d+ are NaN or infinite"):
        list(stream(module, TOKENS, chunk))


def test_wrong_arguments():
    module = ByteModel("GRU", width=4, hidden=4)
    with pytest.raises(ValueError, match="two tokens or more"):
        stream(module, TOKENS[:, :1], 4)
    with pytest.raises(ValueError, match="at least one token"):
        stream(module, TOKENS, 0)
