"""A conversion in a folder is the same conversion when it is read again; what is no such folder is refused in words."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

import dsf
from dsf import I, Scalar, System, Unit, Vector, annulus, architecture, definition, outer
from dsf.edits import clamp
from dsf.saved_conversion import _domain_of_json, _domain_to_json
from dsf_analysis.report import layer_report
from tiny_models import FAMILIES, example_tokens, tiny_model


def converted(name):
    if FAMILIES[name].module:
        pytest.importorskip(FAMILIES[name].module)
    return dsf.convert(tiny_model(name), FAMILIES[name].inputs(example_tokens()))


def equal(a, b):
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a is b is None or torch.equal(a, b)


@pytest.mark.parametrize("name", ["mamba", "mamba2", "olmo_hybrid", "gpt_oss", "t5", "bloom", "lfm2", "rwkv", "xlstm"])
def test_read_again_it_is_the_same(name, tmp_path):
    conversion = converted(name)
    conversion.save(tmp_path)
    found = dsf.load_conversion(tmp_path)
    assert found.layers.keys() == conversion.layers.keys() and found.errors == conversion.errors
    assert found.unconverted == conversion.unconverted and found.title == conversion.title
    assert max(found.verify().values()) == 0.0
    for path, layer in found.layers.items():
        own = conversion.layers[path]
        assert (layer.architecture.name, layer.architecture.title) == (own.architecture.name, own.architecture.title)
        assert layer.architecture.signals == own.architecture.signals
        assert layer.signals.keys() == own.signals.keys() and equal(layer.state, own.state)
        assert all(torch.equal(layer.signals[k], own.signals[k]) for k in own.signals)
        assert repr(dsf.parity(layer)) == repr(dsf.parity(own))
        assert (layer.state_size, layer.length, layer.stages) == (own.state_size, own.length, own.stages)
    with pytest.raises(ValueError, match="loaded from a folder, without the model's code: convert the model again"):
        found.module()


def test_recurrent_layers_and_their_reports(tmp_path):
    torch.manual_seed(0)
    rnn = nn.Sequential(nn.RNN(4, 6, 2, nonlinearity="relu", bidirectional=True, batch_first=True))
    conversion = dsf.convert(rnn, torch.randn(1, 80, 4))
    conversion.save(tmp_path)
    found = dsf.load_conversion(tmp_path)
    for path, layer in found.layers.items():
        assert layer.from_the_end == conversion.layers[path].from_the_end
        one, other = (layer_report(x).to_dict() for x in (layer, conversion.layers[path]))
        assert {**one, "error": 0, "control": 0, "parity": 0} == {**other, "error": 0, "control": 0, "parity": 0}


def test_an_edited_layer(tmp_path):
    conversion = converted("olmo_hybrid").edit("model.layers.0.linear_attn", beta=clamp(0, 1))
    conversion.save(tmp_path)
    layer = dsf.load_conversion(tmp_path).layers["model.layers.0.linear_attn"]
    assert layer.signals["beta"].max() <= 1 and dsf.parity(layer).answer is False
    assert "edited: beta = clamp(0, 1)" in layer.stages


def test_domains_of_every_architecture():
    for a in dsf.architectures().values():
        for name, domain in a.signals.items():
            assert _domain_of_json(json.loads(json.dumps(_domain_to_json(domain))), domain) == domain, (a.name, name)
    odd = Vector(annulus(0.1, float("inf")))
    assert _domain_of_json(json.loads(json.dumps(_domain_to_json(odd))), Vector) == odd


def test_an_architecture_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setattr(definition, "_REGISTRY", dict(definition._REGISTRY))

    @architecture("Mine")
    def mine_to_save(q=Vector, k=Unit, beta=Scalar(0, 2)):
        return System(A=I - beta * outer(k), B=beta * k, C=q)

    class Mixer(nn.Module):
        def forward(self, x):
            return dsf.simulate(mine_to_save(**signals(x)), x[:, :, None])[0][:, :, 0]

    def signals(x):
        k = nn.functional.normalize(x, dim=-1)[:, :, None]
        return dict(q=x[:, :, None], k=k, beta=2 * x[:, :, :1].sigmoid())

    layers = {Mixer: lambda module, x: (mine_to_save, signals(x), x[:, :, None])}
    dsf.convert(Mixer(), torch.randn(2, 9, 4), mixers=layers).save(tmp_path)
    assert dsf.load_conversion(tmp_path).verify() == {"": 0.0}
    changed = replace(mine_to_save, signals={k: d for k, d in mine_to_save.signals.items() if k != "q"})
    definition._REGISTRY["mine_to_save"] = changed
    with pytest.raises(ValueError, match="mine_to_save has the signals k, beta here, and q, k, beta in the file"):
        dsf.load_conversion(tmp_path)
    del definition._REGISTRY["mine_to_save"]
    with pytest.raises(ValueError, match="'mine_to_save' is not defined here: define it before, by that name"):
        dsf.load_conversion(tmp_path)


def edited_text(folder, change):
    document = json.loads((folder / "conversion.json").read_text())
    change(document)
    (folder / "conversion.json").write_text(json.dumps(document))


def of_another_place(document):
    document["layers"][0]["architecture"]["made_by"] = ["os:system", {"command": "true"}]


WRONG = {
    "no text": (lambda f: (f / "conversion.json").unlink(), FileNotFoundError, "has no conversion.json"),
    "no tensors": (lambda f: (f / "tensors.safetensors").unlink(), FileNotFoundError, "has no tensors.safetensors"),
    "no JSON": (lambda f: (f / "conversion.json").write_text("{"), ValueError, "does not load"),
    "a list": (lambda f: (f / "conversion.json").write_text("[]"), ValueError, "its format is None"),
    "format": (lambda f: edited_text(f, lambda d: d.update(format="x/9")), ValueError, "its format is 'x/9'"),
    "no layers": (lambda f: edited_text(f, lambda d: d.pop("layers")), ValueError, "does not load: KeyError: 'layers'"),
    "elsewhere": (
        lambda f: edited_text(f, of_another_place),
        ValueError,
        "made by 'os:system', which is no part of dsf",
    ),
    "cut off": (
        lambda f: (f / "tensors.safetensors").write_bytes((f / "tensors.safetensors").read_bytes()[:-9]),
        ValueError,
        "does not load: SafetensorError",
    ),
    "shapes": (
        lambda f: edited_text(f, lambda d: d["layers"][0]["architecture"]["domains"]["R"].update(groups=3)),
        ValueError,
        "does not load",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_conversion_is_refused(case, tmp_path):
    spoil, error, message = WRONG[case]
    dsf.convert(nn.RNN(3, 4), torch.randn(9, 1, 3)).save(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    dsf.convert(nn.RNN(3, 4), torch.randn(9, 1, 3)).save(tmp_path)  # over an older one, beside other files
    assert (tmp_path / "notes.txt").exists()
    spoil(tmp_path)
    with pytest.raises(error, match=message):
        dsf.load_conversion(tmp_path)
