"""Checkpoints of transformers: opened whole or layer by layer, and refused in words where they are not that."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

import dsf
from dsf import extras, layer_streaming
from dsf.checkpoint_files import LeftOut
from dsf.layer_streaming import parse_layers, stack_of
from dsf.opened_models import open_model
from dsf.recording import StopForward
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


def outputs(opened, stack):
    """What each layer of the stack returns, in the order of the calls."""
    seen = []
    for layer in opened.module.get_submodule(stack):
        keep = lambda m, a, out: seen.append((out[0] if isinstance(out, tuple) else out).detach().clone())  # noqa: E731
        layer.register_forward_hook(keep, prepend=True)
    with contextlib.suppress(StopForward), torch.no_grad():
        opened.module(**opened.inputs(TOKENS))
    return seen


@pytest.mark.parametrize("dtype", ["auto", "float32"])
@pytest.mark.parametrize(
    "name",
    [
        "llama",
        "mamba2",
        "olmo_hybrid",
        "minimax",
        "gpt_oss",
        "qwen3_5_moe",
        "bailing_hybrid",
        "glm5_next",
        "deepseek_v3",
    ],
)
def test_layer_by_layer_in_half_precision_is_the_same_bit_for_bit(name, dtype, tmp_path):
    """Also where a model keeps some weights in float32, and where config.json does not say in what they are stored."""
    changed_config(saved(name, tmp_path), dtype=None)
    whole = open_model(tmp_path, dtype=dtype)
    stack, parts = stack_of(whole.module)
    opened = open_model(tmp_path, dtype=dtype, layers=range(len(parts)))
    expected, found = outputs(whole, stack), outputs(opened, stack)
    assert len(found) == len(expected) == len(parts)
    assert all(torch.equal(x, y) and x.dtype == y.dtype for x, y in zip(found, expected, strict=True))
    dtypes = {path: x.dtype for path, x in opened.module.state_dict().items()}
    assert dtypes == {path: x.dtype for path, x in whole.module.state_dict().items()}


def test_layers_with_common_weights_are_opened_whole(tmp_path):
    saved("zamba", tmp_path)
    with pytest.raises(ValueError, match=r"layers of ZambaForCausalLM share weights \(.*\): open it whole"):
        open_model(tmp_path, layers="0")
    with pytest.raises(ValueError, match="are quantised: open it whole, without --layers"):
        changed_config(saved("llama", tmp_path / "quantised"), quantization_config={"quant_method": "gptq"})
        open_model(tmp_path / "quantised", layers="0")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("weight", ["model.layers.1.mlp.up_proj.weight", "model.embed_tokens.weight"])
def test_weights_of_a_layer_that_are_not_finite_are_named(weight, tmp_path):
    tiny_model("llama").save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    weights[weight][0, 0] = -float("inf")
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ValueError, match=f"^{weight} in .*model.safetensors holds NaN or infinity"):
        opened = open_model(tmp_path, layers="1")
        dsf.convert(opened.module, opened.inputs(TOKENS), only=opened.wants)


@pytest.mark.parametrize("layers", [None, "0-1"])
def test_buffers_in_old_files_are_left_out(layers, tmp_path):
    tiny_model("llama").save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    old = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.zeros(4) for i in range(2)}
    save_file(load_file(file) | old, file, {"format": "pt"})
    opened = open_model(tmp_path, layers=layers)
    expected = dsf.convert(tiny_model("llama"), TOKENS).layers
    found = dsf.convert(opened.module, opened.inputs(TOKENS), only=opened.wants).layers
    assert all(torch.equal(layer.signals["q"], expected[path].signals["q"]) for path, layer in found.items())


def test_layers_that_the_model_has_not(tmp_path):
    """Those in the files, too: config.json says two, there are three."""
    config = transformers.LlamaConfig(
        **dict(vocab_size=128, hidden_size=16, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2),
        **dict(pad_token_id=None, bos_token_id=None, eos_token_id=None),
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    changed_config(tmp_path, num_hidden_layers=2)
    for layers in (None, "0"):
        with pytest.raises(ValueError, match=r"do not belong .*\(unexpected: model.layers.2"):
            open_model(tmp_path, layers=layers)


def more_tensors(folder, *names):
    file = folder / "model.safetensors"
    save_file(load_file(file) | {name: torch.zeros(2) for name in names}, file, {"format": "pt"})


@pytest.mark.parametrize("layers", [None, "0-1"])
@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("deepseek_v3", ["model.layers.2.eh_proj.weight", "model.layers.2.input_layernorm.weight"]),
        ("llama", ["extra.weight", "mtp.layers.0.mlp.up_proj.weight", "score.weight", "w.x"]),
    ],
)
def test_tensors_beside_those_of_the_model_are_named_and_left_out(name, beside, layers, tmp_path):
    """Such as a layer that predicts one more token, which has parts that no layer of the model has."""
    tiny_model(name).save_pretrained(tmp_path)
    more_tensors(tmp_path, *beside)
    some = ", ".join(sorted(beside)[:3]) + ", ..." * (len(beside) > 3)
    with pytest.warns(LeftOut, match=re.escape(f"reads {len(beside)} of its tensors not ({some})")):
        opened = open_model(tmp_path, layers=layers)
    expected = dsf.convert(tiny_model(name), TOKENS).layers
    found = dsf.convert(opened.module, opened.inputs(TOKENS), only=opened.wants).layers
    assert found.keys() == expected.keys()
    assert all(torch.equal(layer.signals["q"], expected[path].signals["q"]) for path, layer in found.items())


@pytest.mark.parametrize("layers", [None, "0-1"])
@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("llama", "model.layers.1.self_attn.q_proj.bias"),
        ("llama", "layers.1.self_attn.q_norm.weight"),
        ("llama", "model.layers.2.mlp.up_proj.weight"),
        ("gpt_neox", "gpt_neox.layers.2.attention.dense.weight"),
    ],
)
def test_tensors_of_its_layers_that_a_model_does_not_read_are_refused(name, extra, layers, tmp_path):
    """Without them it would be another function: config.json lacks a bias, a norm or a layer."""
    tiny_model(name).save_pretrained(tmp_path)
    more_tensors(tmp_path, "another.weight", extra)
    found = rf"^the weights of .* do not belong .*\(unexpected: .*{extra.partition('.')[2]}"
    with pytest.raises(ValueError, match=found):
        opened = open_model(tmp_path, layers=layers)
        dsf.convert(opened.module, opened.inputs(TOKENS), only=opened.wants)


def test_decays_that_were_rounded_each_for_itself(tmp_path):
    """MiniMax keeps the powers of its decay in buffers: read in float32 after half precision, they are of none."""
    saved("minimax", tmp_path)
    tokens = example_tokens(1, 70)
    for dtype, count in (("auto", 3), ("float32", 1)):
        opened = open_model(tmp_path, dtype=dtype)
        conversion = dsf.convert(opened.module, opened.inputs(tokens))
        assert len(conversion.layers) == count
    for why in conversion.unconverted.values():
        assert "rounded when they were saved in half precision: open it in that dtype" in why
    for part in opened.module.modules():
        if hasattr(part, "decay_factors"):
            factors = part.decay_factors(part.slope_rate)
            for name, factor in zip(("query_decay", "key_decay", "diagonal_decay"), factors, strict=True):
                getattr(part, name).copy_(factor)
    mended = dsf.convert(opened.module, opened.inputs(tokens))
    assert len(mended.layers) == 3 and max(mended.errors.values()) < 1e-5


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
    for wrong in ("a", "1-", "", "-1", "2-1"):
        with pytest.raises(ValueError, match="layers are numbers and ranges"):
            parse_layers(wrong, 4)
    with pytest.raises(ValueError, match=r"this model has the layers 0\.\.3, got '2-4'"):
        parse_layers("2-4", 4)
    with pytest.raises(ValueError, match=r"this model has the layers 0\.\.3"):
        parse_layers("0-99999999999", 4)


# ------------------------------------------------------------------------------------------------------ what is refused


def changed_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    kept = {k: v for k, v in (config | changes).items() if v is not None or k not in changes}
    (folder / "config.json").write_text(json.dumps(kept))


def truncated(folder):
    file = next(iter(sorted(folder.glob("*.safetensors"))))
    file.write_bytes(file.read_bytes()[:-100])


def garbage(folder):
    next(iter(sorted(folder.glob("*.safetensors")))).write_bytes(b"not a tensor in sight")


def without_a_shard(folder):
    next(iter(sorted(folder.glob("*.safetensors")))).unlink()


def index(folder, text):
    (folder / "model.safetensors.index.json").write_text(text)


def without_weights(folder, pickle=False):
    for file in [*folder.glob("*.safetensors"), folder / "model.safetensors.index.json"]:
        file.unlink()
    if pickle:
        (folder / "pytorch_model.bin").write_bytes(b"\x80\x04K\x01.")


def under_another_name(folder):
    without_weights(folder)
    tiny_model("llama").save_pretrained(folder)
    (folder / "model.safetensors").rename(folder / "weights.safetensors")


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
        r"do not belong to its config.json \(lm_head.weight has shape \(128, 48\), not \(128, 24\)\)",
    ),
    "other sizes": (
        lambda f: changed_config(f, hidden_size="many"),
        ValueError,
        "does not load: .*'hidden_size' expected int",
    ),
    "another name": (under_another_name, ValueError, "has weights.safetensors, but no model.safetensors, and no .*ind"),
    "index, no JSON": (lambda f: index(f, "{"), ValueError, "index.json is no index of shards .JSONDecodeError"),
    "index, a list": (lambda f: index(f, "[]"), ValueError, "index.json is no index of shards .TypeError"),
    "index of pickles": (
        lambda f: index(f, json.dumps({"weight_map": {"x": "pytorch_model.bin"}})),
        ValueError,
        "has its weights in pytorch_model.bin: only .safetensors files are opened",
    ),
    "pickle by name": (  # the one that transformers would open
        lambda f: changed_config(f, transformers_weights="adapter_model.bin"),
        ValueError,
        "has its weights in adapter_model.bin: only .safetensors files are opened",
    ),
    "a list of types": (lambda f: changed_config(f, model_type=["llama"]), ValueError, r"has model_type \['llama'\]"),
    "kernel of the hub": (
        lambda f: changed_config(f, text_config={"_attn_implementation": "kernels-community/flash-attn"}),
        ValueError,
        "asks for kernels-community/flash-attn, code that dsf does not fetch: take out its _attn_implementation",
    ),
    "adapter": (
        lambda f: (f / "adapter_config.json").write_text("{}"),
        ValueError,
        "is an adapter of another model: save the two merged",
    ),
    "tokenizer of its own code": (
        lambda f: (f / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", None]}})
        ),
        ValueError,
        r"the tokenizer of .* does not load \(it needs code of its own\): mend it, or take tokenizer_config.json away",
    ),
    "tokenizer, no JSON": (
        lambda f: (f / "tokenizer.json").write_text("{"),
        ValueError,
        "the tokenizer of .* does not load .*or take tokenizer.json away",
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
    if layers and case in ("other layers", "other shapes"):
        message = "do not belong to its config.json"
    with pytest.raises(error, match=message):
        opened = open_model(tmp_path, layers=layers)
        dsf.convert(opened.module, opened.inputs(TOKENS))  # of layers that are read as they run


@pytest.mark.parametrize("name", ["float31", "load", "int8"])
@pytest.mark.parametrize("layers", [None, "0"])
def test_dtypes_that_there_are_not(name, layers, tmp_path):
    register = torch.nn.Module.register_parameter
    with pytest.raises(ValueError, match=f"dtype is one of auto, float32, bfloat16, float16, float64, got '{name}'"):
        open_model(saved("llama", tmp_path), dtype=name, layers=layers)
    assert torch.nn.Module.register_parameter is register and torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize(
    "names", [None, [], ["Mine"], ["pipeline"], ["LlamaConfig"], ["Mamba2ForCausalLM"], "LlamaForCausalLM", [3]]
)
def test_architectures_that_are_no_models_of_this_type(names, tmp_path):
    changed_config(saved("llama", tmp_path), architectures=names)
    assert type(open_model(tmp_path).module).__name__ == "LlamaForCausalLM"


def test_a_model_with_an_encoder_and_no_architecture(tmp_path):
    changed_config(saved("t5", tmp_path), architectures=None)
    assert type(open_model(tmp_path).module).__name__ == "T5ForConditionalGeneration"


def test_weights_beside_those_of_the_model(tmp_path):
    """The same file twice under two names is usual; another file that is asked for is not silently replaced."""
    tiny_model("llama").save_pretrained(tmp_path)
    shutil.copy(tmp_path / "model.safetensors", tmp_path / "consolidated.safetensors")
    for layers in (None, "0"):
        assert open_model(tmp_path, layers=layers).parameters == open_model(tmp_path / "model.safetensors").parameters
        with pytest.raises(ValueError, match="is read from model.safetensors, not from consolidated.safetensors"):
            open_model(tmp_path / "consolidated.safetensors", layers=layers)


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
    with pytest.raises(FileNotFoundError, match="is no folder, no .safetensors file and no id of the hub"):
        open_model("")


def test_without_a_network(monkeypatch, tmp_path):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    message = (
        r"nobody/nothing is no folder here, and is not in the hub's cache; it cannot be downloaded "
        r"\(HF_HUB_OFFLINE is set\): where there is a network, run `hf download nobody/nothing --local-dir FOLDER`"
    )
    with pytest.raises(FileNotFoundError, match=message):
        open_model("nobody/nothing")


def hub(monkeypatch, folder, cached=True, error=None):
    """Stands in for the hub: what it was asked."""
    import huggingface_hub

    asked = []

    def download(source, local_files_only=False, **how):
        asked.append({"cache only": local_files_only, **how})
        if error is not None or local_files_only and not cached:
            raise error or FileNotFoundError(source)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return asked


def test_the_cache_of_the_hub_comes_first(monkeypatch, tmp_path):
    asked = hub(monkeypatch, saved("llama", tmp_path))
    assert open_model("nobody/llama").name == "nobody/llama" and [a["cache only"] for a in asked] == [True]
    without_a_shard(tmp_path)
    with pytest.raises(FileNotFoundError, match="has no model-00001-of-"):
        open_model("nobody/llama")
    assert [a["cache only"] for a in asked] == [True, True, False]


def test_what_is_fetched_of_the_hub(monkeypatch, tmp_path):
    from huggingface_hub.utils import filter_repo_objects

    asked = hub(monkeypatch, saved("llama", tmp_path), cached=False)
    open_model("nobody/llama")
    how = {k: v for k, v in asked[1].items() if k.endswith("patterns")}
    wanted = ["config.json", "model-00001-of-00002.safetensors", "tokenizer.model", "merges.txt"]
    others = ["modeling_mine.py", "pytorch_model.bin", "original/model.safetensors", "consolidated.safetensors", "x.pt"]
    assert list(filter_repo_objects([*wanted, *others], **how)) == wanted


def test_a_repository_of_pickles_or_of_nobody(monkeypatch, tmp_path):
    from huggingface_hub.errors import RepositoryNotFoundError

    hub(monkeypatch, saved("llama", tmp_path))
    without_weights(tmp_path)
    with pytest.raises(ValueError, match="nobody/llama has no safetensors: pickles, which can run code, are neither"):
        open_model("nobody/llama")
    hub(monkeypatch, tmp_path, error=RepositoryNotFoundError.__new__(RepositoryNotFoundError))
    with pytest.raises(FileNotFoundError, match=r"nor does the hub have it, or not for you \(`hf auth login`\)"):
        open_model("nobody/llama")


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
