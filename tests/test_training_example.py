"""examples/train_language_model.py: any architecture by its name, from bytes to a sample; what it refuses, in words."""

import importlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import dsf
from dsf import definition

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TINY = ["--steps", "3", "--layers", "1", "--width", "16", "--length", "16", "--batch", "2", "--sample", "5"]
BYTES_ALONE = 3.18  # nats of held-out bytes, by their frequencies
LEARNT = 2.7  # nats after 120 small steps: 2.42 to 2.54 were seen, over architectures and seeds


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    definition.architectures()  # the library's own are registered once, when they are first imported
    monkeypatch.setattr(definition, "_REGISTRY", dict(definition._REGISTRY))
    return importlib.import_module("train_language_model")


@pytest.mark.parametrize(
    "architecture", ["gated_deltanet", "mamba2", "s4d", "deltaproduct", "softmax_attention", "lstm", "lssl", "mine"]
)
def test_an_architecture_trains_and_writes(example, capsys, tmp_path, architecture):
    """Also one of the user's own, named in no file of the library."""

    @dsf.architecture("My delta rule")
    def mine(q=dsf.Vector, k=dsf.Unit, beta=dsf.Scalar(0, 2)):
        return dsf.System(A=dsf.I - beta * dsf.outer(k), B=beta * k, C=q)

    file = tmp_path / "model.safetensors"
    nats = example.main(["--architecture", architecture, *TINY, "--out", str(file)])
    assert 0 < nats < 7
    printed = capsys.readouterr().out
    assert "bits per byte" in printed and "bytes per second" in printed and example.PROMPT in printed
    model = example.LanguageModel(architecture, 1, 16, 4)
    model.load_state_dict(load_file(file))
    windows = torch.randint(256, (2, 17))
    example.loss_of(model, windows).backward()
    assert not [k for k, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_a_step_is_a_run_of_one_byte(example):
    torch.manual_seed(0)
    model, tokens = example.LanguageModel("gated_deltanet", 2, 16, 2), torch.randint(256, (2, 12))
    whole, _ = model(tokens)
    _, caches = model(tokens[:, :8])
    for t in range(8, 12):
        logits, caches = model.step(tokens[:, t], caches)
        assert torch.allclose(logits, whole[:, t], atol=1e-5)


def test_the_loss_is_that_of_the_next_byte(example):
    windows = (torch.arange(3)[:, None] + torch.arange(17)) % 256  # every byte is one more than the one before

    def one_more(tokens):
        return 50.0 * torch.nn.functional.one_hot((tokens + 1) % 256, 256), None

    assert example.loss_of(one_more, windows) < 1e-6 and example.loss_of(one_more, windows.flip(1)) > 40


def test_the_learning_rate_warms_up_and_falls(example):
    rates = [example.rate(step, 200) for step in range(201)]
    assert rates[0] == pytest.approx(0.1) and max(rates) > 0.98 and rates[200] < 1e-3
    peak = rates.index(max(rates))
    assert rates[:peak] == sorted(rates[:peak]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    assert all(0 < example.rate(step, 1) <= 1 for step in range(1))


def test_the_seed_decides(example, capsys):
    assert example.main(TINY) == example.main(TINY) != example.main([*TINY, "--seed", "1"])


def test_it_lists_the_architectures(example, capsys):
    with pytest.raises(SystemExit) as stop:
        example.main(["--list"])
    assert not stop.value.code
    printed = capsys.readouterr().out
    assert all(name in printed for name in dsf.architectures())


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("Did you mean mamba2", ["--architecture", "mambo2"]),
        ("no trainable layer", ["--architecture", "chosen"]),
        ("does not divide into 5 heads", ["--heads", "5"]),
        ("whole number", ["--steps", "0"]),
        ("learning-rate should be positive", ["--learning-rate", "0"]),
        ("in a folder that is there", ["--out", "nowhere/at/all.safetensors"]),
        ("device", ["--device", "nowhere"]),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(example, capsys, words, options):
    @dsf.architecture("Chosen by an index")
    def chosen(p=dsf.Index, d=dsf.Vector(0, 1), b=dsf.Vector, c=dsf.Vector):
        return dsf.System(A=dsf.OneHotDiagonal(p, d), B=b, C=c)

    with pytest.raises(SystemExit) as stop:
        example.main([*TINY, *options])
    assert stop.value.code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["linear_attention", "gated_deltanet", "softmax_attention"])
def test_it_learns(example, capsys, architecture):
    """Below what the frequencies of bytes give, which needs the bytes before."""
    nats = example.main(["--architecture", architecture, "--steps", "120", "--width", "48", "--length", "64"])
    assert 1 < nats < LEARNT < BYTES_ALONE


@pytest.mark.slow
def test_it_is_trained_compiled(example, capsys, monkeypatch):
    compiled = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda model: compiled(model, backend="aot_eager"))
    assert example.main([*TINY, "--compile"]) == pytest.approx(example.main(TINY), abs=1e-3)
