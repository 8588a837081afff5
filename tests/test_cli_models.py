"""`dsf convert`, `check` and `run` on transformers models in folders: tables, files, edits, errors."""

import csv
import json
import math
import shutil
import subprocess
import sys

import pytest
import torch

import dsf
from dsf.pretrained import quiet
from test_cli import environment, error, parsed, run
from tiny_models import FAMILIES, tiny_model

NAMES = ("olmo_hybrid", "mistral", "mamba", "gpt2")
DELTA = "model.layers.0.linear_attn"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Tiny models in folders, without tokenizers: they read bytes, below 128."""
    folder = tmp_path_factory.mktemp("models")
    for name in NAMES:
        pytest.importorskip(FAMILIES[name].module)
        with quiet():
            tiny_model(name).save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    file = tmp_path_factory.mktemp("texts") / "text.txt"
    words = "to be or not to be that is the question whether".split()
    generator = torch.Generator().manual_seed(0)
    file.write_text(" ".join(words[i] for i in torch.randint(len(words), (300,), generator=generator)))
    return file


# ------------------------------------------------------------------------------------------------------------ convert


def test_several_models_are_one_table(models, text, tmp_path):
    table = tmp_path / "table.csv"
    result = run("convert", models / "olmo_hybrid", models / "mistral", "--text", text, "--length", 100, "--csv", table)
    lines = result.stdout.splitlines()
    assert sum(line.startswith("layer  ") for line in lines) == 1
    assert sum("(OlmoHybridForCausalLM, 72,008 parameters) on the first 100 bytes" in line for line in lines) == 1
    (delta,) = (line for line in lines if line.startswith(DELTA))
    for word in ("Gated DeltaNet", "Reflection", "4 x 12 x 16", "[-1, 1]", "[-0.", "yes"):
        assert word in delta
    (_, window) = (line for line in lines if "Softmax attention, window of 24" in line)
    assert window.startswith("model.layers.1.self_attn ") and "holds 24" in window and "undecided" in window
    assert "5 layers of 2 models" in result.stdout
    with table.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["model"] for row in rows] == ["olmo_hybrid"] * 3 + ["mistral"] * 2
    assert float(rows[0]["real_min"]) < -0.5 and rows[0]["all_inputs"] == "[-1, 1]" and rows[1]["n"] == "inf"
    assert float(rows[0]["error"]) < 1e-5 < 0.1 < float(rows[0]["control"])


def test_several_models_as_json(models, text):
    document = parsed("convert", models / "mistral", models / "mamba", "--text", text, "--length", 70)
    one, other = document["models"]
    assert one["class"] == "MistralForCausalLM" and len(one["layers"]) == 2 and one["unconverted"] == {}
    assert one["layers"][0]["register"] == 24 and one["layers"][0]["infinite_features"] is True
    assert other["layers"][0]["heads"] == 96 and other["layers"][0]["state_size"] == 8
    assert other["layers"][0]["channels"] == 1 and other["layers"][0]["all_inputs"] == ["[0, 1]"]


def test_a_terminal_of_any_width(models, text, monkeypatch):
    """A table where it fits, else a card per layer; no line is left for the terminal to break."""
    for columns, cards in ((80, True), (160, False)):
        monkeypatch.setattr("dsf.cli_output.width", lambda columns=columns: columns)
        out = run("convert", models / "olmo_hybrid", models / "mistral", "--text", text, "--length", 70).stdout
        assert max(map(len, out.splitlines())) <= columns
        assert ("  A_t          Reflection c(aI - b k k^T); 4 heads, n = 12, p = 16" in out) == cards
        assert ("x n x p" in out) != cards
    monkeypatch.setattr("dsf.cli_output.width", lambda: 80)
    for command in (["check", models / "olmo_hybrid", "--text", text, "--length", 70], ["list"], ["check", "lstm"]):
        assert max(map(len, run(*command).stdout.splitlines())) <= 80


def test_some_layers_in_another_precision(models, text):
    given = models / "olmo_hybrid", "--text", text, "--length", 70
    (one,) = parsed("convert", *given, "--layers", "2", "--dtype", "float64")["models"]
    assert [row["layer"] for row in one["layers"]] == ["model.layers.2.linear_attn"] and one["unconverted"] == {}
    half = parsed("convert", models / "mistral", "--text", text, "--length", 70, "--dtype", "bfloat16")["models"][0]
    assert 1e-4 < half["layers"][0]["error"] < 0.1
    assert "--dtype is one of auto, float32" in error("convert", models / "mistral", "--dtype", "int8")
    assert "layers" in error("convert", models / "mistral", "--layers", "7")


def test_a_model_of_few_positions_is_run_on_as_many(models, text):
    (one,) = parsed("convert", models / "gpt2", "--text", text)["models"]
    assert one["text"].startswith("the first 128 bytes of ")
    assert "has learned 128 positions, and is to read 300" in run(
        "convert", models / "gpt2", "--text", text, "--length", 300, status=2
    ).stderr  # fmt: skip


def test_save(models, text, tmp_path):
    out = run("convert", models / "mistral", "--text", text, "--length", 70, "--save", tmp_path / "one").stdout
    assert f"Saved in {tmp_path / 'one'}" in out
    run("convert", models / "mistral", models / "mamba", "--text", text, "--length", 70, "--save", tmp_path / "two")
    for folder, title in (("one", "window of 24"), ("two/mistral", "Softmax attention"), ("two/mamba", "Mamba")):
        layers = dsf.load_conversion(tmp_path / folder).layers.values()
        assert len(layers) == 2 and all(title in layer.architecture.title for layer in layers)
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "inside"
    result = run("convert", models / "mistral", "--text", text, "--length", 70, "--save", place, status=2)
    assert result.stderr.splitlines()[-1] == f"dsf: {place} cannot be written: Not a directory"


def test_supported():
    rows = parsed("convert", "--supported")
    (mamba2,) = (row for row in rows if row["file"] == "dsf/converters/mamba2.py")
    assert "mamba2_chunk_scan" in mamba2["functions"] and "nemotron_h" in mamba2["families"]
    assert mamba2["what"].startswith("Mamba-2's chunk scan") and mamba2["modules"] == []
    (recurrent,) = (row for row in rows if row["file"] == "dsf/converters/recurrent.py")
    assert "torch.nn.modules.rnn.LSTM" in recurrent["modules"]
    out = run("convert", "--supported").stdout
    assert all(row["file"] in out for row in rows) and "torch_chunk_gated_delta_rule" in out
    assert "name one or more models" in error("convert")


def test_a_missing_model_is_told_before_the_first_one_runs(models):
    assert "./nosuch is no folder" in error("convert", models / "mistral", "./nosuch")


# -------------------------------------------------------------------------------------------------------------- check


def test_check_of_layers(models, text):
    args = "check", models / "olmo_hybrid", "--text", text, "--length", 70
    (document,) = parsed(*args)["models"]
    spectrum, parity = (document["layers"][DELTA][name] for name in ("spectrum", "parity"))
    assert spectrum["all_inputs"] == ["[-1, 1]"] and spectrum["real"][0] < -0.3 and spectrum["check"] is True
    assert parity["answer"] is True and parity["check"] is True
    out = run(*args).stdout
    assert "lemma       rank one" in out and out.count("Does Gated DeltaNet compute parity") == 1  # for both layers
    assert f"Gated DeltaNet ({DELTA}, model.layers.2.linear_attn)" in out


def test_check_of_several_models_is_one_table(models, text):
    args = "check", models / "mamba", models / "gpt2", "--text", text, "--length", 70, "--language", "mod 3"
    out = run(*args).stdout
    assert sum(line.startswith("layer  ") for line in out.splitlines()) == 1
    (mamba, _) = (line for line in out.splitlines() if line.startswith("backbone.layers."))
    assert "at once (no token flips)" in mamba and mamba.split("at once")[0].split()[-2:] == ["no", "no"]
    (first, _) = (line for line in out.splitlines() if "Softmax attention  [1, 1]" in line)
    assert "2, any" in first and "0, any" in first and "- (it keeps the tokens)" in first
    (one, other) = parsed(*args)["models"]
    for layer in one["layers"].values():
        assert layer["languages"]["mod 3"]["answer"] is False and layer["languages"]["mod 3"]["check"] is True
    assert all(layer["parity"]["answer"] is None for layer in other["layers"].values())


def test_the_token_nearest_to_an_end_is_the_one_that_the_text_has_there(models, text):
    """The step of the smallest eigenvalue by the signals themselves: a (1 - beta |k|^2) is least there."""
    (document,) = parsed("check", models / "olmo_hybrid", "--text", text, "--length", 70)["models"]
    with quiet():
        model = tiny_model("olmo_hybrid")
    tokens = torch.tensor([list(text.read_bytes()[:70])])
    layer = dsf.convert(model, {"input_ids": tokens, "use_cache": False}).layers[DELTA]
    s = layer.signals
    size = s["k"].double().square().sum(-1).repeat_interleave(2, 2)  # two heads share a key
    low = s["g"].double().exp() * (1 - s["beta"].double() * size)
    found = document["layers"][DELTA]["weights"]
    nearest = found["nearest"]["-1"]
    step = int(low.amin(2)[0].argmin())
    assert nearest["token"] == step and nearest["text"] == f"{chr(tokens[0, step])!r} ({step})"
    assert nearest["distance"] == pytest.approx(1 + low.min().item(), rel=1e-6)
    assert found["horizon"]["dtype"] == "float32" and len(found["horizon"]["heads"]) == 4


def test_pictures_of_layers(models, text, tmp_path):
    pytest.importorskip("matplotlib")
    given = "check", models / "mamba", "--text", text, "--length", 70, "--plot", tmp_path / "new"
    (document,) = parsed(*given)["models"]
    assert [p.name for p in sorted((tmp_path / "new").iterdir())] == [
        f"mamba.backbone.layers.{i}.mixer.png" for i in (0, 1)
    ]
    assert [str(p) for p in sorted((tmp_path / "new").iterdir())] == document["pictures"]


# ---------------------------------------------------------------------------------------------------------------- run


def test_run_says_the_models_own_loss(models, text):
    """In chunks, by dsf: the loss that the model itself has in one run of all."""
    document = parsed("run", models / "olmo_hybrid", "--input", text, "--chunk", 100, "--length", 250, "--compare")
    tokens = torch.tensor([list(text.read_bytes()[:250])])
    model = tiny_model("olmo_hybrid")
    with torch.no_grad():
        logits = model(tokens[:, :-1]).logits
    expected = torch.nn.functional.cross_entropy(logits[0].double(), tokens[0, 1:]).item()
    for name in ("dsf", "original"):
        assert document["runs"][name]["nats"] == pytest.approx(expected, rel=1e-5)
        assert document["runs"][name]["bits"] == pytest.approx(expected / math.log(2), rel=1e-5)
        assert document["runs"][name]["tokens_per_second"] > 0
    assert document["tokens"] == 250 and document["unit"] == "byte" and document["peak_memory_bytes"] > 1e8


def test_run_with_an_edit_says_what_it_changes(models, text):
    args = ("run", models / "olmo_hybrid", "--input", text, "--length", 250, "--edit", f"{DELTA}:beta=clamp(0,1)")
    document = parsed(*args)
    (edit,) = document["edits"]
    assert edit["parity"] == ["yes", "no"] and edit["all_inputs"] == ["[-1, 1]", "[0, 1]"]
    runs = document["runs"]
    assert runs.keys() == {"edited", "dsf"} and abs(runs["edited"]["nats"] - runs["dsf"]["nats"]) > 1e-5
    twice = parsed(*args, "--edit", f"{DELTA}:drive=scale(0)")
    assert twice["edits"][0]["edits"] == ["beta = clamp(0, 1)", "drive = scale(0)"]
    assert twice["runs"]["edited"]["nats"] != runs["edited"]["nats"]
    out = run(*args).stdout
    for word in ("[-1, 1] -> [0, 1]", "yes -> no", "The edit changes the loss by", "peak memory", "run by dsf"):
        assert word in out


def test_an_edit_after_which_the_model_diverges(models, text):
    edit = "backbone.layers.0.mixer:dt=scale(-99)"
    args = ("run", models / "mamba", "--input", text, "--length", 250, "--edit", edit)
    runs = parsed(*args, status=1)["runs"]
    assert runs["edited"]["nats"] is None and runs["dsf"]["nats"] > 0
    out = run(*args, status=1).stdout
    assert "The edited model has no loss: MambaForCausalLM diverged: its logits in tokens" in out and "nan" not in out


def test_tensors_that_are_left_out_are_told(models, text, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(models / "gpt2", tmp_path / "more")
    file = tmp_path / "more" / "model.safetensors"
    save_file(load_file(file) | {"score.weight": torch.zeros(2)}, file, {"format": "pt"})
    result = run("convert", tmp_path / "more", "--text", text, "--length", 70)
    said = [line for line in result.stderr.splitlines() if "score.weight" in line]
    assert said == [f"dsf: {tmp_path / 'more'}: GPT2LMHeadModel reads 1 of its tensors not (score.weight)"]


def test_run_streams_where_the_original_does_not(models, text):
    args = ("run", models / "mamba", "--input", text, "--chunk", 60, "--length", 250, "--compare")
    runs = parsed(*args)["runs"]
    assert runs["original"]["nats"] is None and "cannot be continued" in runs["original"]["because"]
    assert "The original was not run: the cache of MambaForCausalLM" in run(*args).stdout
    whole = parsed(*args[:4], "--chunk", 1000, *args[6:])["runs"]
    assert whole["original"]["nats"] == pytest.approx(runs["dsf"]["nats"], rel=1e-5)
    assert "dsf differs from the original by" in run(*args[:4], "--chunk", 1000, *args[6:]).stdout


def test_run_reads_all_of_a_text(models, text):
    assert parsed("run", models / "mistral", "--input", text)["tokens"] == len(text.read_bytes())


def test_mistakes_of_run(models, text, tmp_path):
    def last(*args):
        result = run("run", *args, status=2)
        assert result.stdout == "" and "Traceback" not in result.stderr
        return result.stderr.splitlines()[-1]

    given = models / "olmo_hybrid", "--input", text, "--length", 100
    unknown = last(*given, "--edit", "nosuch:beta=clamp(0,1)")
    assert "no layer is called 'nosuch'; the layers are model.layers.0" in unknown
    assert "has the signals q, k, beta, g, drive, not 'z'" in last(*given, "--edit", f"{DELTA}:z=clamp(0,1)")
    assert "an edit is PATH:SIGNAL=CHANGE" in last(*given, "--edit", "beta=2")
    assert "nofile is not a file" in last(models / "olmo_hybrid", "--input", "nofile")
    (tmp_path / "one").write_text("x")
    assert "a loss needs two" in last(models / "olmo_hybrid", "--input", tmp_path / "one")
    assert "has learned 128 positions" in last(models / "gpt2", "--input", text)
    (tmp_path / "beyond").write_text("\u00e9" * 20)
    for name in ("mistral", "gpt2"):
        assert "should be in 0..127, the vocabulary of" in last(models / name, "--input", tmp_path / "beyond")


# ---------------------------------------------------------------------------------------------------------- processes


@pytest.mark.slow
def test_a_process_says_nothing_but_its_own(models, text):
    """No warnings and progress bars of transformers, on either stream; --json is one document."""
    command = [sys.executable, "-m", "dsf", "convert", models / "mamba", "--text", text, "--length", "70", "--json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment())
    assert done.returncode == 0 and len(json.loads(done.stdout)["models"]) == 1
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["dsf", "dsf"]
