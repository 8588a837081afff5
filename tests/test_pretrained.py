"""Checkpoints of transformers: opened whole or layer by layer, and refused in words where they are not that."""

import json
import os
import subprocess
import sys

import pytest
import torch

import dsf
from dsf import extras, layer_streaming
from dsf.layer_streaming import parse_layers, stack_of
from dsf.opened_models import open_model
from tiny_models import example_tokens, tiny_model

transformers = pytest.importorskip("transformers")
TOKENS = example_tokens(1, 40)


def saved(name, folder, dtype=torch.bfloat16, size="40KB"):
    """A tiny model in a folder, sharded, and the model as it is read again."""
    tiny_model(name).to(dtype).save_pretrained(folder, max_shard_size=size)
    assert len(list(folder.glob("*.safetensors"))) >= 2
    return folder


@pytest.mark.parametrize("name", ["llama", "mamba2", "olmo_hybrid", "t5"])
def test_a_folder_in_shards_and_half_precision(name, tmp_path):
    opened = open_model(saved(name, tmp_path))
    expected = tiny_model(name).to(torch.bfloat16).state_dict()
    for path, weight in opened.module.state_dict().items():
        assert torch.equal(weight.float(), expected[path].float()) or path.endswith("inv_freq"), path
    assert (opened.kind, opened.unit, opened.module.training) == ("transformers", "bytes", False)
    assert next(opened.module.parameters()).dtype == torch.bfloat16
    assert next(open_model(tmp_path, dtype="float32").module.parameters()).dtype == torch.float32
    assert opened.encode("abc").tolist() == [[97, 98, 99]]
    assert type(opened.module).__name__ == (
        "T5ForConditionalGeneration" if name == "t5" else type(tiny_model(name)).__name__
    )


def test_one_safetensors_file_and_its_config(tmp_path):
    tiny_model("llama").save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    with torch.no_grad():
        logits = open_model(file).module(TOKENS).logits
        torch.testing.assert_close(logits, tiny_model("llama")(TOKENS).logits)
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"model.safetensors needs its config.json beside it"):
        open_model(file)


def test_a_tokenizer_is_used_where_there_is_one(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "import": 1, "os": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    saved("llama", tmp_path)
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(tmp_path)
    opened = open_model(tmp_path)
    assert opened.unit == "tokens" and opened.encode(b"import os twice", 8).tolist() == [[1, 2, 0]]
    with pytest.raises(ValueError, match="the text is empty"):
        opened.encode("")


# ---------------------------------------------------------------------------------------------------- layer by layer


@pytest.mark.parametrize("name", ["llama", "mamba2", "olmo_hybrid", "minimax", "gpt_oss", "jamba", "bloom"])
def test_layer_by_layer_is_the_same_model(name, tmp_path):
    """Also where transformers renames and merges what is in the files."""
    whole = open_model(saved(name, tmp_path, torch.float32))
    stack, parts = stack_of(whole.module)
    opened = open_model(tmp_path, layers=f"0-{len(parts) - 1}")
    assert opened.wanted == tuple(f"{stack}.{i}" for i in range(len(parts)))
    assert opened.parameters == whole.parameters
    found = dsf.convert(opened.module, opened.inputs(TOKENS), only=opened.wants)
    expected = dsf.convert(whole.module, whole.inputs(TOKENS))
    assert found.layers.keys() == expected.layers.keys()
    for path, layer in found.layers.items():
        for signal, x in layer.signals.items():
            torch.testing.assert_close(x, expected.layers[path].signals[signal], rtol=1e-5, atol=1e-6)
    assert all(p.device.type == "meta" for p in parts_of(opened.module, stack))
    with pytest.raises(ValueError, match="layer by layer"):
        found.module()


def parts_of(module, stack):
    return [p for path, p in module.named_parameters() if path.startswith(stack + ".")]


def test_only_the_wanted_layers_run(tmp_path, monkeypatch):
    read, own = [], layer_streaming._Reader.read
    monkeypatch.setattr(layer_streaming._Reader, "read", lambda self, path: (read.append(path), own(self, path)))
    opened = open_model(saved("gpt_neox", tmp_path), layers=[0])
    conversion = dsf.convert(opened.module, opened.inputs(TOKENS), only=opened.wants)
    assert list(conversion.layers) == ["gpt_neox.layers.0.attention"] and read == ["", "gpt_neox.layers.0"]


MEASURED = """
import resource, sys, torch, dsf
from dsf.opened_models import open_model
torch.set_num_threads(1)
tokens = torch.randint(0, 128, (1, 64))
warm = open_model(sys.argv[2])
dsf.convert(warm.module, warm.inputs(tokens))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
opened = open_model(sys.argv[1], layers="0-23") if sys.argv[3] == "layers" else open_model(sys.argv[1])
dsf.convert(opened.module, opened.inputs(tokens), only=opened.wants)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_a_model_need_not_fit_in_memory(tmp_path):
    """24 layers of 3 MB each: read one by one they take a fraction of what they take at once."""
    config = transformers.LlamaConfig(
        **dict(vocab_size=256, hidden_size=256, intermediate_size=704, num_hidden_layers=24, num_attention_heads=4),
        **dict(pad_token_id=None, bos_token_id=None, eos_token_id=None),
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "large")
    tiny_model("llama").save_pretrained(tmp_path / "small")
    grown = {}
    for how in ("layers", "whole"):
        command = [sys.executable, "-c", MEASURED, str(tmp_path / "large"), str(tmp_path / "small"), how]
        path = os.pathsep.join(p for p in sys.path if p)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        run = subprocess.run(
            ["sh", "-c", '"$0" "$@"; exit $?', *command], capture_output=True, text=True, env=environment
        )
        assert run.returncode == 0, run.stderr
        grown[how] = int(run.stdout)
    assert grown["layers"] < 0.5 * grown["whole"], grown


def test_numbers_of_layers():
    assert parse_layers("0-2,5", 8) == [0, 1, 2, 5] and parse_layers([3, 1], 4) == [1, 3]
    for wrong in ("a", "1-", "", "-1"):
        with pytest.raises(ValueError, match="layers are numbers and ranges"):
            parse_layers(wrong, 4)
    with pytest.raises(ValueError, match=r"this model has the layers 0\.\.3, got '2-4'"):
        parse_layers("2-4", 4)


# ------------------------------------------------------------------------------------------------------ what is refused


def changed_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in (config | changes).items() if v is not None}))


def truncated(folder):
    file = next(iter(sorted(folder.glob("*.safetensors"))))
    file.write_bytes(file.read_bytes()[:-100])


def garbage(folder):
    next(iter(sorted(folder.glob("*.safetensors")))).write_bytes(b"not a tensor in sight")


def without_a_shard(folder):
    next(iter(sorted(folder.glob("*.safetensors")))).unlink()


def without_weights(folder, pickle=False):
    for file in [*folder.glob("*.safetensors"), folder / "model.safetensors.index.json"]:
        file.unlink()
    if pickle:
        (folder / "pytorch_model.bin").write_bytes(b"\x80\x04K\x01.")


def with_nan(folder):
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    for file in folder.glob("*.safetensors"):
        file.unlink()
    (folder / "model.safetensors.index.json").unlink()
    model.save_pretrained(folder)


REFUSED = {
    "no config": (
        lambda f: (f / "config.json").unlink(),
        FileNotFoundError,
        "has no config.json: copy the whole folder",
    ),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), ValueError, "config.json is not JSON"),
    "a list": (lambda f: (f / "config.json").write_text("[]"), ValueError, "should hold an object, got list"),
    "unknown type": (
        lambda f: changed_config(f, model_type="hal9000"),
        ValueError,
        "model_type 'hal9000', which trans",
    ),
    "remote code": (
        lambda f: changed_config(f, model_type="mine", auto_map={"AutoConfig": "mine.Config"}),
        ValueError,
        r"needs code of its own \(auto_map\), which dsf does not run: load the model yourself",
    ),
    "truncated": (truncated, ValueError, r"safetensors cannot be read \(.*: it is damaged, or cut off"),
    "garbage": (garbage, ValueError, "cannot be read .*: it is damaged, or cut off; copy it again"),
    "missing shard": (without_a_shard, FileNotFoundError, "has no model-00001-of-.*, which its index names"),
    "no weights": (without_weights, FileNotFoundError, "has no model.safetensors"),
    "pickles": (lambda f: without_weights(f, True), ValueError, "as pytorch_model.bin only: pickles can run code"),
    "other shapes": (
        lambda f: changed_config(f, hidden_size=24),
        ValueError,
        "does not load|do not belong to its config",
    ),
    "other layers": (
        lambda f: changed_config(f, num_hidden_layers=3),
        ValueError,
        r"do not belong .*\(missing: model.lay",
    ),
}


@pytest.mark.parametrize("layers", [None, "0-1"], ids=["whole", "by layers"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_a_checkpoint_is_refused_in_words(case, layers, tmp_path):
    spoil, error, message = REFUSED[case]
    spoil(saved("llama", tmp_path))
    if layers and case == "other layers":
        layers = "0-2"  # the third is in no file
    if layers and case.startswith("other"):
        message = "do not belong to its config.json"
    with pytest.raises(error, match=message):
        opened = open_model(tmp_path, layers=layers)
        dsf.convert(opened.module, opened.inputs(TOKENS))  # of layers that are read as they run


def test_weights_that_are_not_finite_are_named(tmp_path):
    with_nan(saved("llama", tmp_path))
    opened = open_model(tmp_path)
    with pytest.raises(ValueError, match=r"weight of model.layers.0.mlp.up_proj \(Linear\) holds NaN or infinity"):
        dsf.convert(opened.module, opened.inputs(TOKENS))


def test_a_pickle_and_a_path_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="model.pt is a pickle, which can run code, and is not opened"):
        open_model(tmp_path / "model.pt")
    with pytest.raises(FileNotFoundError, match="is no folder, no .safetensors file and no id of the hub"):
        open_model(tmp_path / "nowhere" / "at" / "all")


def test_without_a_network(monkeypatch, tmp_path):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"nobody/nothing is not in the hub's cache .* without a network, run `hf"
    ):
        open_model("nobody/nothing")


def test_without_transformers(monkeypatch, tmp_path):
    saved("llama", tmp_path)

    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name.split(".")[0])

    monkeypatch.setattr(extras.importlib, "import_module", absent)
    with pytest.raises(ImportError, match=r"this needs the extra \"hf\": pip install 'dsf-toolkit\[hf\]'"):
        open_model(tmp_path)


def test_a_byte_model_is_opened_the_same_way():
    opened = open_model("examples/models/byte_lstm", dtype="float64")
    assert opened.kind == "byte model" and opened.inputs(opened.encode("ab")).shape == (1, 2)
    assert next(opened.module.parameters()).dtype == torch.float64
    with pytest.raises(ValueError, match="is a byte model, small enough to open whole"):
        open_model("examples/models/byte_lstm", layers="0")
