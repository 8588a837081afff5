"""Checkpoints: the round trip, a clear refusal of every bad folder, and the shipped model against a bigram."""

import importlib.util
import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from dsf.checkpoints import ByteModel, bytes_of, load_checkpoint, save_checkpoint

safetensors_torch = pytest.importorskip("safetensors.torch")

EXAMPLES = Path(__file__).parent.parent / "examples"
SHIPPED = EXAMPLES / "models" / "byte_lstm"


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    save_checkpoint(ByteModel("LSTM", width=4, hidden=8, layers=2), tmp_path / "model", card="# card")
    return tmp_path / "model"


def rewrite_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def rewrite_weights(folder, change):
    weights = safetensors_torch.load_file(folder / "model.safetensors")
    weights = {name: weight.clone() for name, weight in weights.items()}
    change(weights)
    safetensors_torch.save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_round_trip(cell, layers, dtype, tmp_path):
    torch.manual_seed(0)
    model = ByteModel(cell, width=4, hidden=8, layers=layers).to(dtype)
    save_checkpoint(model, tmp_path / "a" / "b", card="# card")
    generator = torch.get_rng_state()
    loaded, config = load_checkpoint(str(tmp_path / "a" / "b"))
    assert torch.equal(generator, torch.get_rng_state())
    assert config == {"format": "dsf-byte-model/1", "cell": cell, "width": 4, "hidden": 8, "layers": layers}
    assert sorted(file.name for file in (tmp_path / "a" / "b").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert (tmp_path / "a" / "b" / "README.md").read_text() == "# card"
    tokens = torch.randint(0, 256, (3, 11))
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in loaded.state_dict().items())
    # Not to the last bit: matrix products round differently where the loaded weights lie on other addresses.
    torch.testing.assert_close(loaded(tokens), model(tokens), atol=1e-6 if dtype == torch.float32 else 1e-14, rtol=0)
    assert not loaded.training and all(p.requires_grad and p.device.type == "cpu" for p in loaded.parameters())
    loaded(tokens).sum().backward()


def test_state_is_carried_and_the_past_is_what_is_read(folder):
    model, _ = load_checkpoint(folder)
    tokens = torch.randint(0, 256, (2, 12))
    whole = model(tokens)
    head, state = model.advance(tokens[:, :5])
    torch.testing.assert_close(torch.cat([head, model(tokens[:, 5:], state)], 1), whole, atol=1e-6, rtol=1e-5)
    other = tokens.clone()
    other[:, 7] = (other[:, 7] + 1) % 256
    assert torch.equal(model(other)[:, :7], whole[:, :7]) and not torch.equal(model(other)[:, 7:], whole[:, 7:])


def test_bytes_of(tmp_path):
    (tmp_path / "text").write_bytes(b"\xff\n")
    assert bytes_of(tmp_path / "text").tolist() == [[255, 10]]
    assert bytes_of("é").tolist() == [[0xC3, 0xA9]] and bytes_of(b"a").dtype == torch.int64
    with pytest.raises(ValueError, match="empty"):
        bytes_of("")


@pytest.mark.parametrize("tokens", [torch.zeros(3, dtype=torch.int64), torch.zeros(1, 3), torch.zeros(1, 2, 3).long()])
def test_tokens_are_checked(tokens):
    with pytest.raises(ValueError, match=r"int64 \[B, T\]"):
        ByteModel("RNN", 4, 8)(tokens)


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        load_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"has no {name}"):
        load_checkpoint(folder)


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.mark.parametrize("with_config", [True, False])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "weights.pth", "model.pkl", "last.ckpt"])
def test_pickles_are_named_and_never_opened(folder, name, with_config, tmp_path):
    (folder / "model.safetensors").unlink()
    if not with_config:
        (folder / "config.json").unlink()
    bomb = Bomb()
    bomb.path = str(tmp_path / "exploded")
    (folder / name).write_bytes(pickle.dumps(bomb))
    with pytest.raises(ValueError, match=f"{name} only: pickles can run code"):
        load_checkpoint(folder)
    assert not (tmp_path / "exploded").exists()
    pickle.loads((folder / name).read_bytes())  # the bomb is live: the line above can fail
    assert (tmp_path / "exploded").exists()


def test_pickles_beside_safetensors_are_ignored(folder):
    (folder / "optimizer.pt").write_bytes(b"not read")
    load_checkpoint(folder)


@pytest.mark.parametrize("text", ["", "{", "\N{SNOWMAN}"])
def test_config_that_is_not_json(folder, text):
    (folder / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"config.json is not JSON .*should read like"):
        load_checkpoint(folder)


@pytest.mark.parametrize("config", [[], "LSTM", {}, {"format": "dsf-byte-model/2"}, {"format": ["dsf-byte-model/1"]}])
def test_unknown_format(folder, config):
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="has format .*formats known are: dsf-byte-model/1"):
        load_checkpoint(folder)


def test_transformers_folder_is_told_apart(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "mamba2", "hidden_size": 8}))
    with pytest.raises(ValueError, match="model_type is 'mamba2'.*formats known are: dsf-byte-model/1"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell": "Transformer"}, "config.json: cell should be one of LSTM, GRU, RNN, got 'Transformer'"),
        ({"cell": ["LSTM"]}, "cell should be one of"),
        ({"hidden": 0}, "hidden should be an integer in 1..65536, got 0"),
        ({"hidden": 8.0}, "hidden should be an integer"),
        ({"width": "4"}, "width should be an integer"),
        ({"layers": True}, "layers should be an integer"),
        ({"layers": 10**12}, "layers should be an integer"),
        ({"width": None}, r"lacks \['width'\]"),
        ({"depth": 3}, r"unknown \['depth'\]"),
        ({"hidden": 65536}, "asks for"),
        ({"width": 5}, r"embedding.weight has shape \(256, 4\), but config.json asks for \(256, 5\)"),
        ({"layers": 1}, "unknown .*weight_hh_l1"),
        ({"layers": 3}, "lacks .*weight_hh_l2"),
        ({"cell": "GRU"}, r"has shape \(32,.*asks for \(24,"),
    ],
)
def test_config_that_is_wrong(folder, changes, message):
    rewrite_config(folder, **changes)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("readout.bias"), r"lacks \['readout.bias'\]"),
        (lambda w: w.update(extra=torch.zeros(1)), r"unknown \['extra'\]"),
        (lambda w: w.update({"readout.bias": torch.zeros(255)}), r"readout.bias has shape \(255,\)"),
        (lambda w: w["readout.weight"].view(-1)[3].fill_(math.nan), "readout.weight has NaN or infinite"),
        (lambda w: w["embedding.weight"].view(-1)[0].fill_(-math.inf), "embedding.weight has NaN or infinite"),
        (lambda w: w.update({"readout.bias": torch.zeros(256, dtype=torch.int64)}), "should be float32"),
        (lambda w: w.update({"embedding.weight": torch.zeros(256, 4).double()}), "embedding.weight is torch.float64"),
        (lambda w: w.update({name: weight.half() for name, weight in w.items()}), "is torch.float16"),
    ],
)
def test_weights_that_are_wrong(folder, change, message):
    rewrite_weights(folder, change)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(folder)


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:-1], lambda b: b[:40], lambda b: b"PK" + b[2:]])
def test_corrupt_safetensors(folder, damage):
    file = folder / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match="model.safetensors cannot be read .*copy it again"):
        load_checkpoint(folder)


def test_what_cannot_be_loaded_is_not_saved(tmp_path):
    model = ByteModel("RNN", 4, 8)
    with pytest.raises(TypeError, match="got Linear"):
        save_checkpoint(torch.nn.Linear(1, 1), tmp_path / "m", card="# card")
    with pytest.raises(ValueError, match="card is empty"):
        save_checkpoint(model, tmp_path / "m", card=" \n")
    with pytest.raises(ValueError, match="float16"):
        save_checkpoint(ByteModel("RNN", 4, 8).half(), tmp_path / "m", card="# card")
    model.readout.bias.data[0] = math.nan
    with pytest.raises(ValueError, match="readout.bias has NaN"):
        save_checkpoint(model, tmp_path / "m", card="# card")
    assert not (tmp_path / "m").exists()


# The shipped model


def training_script():
    pytest.importorskip("rich")
    spec = importlib.util.spec_from_file_location("train_small_models", EXAMPLES / "train_small_models.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_shipped_model_is_small():
    model, config = load_checkpoint(SHIPPED)
    assert config["cell"] == "LSTM"
    assert sum(p.numel() for p in model.parameters()) <= 200_000
    assert (SHIPPED / "model.safetensors").stat().st_size <= 1_000_000
    assert sorted(file.name for file in SHIPPED.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_shipped_card_gives_the_figures_and_no_place():
    card = (SHIPPED / "README.md").read_text(encoding="utf-8")
    model, _ = load_checkpoint(SHIPPED)
    assert f"| parameters | {sum(p.numel() for p in model.parameters())} |" in card
    assert f"| {(SHIPPED / 'model.safetensors').stat().st_size} bytes" in card
    assert "held-out bits per byte" in card and "--steps" in card
    assert not any(place in card for place in ("/home", "/tmp", "/work", "/usr", "/root", "C:\\", "{", "nan"))


def test_shipped_model_beats_a_bigram_on_held_out_files():
    script = training_script()
    files = script.library_files()
    held_out = [script.read(file)[:8001] for file in files if script.is_held_out(file.name)]
    texts = torch.stack([text for text in held_out if len(text) == 8001])
    assert len(texts) >= 5
    # The bigram counts 1 MB, backs off to the add-one unigram, and has the best of five strengths on these very files.
    counted = torch.cat([script.read(file) for file in files if not script.is_held_out(file.name)])[:1_000_000]
    pairs = torch.bincount(256 * counted[:-1] + counted[1:], minlength=256 * 256).view(256, 256).double()
    single = (pairs.sum(0) + 1) / (pairs.sum() + 256)
    bigrams = [(pairs + k * single) / (pairs.sum(1, keepdim=True) + k) for k in (0.3, 1, 4, 16, 64)]
    bigram = min(-p[texts[:, :-1], texts[:, 1:]].log2().mean().item() for p in bigrams)
    model, _ = load_checkpoint(SHIPPED)
    with torch.no_grad():
        bits = cross_entropy(model(texts[:, :-1]).flatten(0, 1), texts[:, 1:].flatten()).item() / math.log(2)
    assert 3 < bigram < 4.5  # a bigram that was counted wrongly is easy to beat
    assert bits < bigram - 0.5


def test_the_split_is_by_name_and_the_figures_agree_with_a_plain_loop():
    script = training_script()
    assert script.is_held_out("functools.py") and not script.is_held_out("os.py")  # the same on every Python
    torch.manual_seed(0)
    model = ByteModel("GRU", 4, 8)
    for parameter in model.parameters():
        parameter.data *= 4  # so that the state of the wrong text, or none, shows
    texts = [torch.randint(0, 256, (n,)) for n in (2, 700, 513, 1026)]
    with torch.no_grad():
        bits = [cross_entropy(model(t[None, :-1])[0], t[1:], reduction="sum").item() / math.log(2) for t in texts]
    assert script.bits_per_byte(model, texts) == pytest.approx(sum(bits) / 2237, rel=1e-5)
    bigram = script.Bigram([torch.tensor([0, 1, 0, 1, 0])])  # p(1) = 3/260, n(0 1) = 2
    assert bigram.bits_per_byte([torch.tensor([0, 1])]) == pytest.approx(-math.log2((2 + 3 / 260) / 3))
