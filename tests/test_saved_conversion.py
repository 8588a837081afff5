"""A conversion in a folder is the same conversion when it is read again; what is no such folder is refused in words."""

import json
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import dsf
from dsf import I, Interval, Polar, Rectangle, Scalar, System, Unit, Vector, architecture, definition, inf, outer
from dsf.attention import attention_architecture
from dsf.edits import clamp, mute
from dsf.json_architectures import architecture_of_json, architecture_to_json, domain_of_json, domain_to_json
from dsf.saved_conversion import _keep, _Tensors
from dsf.streaming import cache_keyword
from dsf_analysis.report import layer_report
from tiny_models import FAMILIES, example_tokens, tiny_model


def converted(name, dtype=torch.float32):
    if FAMILIES[name].module:
        pytest.importorskip(FAMILIES[name].module)
    model = tiny_model(name).to(dtype)
    return dsf.convert(model, FAMILIES[name].inputs(example_tokens()))


def again(conversion, folder):
    conversion.save(folder)
    return dsf.load_conversion(folder)


def through_json(x):
    return json.loads(json.dumps(x, allow_nan=False))


def equal(a, b):
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a is b is None or (a.dtype == b.dtype and torch.equal(a, b))


def in_words(layer):
    """The verdicts of a layer, and its report without what is measured against the module's output."""
    row = layer_report(layer).to_dict()
    return repr(dsf.parity(layer)), {k: v for k, v in row.items() if k not in ("error", "control")}


def assert_the_same(found, conversion):
    assert found.layers.keys() == conversion.layers.keys() and found.errors == conversion.errors
    assert (found.title, found.unconverted) == (conversion.title, conversion.unconverted)
    assert repr(found) == repr(conversion)
    for path, layer in found.layers.items():
        own = conversion.layers[path]
        assert (layer.architecture.name, layer.architecture.title) == (own.architecture.name, own.architecture.title)
        assert layer.architecture.signals == own.architecture.signals and repr(layer) == repr(own)
        assert list(layer.signals) == list(own.signals) and equal(layer.state, own.state)
        assert all(equal(layer.signals[k], own.signals[k]) for k in own.signals) and equal(layer.drive, own.drive)
        assert equal(layer.core.valid, own.core.valid) and layer.core.part == own.core.part
        sizes = [(x.dtype, x.state_size, x.length, x.stages, x.from_the_end) for x in (layer, own)]
        assert sizes[0] == sizes[1]


# ---------------------------------------------------------------------------------------------------- it is the same
ROUNDING = 1e-6  # a tensor that lies in memory otherwise is summed in another order


@pytest.mark.parametrize("name", ["mamba", "mamba2", "olmo_hybrid", "gpt_oss", "t5", "bloom", "lfm2", "rwkv", "xlstm"])
def test_read_again_it_is_the_same(name, tmp_path):
    conversion = converted(name)
    found = again(conversion, tmp_path)
    assert_the_same(found, conversion)
    assert max(found.verify().values()) < ROUNDING
    for path, layer in list(found.layers.items())[:2]:
        assert in_words(layer) == in_words(conversion.layers[path])
    with pytest.raises(ValueError, match="loaded from a folder, without the model's code: convert the model again"):
        found.module()


@pytest.mark.parametrize("name", ["olmo_hybrid", "t5"])
def test_half_and_double_precision(name, tmp_path):
    for dtype in (torch.bfloat16, torch.float64):
        conversion = converted(name, dtype)
        found = again(conversion, tmp_path)
        assert_the_same(found, conversion)
        assert {layer.dtype for layer in found.layers.values()} == {dtype} and set(found.verify().values()) == {0.0}


@pytest.mark.parametrize(
    ("cls", "options"), [(nn.RNN, dict(nonlinearity="relu")), (nn.LSTM, dict(proj_size=3)), (nn.GRU, {})]
)
def test_recurrent_layers_in_both_directions(cls, options, tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(cls(4, 6, 2, bidirectional=True, batch_first=True, **options))
    conversion = dsf.convert(module, torch.randn(2, 20, 4))
    found = again(conversion, tmp_path)
    assert_the_same(found, conversion)
    last = "0.layer1.reverse"
    assert in_words(found.layers[last]) == in_words(conversion.layers[last])
    for layer in found.layers.values():
        assert layer.verify(reset_every=4) > 1e-4 > layer.verify()


def test_initial_states_of_every_kind(tmp_path):
    lstm = dsf.convert(nn.LSTM(3, 4), (torch.randn(9, 2, 3), (torch.randn(1, 2, 4).tanh(), torch.randn(1, 2, 4))))
    assert_the_same(again(lstm, tmp_path), lstm)
    for name in ("gpt2", "mamba2"):
        pytest.importorskip("transformers")
        model, tokens = tiny_model(name), example_tokens()
        with torch.no_grad():
            cache = getattr(model(tokens[:, :30], use_cache=True), cache_keyword(model))
        given = {"input_ids": tokens[:, 30:31], cache_keyword(model): cache, "use_cache": True}
        conversion = dsf.convert(model, given)
        assert all(layer.state is not None for layer in conversion.layers.values())
        found = again(conversion, tmp_path)
        assert_the_same(found, conversion)
        assert max(found.verify().values()) < 1e-6  # the state was a transposed view: sums in another order


def test_padding(tmp_path):
    pytest.importorskip("transformers")
    tokens, mask = example_tokens(), torch.ones(2, 70, dtype=torch.long)
    mask[0, :9] = 0
    conversion = dsf.convert(tiny_model("llama"), dict(input_ids=tokens, attention_mask=mask))
    found = again(conversion, tmp_path)
    assert_the_same(found, conversion)
    assert next(iter(found.layers.values())).core.valid.sum() == 131


def test_edited_layers_and_edits_after_loading(tmp_path):
    path = "model.layers.0.linear_attn"
    conversion = converted("olmo_hybrid")
    changed = conversion.edit(path, beta=clamp(0, 1), drive=mute(0)).edit(path, beta=0.25)
    found = again(changed, tmp_path)
    assert_the_same(found, changed)
    layer = found.layers[path]
    assert [str(edit) for edit in layer.edits] == ["beta = clamp(0, 1)", "drive = mute(0)", "beta = constant(0.25)"]
    assert in_words(layer) == in_words(changed.layers[path]) and dsf.parity(layer).answer is False
    later = again(conversion, tmp_path).edit(path, beta=clamp(0, 1)).layers[path]
    assert later.signals["beta"].max() == 1 and dsf.parity(later).answer is False and later.verify() > 1e-3


def test_a_loaded_layer_runs_on_another_drive(tmp_path):
    conversion = dsf.convert(nn.GRU(3, 8), torch.randn(10, 4, 3))
    layer = again(conversion, tmp_path).layers["layer0"]
    assert layer.input is layer.drive and torch.equal(layer.simulate(), layer.output)
    other = torch.randn_like(layer.drive)
    y, _ = dsf.simulate(layer.system, other)
    assert torch.equal(layer.simulate(other), y)
    with pytest.raises(ValueError, match="the input of layer0 should be"):
        layer.simulate(other[..., :3])


def test_no_tensor_is_written_twice_or_repeated(tmp_path):
    """A mask that every layer shares is in the file once, and an axis along which a tensor is expanded not at all."""
    conversion = converted("mamba2")
    conversion.save(tmp_path)
    layers, bytes_of = conversion.layers.values(), lambda x: x.numel() * x.element_size()
    most = sum(bytes_of(x) for layer in layers for x in (*layer.signals.values(), layer.drive, layer.drive))
    assert (tmp_path / "tensors.safetensors").stat().st_size < most + 10_000
    tensors, long = _Tensors(), torch.randn(2, 1, 3).expand(2, 1000, 3)
    rows = [
        _keep(tensors, name, x) for name, x in (("a", long), ("b", long), ("c", torch.zeros(3, dtype=torch.cfloat)))
    ]
    assert rows[0] == rows[1] == {"tensor": "a", "shape": [2, 1000, 3]} and rows[2]["complex"]
    assert {name: tuple(x.shape) for name, x in tensors.kept.items()} == {"a": (2, 1, 3), "c": (3, 2)}
    square = torch.randn(3, 3)
    assert _keep(tensors, "d", square) != _keep(tensors, "e", square.mT) and equal(tensors.kept["e"], square.mT)


# ------------------------------------------------------------------------------------------- domains and architectures

END = st.one_of(st.sampled_from([-inf, inf, 0, 0.1, -1e-300, 2]), st.floats(allow_nan=False))
INTERVALS = st.tuples(END, END).map(lambda ends: Interval(min(ends), max(ends))).filter(lambda i: i.lo < inf)
MODULI = st.tuples(st.floats(0, 1e9), st.floats(0, inf)).map(lambda ends: Interval(min(ends), max(ends)))
SETS = st.one_of(INTERVALS, st.builds(Rectangle, INTERVALS, INTERVALS), st.builds(Polar, MODULI))


@settings(max_examples=200, deadline=None)
@given(SETS, SETS, st.booleans(), st.integers(0, 4))
def test_domains_are_exact(s, spectrum, const, groups):
    domain = replace(Vector, set=s, spectrum=spectrum, const=const, groups=groups)
    assert domain_of_json(through_json(domain_to_json(domain, Vector)), Vector) == domain


def test_domains_of_every_architecture():
    for a in dsf.architectures().values():
        found = architecture_of_json(through_json(architecture_to_json(a)))
        assert (found.signals, found.body, found.title) == (a.signals, a.body, a.title)


def test_wrappers_and_architectures_that_converters_make():
    wrapped = dsf.architecture_named("linear_attention").normalised(floor=0.5)
    found = architecture_of_json(through_json(architecture_to_json(wrapped)))
    assert [w.keywords for w in found.wrappers] == [{"floor": 0.5}] and found.bounds().floor == 0.5
    table = torch.tensor([[0.1, -inf, 3.0]])
    for a in (
        attention_architecture(2, window=8, cap=3.5, optional=("written", "sink")),
        attention_architecture(table=table),
    ):
        found = architecture_of_json(through_json(architecture_to_json(a)))
        assert found.body.rebuild == a.body.rebuild and found.signals == a.signals and repr(found) == repr(a)


class Mixer(nn.Module):
    architecture = None

    def forward(self, x):
        return dsf.simulate(self.architecture(**self.signals(x)), x[:, :, None])[0][:, :, 0]

    def signals(self, x):
        k = nn.functional.normalize(x, dim=-1)[:, :, None]
        return dict(q=x[:, :, None], k=k, beta=2 * x[:, :, 0, None].sigmoid())


def conversion_of(a):
    Mixer.architecture = a
    mixers = {Mixer: lambda module, x: (a, module.signals(x), x[:, :, None])}
    return dsf.convert(Mixer(), torch.randn(2, 9, 4), mixers=mixers)


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(definition, "_REGISTRY", dict(definition._REGISTRY))
    return definition._REGISTRY


def test_an_architecture_of_ones_own(tmp_path, registry):
    @architecture("Mine")
    def mine_to_save(q=Vector, k=Unit, beta=Scalar(0, 2)):
        return System(A=I - beta * outer(k), B=beta * k, C=q)

    own = mine_to_save
    conversion_of(own).save(tmp_path)
    assert dsf.load_conversion(tmp_path).verify() == {"": 0.0}
    without_q = {k: d for k, d in own.signals.items() if k != "q"}
    registry["mine_to_save"] = replace(own, signals=without_q)
    with pytest.raises(ValueError, match="mine_to_save has the signals k, beta here, and q, k, beta in the file"):
        dsf.load_conversion(tmp_path)
    registry["mine_to_save"] = replace(own, signals=own.signals | {"q": Scalar})
    with pytest.raises(ValueError, match=r"layer '': q is a scalar in \[-oo, oo\] here, and a vector in the file"):
        dsf.load_conversion(tmp_path)
    registry["mine_to_save"] = dsf.architecture_named(
        "deltanet"
    )  # of the same signals, and another: told by the output
    assert dsf.load_conversion(tmp_path).layers[""].signals["beta"].max() > 1
    del registry["mine_to_save"]
    with pytest.raises(ValueError, match="'mine_to_save' is not defined here: define it by that name"):
        dsf.load_conversion(tmp_path)


def test_another_body_of_the_same_name_does_not_reproduce_the_output(tmp_path, registry):
    def define(sign):
        @architecture(f"Mine, {sign}")
        def mine_to_save(q=Vector, k=Unit, beta=Scalar(0, 2)):
            return System(A=I - beta * outer(k), B=sign * beta * k, C=q)

        return mine_to_save

    conversion = conversion_of(define(1))
    conversion.save(tmp_path)
    define(-1)
    found = dsf.load_conversion(tmp_path)
    assert found.layers[""].architecture.title == "Mine, 1" and found.verify()[""] == pytest.approx(2)
    with pytest.raises(ValueError, match="Mine, 1 is not the architecture that is registered as 'mine_to_save'"):
        conversion.save(tmp_path)


def test_an_architecture_that_could_not_be_found_again_is_not_saved(tmp_path):
    @architecture("Mine", register=False)
    def nowhere(q=Vector, k=Unit, beta=Scalar(0, 2)):
        return System(A=I - beta * outer(k), B=beta * k, C=q)

    with pytest.raises(ValueError, match="layer '': Mine is not registered, and could not be found again"):
        conversion_of(nowhere).save(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    odd = replace(dsf.architecture_named("deltanet"), wrappers=(lambda system: system,))
    with pytest.raises(ValueError, match="DeltaNet is wrapped by a function that has no name in dsf"):
        architecture_to_json(odd)


# ---------------------------------------------------------------------------------------------------- what is refused


def spoiled(change):
    """Changes the first layer in the text of a folder."""

    def spoil(folder):
        document = json.loads((folder / "conversion.json").read_text())
        change(document["layers"][0], document)
        (folder / "conversion.json").write_text(json.dumps(document))

    return spoil


def cut(folder):
    file = folder / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-9])


def made_by(home, **arguments):
    return spoiled(lambda row, _: row["architecture"].update(made_by=[home, arguments]))


WRONG = {
    "no text": (lambda f: (f / "conversion.json").unlink(), "has no conversion.json"),
    "no tensors": (lambda f: (f / "tensors.safetensors").unlink(), "has no tensors.safetensors"),
    "no JSON": (lambda f: (f / "conversion.json").write_text("{"), r"conversion.json is no JSON \(Expecting"),
    "no text at all": (lambda f: (f / "conversion.json").write_bytes(b"\xff\xfe\x00"), "does not load"),
    "a list": (lambda f: (f / "conversion.json").write_text("[]"), "its format is None"),
    "format": (spoiled(lambda _, d: d.update(format="x/9")), "its format is 'x/9'"),
    "no layers": (spoiled(lambda _, d: d.pop("layers")), "does not load: it lacks 'layers'"),
    "no drive": (spoiled(lambda row, _: row.pop("drive")), "layer '' lacks 'drive'|layer 'layer0' lacks 'drive'"),
    "twice": (spoiled(lambda row, d: d["layers"].append(row)), "two layers have one path"),
    "elsewhere": (made_by("os:system", command="true"), "made by 'os:system', which is none of dsf's converters"),
    "beside": (made_by("dsf.checkpoints:load_checkpoint", folder="/"), "which is none of dsf's converters"),
    "imported": (made_by("dsf.attention:lru_cache", maxsize=1), "does not make the architecture 'relu_rnn'"),
    "of another name": (made_by("dsf.attention:attention_architecture"), "does not make the architecture 'relu_rnn'"),
    "cut off": (cut, "tensors.safetensors is damaged"),
    "pickled": (lambda f: torch.save({}, f / "tensors.safetensors"), "tensors.safetensors is damaged"),
    "groups": (spoiled(lambda row, _: row["architecture"]["domains"]["R"].update(groups=3)), "axis G of R is 1"),
    "no number": (spoiled(lambda row, _: row["architecture"]["domains"]["R"].update(const="no")), "const of R is 'no'"),
    "shape": (spoiled(lambda row, _: row["drive"].update(shape=[2, 9, 1, 4])), "layer 'layer0': the state should be"),
    "drive": (spoiled(lambda row, _: row.update(drive=row["signals"]["R"])), "drive u should be"),
    "dependence": (
        spoiled(lambda row, _: row["architecture"]["domains"]["R"].update(const=False, dependence="moon")),
        "dependence of R is 'moon'",
    ),
    "length": (spoiled(lambda row, _: row.update(length=8)), "its tensors have length 9, and the file says 8"),
    "output": (spoiled(lambda row, _: row.update(y=row["signals"]["R"])), "the output .* is not of the drive"),
    "dtype": (spoiled(lambda row, _: row.update(dtype="nn")), "'nn' is no dtype"),
    "error": (spoiled(lambda row, _: row.update(error="small")), "'small' is no number"),
    "edits": (spoiled(lambda row, _: row.update(edits=["x = 1"])), "'x = 1' is no edit of relu_rnn"),
    "set": (
        spoiled(lambda row, _: row["architecture"]["domains"]["R"].update(set={"interval": [2, "-oo"]})),
        "an interval needs lo <= hi",
    ),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    dsf.convert(nn.RNN(3, 4, nonlinearity="relu"), (torch.randn(9, 1, 3), torch.randn(1, 1, 4))).save(folder)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def written(files, folder):
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_conversion_is_refused(case, saved, tmp_path):
    spoil, message = WRONG[case]
    assert dsf.load_conversion(written(saved, tmp_path)).verify() == {"layer0": 0.0}
    spoil(tmp_path)
    with pytest.raises(FileNotFoundError if "has no" in message else ValueError, match=message):
        dsf.load_conversion(tmp_path)


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "here").write_text("mine")
    with pytest.raises(ValueError, match="here is a file: name a folder to save into"):
        dsf.convert(nn.RNN(3, 4), torch.randn(9, 1, 3)).save(tmp_path / "here")


def test_a_folder_that_holds_something_already(saved, tmp_path):
    written({"conversion.json": b"old", "tensors.safetensors": b"old", "notes.txt": b"mine"}, tmp_path)
    dsf.convert(nn.GRU(3, 4), torch.randn(9, 1, 3)).save(str(tmp_path))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["conversion.json", "notes.txt", "tensors.safetensors"]
    assert (tmp_path / "notes.txt").read_bytes() == b"mine"
    modes = {file.stat().st_mode for file in tmp_path.iterdir()}
    assert len(modes) == 1, "the file of tensors is as readable as the others"
    assert list(dsf.load_conversion(tmp_path).layers) == ["layer0"]
    with pytest.raises(FileNotFoundError, match=r"elsewhere has no conversion\.json: give a folder that"):
        dsf.load_conversion(tmp_path / "elsewhere")


def places_of(x, path=()):
    """Paths to every value inside a JSON document."""
    items = x.items() if isinstance(x, dict) else enumerate(x) if isinstance(x, list) else ()
    return [path] * bool(path) + [place for k, v in items for place in places_of(v, (*path, k))]


def test_nothing_but_a_value_error_comes_of_a_damaged_file(saved, tmp_path):
    """Values of the text replaced by others at random, bytes of the tensors flipped: it loads, or says why not."""
    pick = random.Random(0)
    document = json.loads(saved["conversion.json"])
    places, refused = places_of(document), 0
    for i in range(250):
        files = dict(saved)
        if i % 3:
            changed = json.loads(saved["conversion.json"])
            *way, last = pick.choice(places)
            inside = changed
            for key in way:
                inside = inside[key]
            inside[last] = pick.choice(
                [None, -1, 0, 3, 1.5, True, "", "oo", [], [1, 2], {}, {"tensor": "0.R"}, document]
            )
            files["conversion.json"] = json.dumps(changed).encode()
        else:
            data = bytearray(saved["tensors.safetensors"])
            data[pick.randrange(min(400, len(data)))] ^= 1 << pick.randrange(8)
            files["tensors.safetensors"] = bytes(data)
        try:
            dsf.load_conversion(written(files, tmp_path))
        except ValueError as error:
            refused += 1
            assert "does not load: " in str(error) and str(error)[-2:] != ": "
    assert refused > 100
