"""A model in bf16, in two shards, converts from the command line in little memory; nothing of T x n x n is made."""

import os
import subprocess
import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import dsf

transformers = pytest.importorskip("transformers")
LENGTH, STATE, FACTOR = 4096, 64, 3.0
OWN = """
import resource, sys, torch
from transformers import AutoModelForCausalLM
torch.set_num_threads(1)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="auto").eval()
with torch.no_grad():
    model(torch.randint(0, 256, (1, int(sys.argv[2]))), use_cache=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
CONVERT = """
import resource, sys, torch
torch.set_num_threads(1)
from dsf.cli import app
try:
    app(["convert", sys.argv[1], "--text", sys.argv[3], "--length", sys.argv[2]], standalone_mode=False)
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def olmo():
    """Gated delta rules and an attention layer with keys of 64, as a whole model."""
    config = transformers.OlmoHybridConfig(
        **dict(vocab_size=256, hidden_size=128, intermediate_size=256, num_hidden_layers=3, num_attention_heads=2),
        **dict(num_key_value_heads=2, linear_num_key_heads=2, linear_num_value_heads=2, linear_key_head_dim=STATE),
        **dict(linear_value_head_dim=STATE, layer_types=["linear_attention", "full_attention", "linear_attention"]),
        **dict(pad_token_id=None, bos_token_id=None, eos_token_id=None),
    )
    torch.manual_seed(0)
    model = transformers.OlmoHybridForCausalLM(config).eval()
    with torch.no_grad():
        for path, p in model.named_parameters():
            if path.endswith("A_log"):
                p.fill_(-3.0)  # initialised as it is, the model forgets at once
    return model


class Largest(TorchDispatchMode):
    """The most elements of any tensor that an operation makes while the block runs."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(x, torch.Tensor) and x._base is None and "expand" not in func.__name__:
                self.elements = max(self.elements, x.numel())
        return result


def test_no_tensor_of_all_transitions_is_made():
    """A_t of every step would have T n n entries; the mask T T, no head's worth of it."""
    model, tokens = olmo(), torch.randint(0, 256, (1, 2048))
    with Largest() as largest:
        conversion = dsf.convert(model, tokens)
    assert len(conversion.layers) == 3
    assert largest.elements < 2048 * STATE * STATE
    with Largest() as control:
        conversion.layers["model.layers.0.linear_attn"].system.dense()
    assert control.elements >= 2048 * STATE * STATE, "the measurement does not see what it should"


def peak(code, *arguments):
    """Peak resident memory of a fresh process that runs the code, in KiB on Linux."""
    command = ["sh", "-c", '"$0" "$@"; exit $?', sys.executable, "-c", code, *map(str, arguments)]
    path = os.pathsep.join(p for p in sys.path if p)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    found = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert found.returncode == 0, found.stderr
    return int(found.stdout.split()[-1]), found.stdout


@pytest.mark.slow
def test_peak_memory_of_the_command_line(tmp_path):
    olmo().bfloat16().save_pretrained(tmp_path / "model", max_shard_size="400KB")
    assert len(list((tmp_path / "model").glob("*.safetensors"))) >= 2
    text = tmp_path / "text.txt"
    text.write_bytes(bytes(range(32, 127)) * 50)
    forward, _ = peak(OWN, tmp_path / "model", LENGTH)
    conversion, table = peak(CONVERT, tmp_path / "model", LENGTH, text)
    assert "linear_attn" in table
    assert conversion <= FACTOR * forward, f"{conversion} KiB, the model alone {forward} KiB"
