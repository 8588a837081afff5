"""Padding and batches of unequal lengths: a padded row gives what the row alone gives, or the model is refused."""

import inspect

import pytest
import torch

import dsf
from dsf.attention_masks import sight
from tiny_models import FAMILIES, example_tokens, tiny_model

SAME = 2e-4
LENGTHS = (40, 23, 31)
READS_PADDING = ("rwkv", "xlstm", "recurrent_gemma")  # in transformers itself
NAMES = [name for name, f in FAMILIES.items() if f.module and name != "t5" and name not in READS_PADDING]


def padded(side, filling=3):
    """Rows of unequal lengths in one batch, with their mask and positions."""
    tokens, mask = (
        example_tokens(len(LENGTHS), max(LENGTHS)),
        torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.int64),
    )
    for row, length in enumerate(LENGTHS):
        mask[row, -length:] = 1
    mask = mask if side == "left" else mask.flip(1)
    return torch.where(mask.bool(), tokens, filling), mask, (mask.cumsum(1) - 1).clamp(min=0)


def inputs_of(name, model, side):
    tokens, mask, positions = padded(side)
    given = dict(input_ids=tokens, attention_mask=mask)
    names = inspect.signature(model.forward).parameters
    return given | (dict(position_ids=positions) if "position_ids" in names else {})


def close(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("name", NAMES)
def test_left_padding(name):
    pytest.importorskip(FAMILIES[name].module)
    model = tiny_model(name)
    inputs = inputs_of(name, model, "left")
    conversion = dsf.convert(model, inputs)
    assert max(conversion.errors.values()) < 1e-5
    put_back, real = conversion.module(), inputs["attention_mask"].bool()
    with torch.no_grad():
        whole, own = put_back(**inputs).logits, model(**inputs).logits
        assert close(whole[real], own[real]) < SAME
        for row, length in enumerate(LENGTHS):
            alone = put_back(input_ids=inputs["input_ids"][row : row + 1, -length:]).logits[0]
            assert close(whole[row, -length:], alone) < SAME


@pytest.mark.parametrize("name", ["mamba2", "olmo_hybrid", "llama", "gpt_oss", "mistral", "minimax"])
def test_right_padding(name):
    """What follows a text does not change it."""
    pytest.importorskip(FAMILIES[name].module)
    model = tiny_model(name)
    inputs = inputs_of(name, model, "right")
    conversion = dsf.convert(model, inputs)
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        assert close(conversion.module()(**inputs).logits[real], model(**inputs).logits[real]) < SAME


@pytest.mark.parametrize("name", READS_PADDING)
def test_a_model_that_reads_its_padding_is_refused(name):
    pytest.importorskip(FAMILIES[name].module)
    model = tiny_model(name)
    with pytest.raises(
        ValueError, match="reads the tokens that attention_mask marks as padding: give rows of one length"
    ):
        dsf.convert(model, inputs_of(name, model, "left"))


@pytest.mark.parametrize("name", ["minimax", "olmo_hybrid", "mamba2", "bamba", "jamba", "llama"])
@pytest.mark.parametrize("cached", [True, False])
def test_padded_rows_are_continued_as_they_are_alone(name, cached):
    """Cached, transformers' own MiniMax attends to other tokens than its mask says: its cache miscounts them."""
    pytest.importorskip(FAMILIES[name].module)
    model, (tokens, mask, _) = tiny_model(name), padded("left")
    put_back = dsf.convert(model, example_tokens()).module()
    given = dict(max_new_tokens=8, do_sample=False, pad_token_id=0, eos_token_id=None, output_logits=True)
    given |= dict(return_dict_in_generate=True)
    found = put_back.generate(tokens, attention_mask=mask, use_cache=cached, **given)
    for row, length in enumerate(LENGTHS):
        alone = model.generate(tokens[row : row + 1, -length:], use_cache=False, **given)
        assert close(torch.stack(found.logits)[:, row], torch.stack(alone.logits)[:, 0]) < SAME


def test_bad_masks():
    pytest.importorskip("transformers")
    model, (tokens, mask, _) = tiny_model("mamba2"), padded("left")
    with pytest.raises(
        ValueError, match=r"attention_mask should be \[B, T\] = \(3, 40\), as the tokens, got \(3, 39\)"
    ):
        dsf.convert(model, dict(input_ids=tokens, attention_mask=mask[:, 1:]))
    with pytest.raises(ValueError, match="a row of attention_mask has no token at all"):
        dsf.convert(model, dict(input_ids=tokens, attention_mask=0 * mask))


def test_13_on_padding_the_input_is_zero_and_the_transition_is_not_one():
    """The state stays zero until the first token because nothing is written, not because it is kept."""
    pytest.importorskip("transformers")
    model = tiny_model("mamba2")
    layer = next(iter(dsf.convert(model, inputs_of("mamba2", model, "left")).layers.values()))
    padding = slice(0, max(LENGTHS) - LENGTHS[1])
    assert not layer.drive[1, padding].any()
    assert (layer.signals["dt"][1, padding] > 0).all()
    state = dsf.simulate(layer.system.slice(0, 17), layer.drive[:, :17])[1]
    assert not state[1].any() and state[0].any()


def test_a_mask_that_was_changed_in_place_is_read_again():
    mask = torch.ones(6, 6, dtype=torch.bool).tril()
    assert sight(mask, 6, 6, "it").window is None
    assert sight(mask, 6, 6, "it") is sight(mask, 6, 6, "it")
    mask &= torch.ones(6, 6, dtype=torch.bool).triu(-1)
    assert sight(mask, 6, 6, "it").window == 2
    with torch.inference_mode():
        mask = torch.ones(6, 6, dtype=torch.bool).tril()
        sight(mask, 6, 6, "it")
        mask &= torch.ones(6, 6, dtype=torch.bool).triu(-1)
        assert sight(mask, 6, 6, "it").window == 2
