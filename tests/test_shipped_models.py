"""The shipped models of transformers: small, safe to open, better than a bigram, and with the memory their cards claim.

The measurements here are made from weights and hooks alone; nothing of dsf is used but the reader of bytes.
"""

import json
import math
import re
import sysconfig
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy, softplus

from dsf.checkpoints import bytes_of

transformers = pytest.importorskip("transformers")
safetensors_torch = pytest.importorskip("safetensors.torch")

MODELS = Path(__file__).parent.parent / "examples" / "models"
CLASSES = {
    "byte_mamba2": "Mamba2ForCausalLM",
    "byte_olmo_hybrid": "OlmoHybridForCausalLM",
    "byte_gpt2": "GPT2LMHeadModel",
}
RECURRENT = ("byte_mamba2", "byte_olmo_hybrid")
names = pytest.mark.parametrize("name", CLASSES)


@pytest.fixture(scope="module")
def models():
    return {name: transformers.AutoModelForCausalLM.from_pretrained(MODELS / name).eval() for name in CLASSES}


@pytest.fixture(scope="module")
def library():
    """Counts of byte pairs in some of the files that the models were trained on; and a text that they never saw."""
    folder = Path(sysconfig.get_path("stdlib"))
    if not (folder / "json" / "decoder.py").is_file():
        pytest.skip("this Python comes without its library's source")
    # None of these is held out by the training script, and json is a package, so that it is in neither part.
    counted = torch.cat([bytes_of(folder / f"{name}.py")[0] for name in ("argparse", "inspect", "typing", "ast")])
    return counted, bytes_of(folder / "json" / "decoder.py")[:, :2049]


def card(name):
    return (MODELS / name / "README.md").read_text(encoding="utf-8")


def bits(model, text):
    with torch.no_grad():
        total = sum(
            cross_entropy(model(input_ids=piece[:, :-1]).logits[0], piece[0, 1:], reduction="sum").item()
            for piece in (text[:, :1025], text[:, 1024:2049])
        )
    return total / (text.shape[1] - 1) / math.log(2)


def log_decays(model, text):
    """By mixer, [T, heads]: dt A of Mamba-2, g of the gated DeltaNet; and its betas, or None. From a forward hook."""
    found, hooks = {}, []

    def hook(mixer):
        def keep(module, arguments, keywords):
            x = (keywords["hidden_states"] if "hidden_states" in keywords else arguments[0]).detach()
            delta = hasattr(mixer, "a_proj")
            raw = mixer.a_proj(x) if delta else mixer.in_proj(x)[..., -mixer.num_heads :]
            decay = -mixer.A_log.exp() * softplus(raw + mixer.dt_bias)
            found[mixer] = decay[0].detach(), 2 * mixer.b_proj(x).sigmoid()[0] if delta else None

        return mixer.register_forward_pre_hook(keep, with_kwargs=True)

    hooks = [hook(module) for module in model.modules() if hasattr(module, "A_log")]
    try:
        with torch.no_grad():
            model(input_ids=text)
    finally:
        for handle in hooks:
            handle.remove()
    return list(found.values())


@names
def test_shipped_folder_is_small_and_holds_no_pickle(name):
    assert sorted(file.name for file in (MODELS / name).iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert (MODELS / name / "model.safetensors").stat().st_size <= 1_000_000
    config = json.loads((MODELS / name / "config.json").read_text())
    assert config["architectures"] == [CLASSES[name]] and config["vocab_size"] == 256
    assert "_name_or_path" not in config


@names
def test_weights_are_finite_float32_and_all_of_them_are_read(name, models):
    weights = safetensors_torch.load_file(MODELS / name / "model.safetensors")
    assert all(weight.dtype == torch.float32 and weight.isfinite().all() for weight in weights.values())
    # Some names in the file are not the modules': transformers renames them when it saves and loads an OLMo-hybrid.
    assert sum(weight.numel() for weight in weights.values()) == sum(p.numel() for p in models[name].parameters())
    model, info = transformers.AutoModelForCausalLM.from_pretrained(MODELS / name, output_loading_info=True)
    assert type(model).__name__ == CLASSES[name]
    assert not any(info.values()), info


@names
def test_card_gives_the_figures_and_no_place(name, models):
    text = card(name)
    assert f"| parameters | {sum(p.numel() for p in models[name].parameters())} |" in text
    assert f"| {(MODELS / name / 'model.safetensors').stat().st_size} bytes" in text
    assert f"--model {name} --steps" in text
    own, bigram = (float(figure) for figure in re.findall(r"^\| (?:this model|byte bigram).*\| (\S+) \|$", text, re.M))
    assert own < bigram - 0.8
    assert not any(place in text for place in ("/home", "/tmp", "/work", "/usr", "/root", "C:\\", "{", "nan"))
    assert all(len(line) <= 120 for line in text.splitlines())


@names
def test_beats_a_bigram_on_a_text_it_never_saw(name, models, library):
    counted, text = library
    pairs = torch.bincount(256 * counted[:-1] + counted[1:], minlength=256 * 256).view(256, 256).double()
    single = (pairs.sum(0) + 1) / (pairs.sum() + 256)
    before, after = text[0, :-1], text[0, 1:]
    tables = [(pairs + k * single) / (pairs.sum(1, keepdim=True) + k) for k in (0.3, 1, 4, 16, 64)]
    bigram = min(-table[before, after].log2().mean().item() for table in tables)
    assert 3 < bigram < 5  # a bigram that was counted wrongly is easy to beat
    assert bits(models[name], text) < bigram - 0.5


@pytest.mark.parametrize("name", RECURRENT)
def test_some_head_remembers_for_longer_than_32_bytes(name, models, library):
    constants = torch.cat([-1 / decay.mean(0) for decay, _ in log_decays(models[name], library[1])])
    assert constants.max() > 32
    assert constants.min() < 8  # and not all do: heads span short and long
    rows = re.findall(r"^\| `.*` \| ([\d., ]+) \|$", card(name), re.M)
    claimed = [float(figure) for row in rows for figure in row.split(", ")]
    assert len(claimed) == len(constants) and max(claimed) > 32
    # The card's are the means over other texts, so they agree in size alone.
    assert ((torch.tensor(claimed) / constants).log().abs() < math.log(4)).all()


def test_the_delta_rules_use_betas_above_one(models, library):
    model, text = models["byte_olmo_hybrid"], library[1]
    assert model.config.linear_allow_neg_eigval
    beta = torch.cat([beta.flatten() for _, beta in log_decays(model, text)])
    assert 0.1 < (beta > 1).double().mean() < 0.9
    assert beta.max() > 1.8
    own = bits(model, text)
    mixers = [module for module in model.modules() if hasattr(module, "b_proj")]
    hooks = [mixer.b_proj.register_forward_hook(lambda _, inputs, output: output.clamp(max=0)) for mixer in mixers]
    try:
        clamped = bits(model, text)  # 2 sigmoid(b) <= 1 where b <= 0
    finally:
        for hook in hooks:
            hook.remove()
    assert clamped > own + 0.01


def test_one_command_gives_all_four_verdicts_with_their_horizons(models):
    """The horizons by hand: a (1 - beta) of the recorded gates, and ln(2^-24) / ln |lambda|."""
    from test_cli import parsed, run

    folders = [str(MODELS / name) for name in ("byte_lstm", "byte_mamba2", "byte_olmo_hybrid", "byte_gpt2")]
    found = {Path(one["model"]).name: one["layers"] for one in parsed("check", *folders)["models"]}
    answers = {name: [layer["parity"]["answer"] for layer in layers.values()] for name, layers in found.items()}
    assert answers == {
        "byte_lstm": [True],
        "byte_mamba2": [False, False],
        "byte_olmo_hybrid": [True, True, None],
        "byte_gpt2": [None] * 3,
    }
    text = bytes_of(Path(json.decoder.__file__))[:, :512]
    horizons = {n: [layer["weights"]["horizon"] for layer in layers.values()] for n, layers in found.items()}
    assert horizons["byte_lstm"] == [None] and horizons["byte_gpt2"] == [None] * 3
    for layer in horizons["byte_mamba2"]:
        assert len(layer["heads"]) == 6 and all(h["flips"] == h["mixed"] == 0 for h in layer["heads"])
    gates = log_decays(models["byte_olmo_hybrid"], text)
    assert horizons["byte_olmo_hybrid"][2] is None
    for (log_a, beta), layer in zip(gates, horizons["byte_olmo_hybrid"], strict=False):  # the third layer is attention
        low = (log_a.double().exp() * (1 - beta.double())).amin(0)
        for value, head in zip(low.tolist(), layer["heads"], strict=True):
            assert head["smallest"] == pytest.approx(value, abs=1e-4)  # |k| is 1 up to an epsilon
            assert head["flips"] == pytest.approx(math.log(2**-24) / math.log(-value), rel=2e-3)
    out = run("check", *folders).stdout
    for words in ("after 107 tokens", "after 400 tokens", "at once (no token flips)", "- (it keeps the tokens)"):
        assert words in out
