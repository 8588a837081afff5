"""The command line: what it prints, its JSON, its errors of one line, its exit status."""

import json
import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

import dsf
from dsf.checkpoints import ByteModel, save_checkpoint
from dsf.cli import app

RUNNER = CliRunner()


def run(*args, status=0):
    result = RUNNER.invoke(app, list(map(str, args)))
    assert result.exit_code == status, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def parsed(*args, status=0):
    return json.loads(run(*args, "--json", status=status).stdout)


def error(*args):
    """The one line on stderr; nothing on stdout."""
    result = run(*args, status=2)
    assert result.stdout == "" and "Traceback" not in result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("dsf: ")
    return line


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained model of two layers, with weights large enough for a state that matters."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(0)
    made = ByteModel("LSTM", width=8, hidden=12, layers=2)
    for weight in made.recurrent.parameters():
        weight.data.mul_(3)
    save_checkpoint(made, folder, "# A model for the tests")
    return folder


# --------------------------------------------------------------------------------------------------------- list, show


def test_list_holds_every_architecture():
    found, text = parsed("list"), run("list").stdout
    assert [row["name"] for row in found] == list(dsf.architectures())
    assert all(row["name"] in text and row["title"].split(",")[0] in text and str(row["year"]) in text for row in found)
    (deltanet,) = (row for row in found if row["name"] == "deltanet")
    assert deltanet["A"].startswith("Reflection") and deltanet["dependence"] == "token"
    assert deltanet["cite"] == "yang2024deltanet"


@pytest.mark.parametrize("name", list(dsf.architectures()))
def test_show_of_every_architecture(name):
    text, document = run("show", name).stdout, parsed("show", name)
    assert "x_t = " in text and "at n = 2:" in text and f"dsf check {name}" in text
    assert document["name"] == name and document["equations"][0].startswith("x_t = ")
    assert document["signals"].keys() == dsf.architecture_named(name).signals.keys()
    size = {"titans": 4, "rwkv4": 1}.get(name, 2)  # of RWKV-4 each channel is a head
    assert [len(row) for row in document["matrices"]["A"]] == [size] * size
    assert r"\begin{aligned}" in run("show", name, "--latex").stdout


def test_matrices_at_two():
    found = parsed("show", "rwkv6")["matrices"]
    assert found["B"] == [["k_0"], ["k_1"]] and found["C"] == [["r_0", "r_1"]]
    assert found["D"] == [["bonus_0*k_0*r_0 + bonus_1*k_1*r_1"]]
    assert parsed("show", "softmax_attention")["matrices"].keys() == {"A"}
    assert len(parsed("show", "deltaproduct")["matrices"]["B"][0]) == 2  # a column per micro-step


# -------------------------------------------------------------------------------------------------------------- check


def test_check_of_an_architecture():
    document = parsed("check", "deltanet")
    assert document["architecture"] == "deltanet" and document["spectrum"]["parts"] == ["[0, 1]"]
    assert document["parity"]["answer"] is False and document["parity"]["theorem"]["cite"].startswith("grazzi2025")
    assert document["spectrum"]["check"] is True and document["parity"]["check"] is True
    text = run("check", "deltanet").stdout
    for word in (
        "[0, 1]",
        "lemma",
        "gauge",
        "theorem",
        "dependence",
        "parity at every length? no",
        "passed: Refutation",
    ):
        assert word in text


def test_check_on_another_domain():
    document = parsed("check", "deltanet", "--set", "beta=0,2")
    assert document["spectrum"]["parts"] == ["[-1, 1]"] and document["parity"]["answer"] is True
    assert document["domains"] == {"beta": "scalar in [0, 2]"}
    assert "DeltaNet, beta: scalar in [0, 2]" in run("check", "deltanet", "--set", "beta=0,2").stdout
    both = parsed("check", "titans", "--set", "theta=0,0.5", "--set", "eta=0,0.25")
    assert both["domains"].keys() == {"theta", "eta"}
    unbounded = parsed("check", "gla", "--set", "g=-oo,oo")
    assert unbounded["domains"] == {"g": "vector in [-oo, oo]"} and unbounded["spectrum"]["radius"] is None


@pytest.mark.parametrize("name", list(dsf.architectures()))
def test_check_of_every_architecture_passes(name):
    document = parsed("check", name)
    assert document["spectrum"]["check"] in (True, None) and document["parity"]["check"] in (True, None)
    assert (document["parity"]["answer"] is None) == (document["parity"]["check"] is None)


def test_undecided_is_no_failure():
    args = "check", "softmax_attention", "--precision", "log"  # in the margin regime it is refuted
    document = parsed(*args)
    assert document["parity"]["answer"] is None and document["spectrum"]["check"] is None
    assert "check       none" in run(*args).stdout
    assert parsed(*args[:2])["parity"]["answer"] is False


def test_a_failed_check_is_status_one(monkeypatch):
    monkeypatch.setattr(dsf.Verdict, "check", lambda self: False)
    assert parsed("check", "deltanet", status=1)["parity"]["check"] is False
    assert "FAILED" in run("check", "deltanet", status=1).stdout


def test_check_of_a_model(model):
    (document,) = parsed("check", model, "--length", 80)["models"]
    assert document["layers"].keys() == {"recurrent.layer0", "recurrent.layer1"}
    assert document["text"] == "the first 80 bytes of json/decoder.py of the standard library"
    for layer in document["layers"].values():
        assert layer["spectrum"]["eigenvalues_of"] == "the Jacobian of (x, y)" and layer["spectrum"]["check"] is True
        assert layer["parity"]["answer"] is True and "not with these" in layer["parity"]["speaks_of"]
        assert layer["weights"]["horizon"] is None
        assert layer["weights"]["no_horizon_because"] == "a function of the state"
    assert "recurrent.layer1" in run("check", model, "--length", 80).stdout


# ------------------------------------------------------------------------------------------------------------ convert


def test_convert_prints_one_table_and_what_it_means(model):
    result = run("convert", model, "--length", 200)
    for word in ("recurrent.layer0", "recurrent.layer1", "LSTM", "Diagonal", "time const.", "every 64", "yes"):
        assert word in result.stdout
    first = " ".join(result.stdout.split("\n\n")[0].split())
    assert first.startswith(f"{model} (ByteModel, 7,") and "on the first 200 bytes of json/decoder.py" in first
    assert result.stdout.splitlines()[-1] == f"Next: dsf check {model}"
    assert "what the state carries is needed" in " ".join(result.stdout.split())
    assert result.stderr.startswith("dsf: running ByteModel on 200 bytes") and "running" not in result.stdout


def test_convert_as_json(model, tmp_path):
    text = tmp_path / "text"
    text.write_bytes(b"to be, or not to be: " * 10)
    (document,) = parsed("convert", model, "--text", text, "--length", 150)["models"]
    assert document["model"] == str(model) and document["class"] == "ByteModel" and document["parameters"] > 1000
    assert document["text"] == f"the first 150 bytes of {text}" and document["unconverted"] == {}
    for path, row in zip(("recurrent.layer0", "recurrent.layer1"), document["layers"], strict=True):
        assert row["layer"] == path and row["tokens"] == 150 and row["state_size"] == 12
        assert row["error"] < 1e-5 < 1e-3 < row["control"]["error"] and row["control"]["reset_every"] == 64
        assert 0 < row["moduli"][0] < row["moduli"][1] < 10 and row["parity"]["answer"] is True
    (short,) = parsed("convert", model, "--text", text, "--length", 64)["models"]
    assert [row["control"]["error"] for row in short["layers"]] == [None, None]
    assert "too short for the control" in " ".join(run("convert", model, "--text", text, "--length", 64).stdout.split())


# ------------------------------------------------------------------------------------------------------------- errors


def test_unknown_names():
    assert "Did you mean deltanet" in error("show", "deltanot") and "dsf list" in error("show", "deltanot")
    assert "There is no such folder either" in error("check", "deltanot")
    assert "./no/such is no folder" in error("check", "./no/such")
    assert "nosuch is no folder" in error("convert", "nosuch")
    assert "lstm is an architecture" in error("convert", "lstm")


def test_wrong_domains(model):
    assert "--set takes two ends" in error("check", "deltanet", "--set", "beta=2")
    assert "--set takes two ends" in error("check", "deltanet", "--set", "beta=2,0")
    assert "--set takes two ends" in error("check", "deltanet", "--set", "beta=a,b")
    assert "unit vector" in error("check", "deltanet", "--set", "k=0,1")
    assert "has the signals q, k, beta, not 'z'" in error("check", "deltanet", "--set", "z=0,1")
    assert "--set and --save are for one architecture" in error("check", model, "--set", "beta=0,1")


def test_wrong_models_and_texts(model, tmp_path):
    pickled = tmp_path / "model.pt"
    torch.save({}, pickled)
    assert "is a pickle, which can run code, and is not opened" in error("convert", pickled)
    (tmp_path / "config.json").write_text((model / "config.json").read_text())
    assert "pickles can run code and are not opened" in error("convert", tmp_path)
    assert "nofile is not a file" in error("convert", model, "--text", "nofile")
    (tmp_path / "empty").touch()
    result = run("convert", model, "--text", tmp_path / "empty", status=2)
    assert "the text is empty" in result.stderr and result.stdout == ""
    assert "holds nothing that dsf converts" in error_of_unconvertible(model)


def error_of_unconvertible(model):
    """A checkpoint whose module has no recurrence: today's format knows none, so one is put in its place."""
    from unittest import mock

    with mock.patch("dsf.opened_models.load_checkpoint", lambda folder: (torch.nn.Linear(1, 1), {})):
        result = run("convert", model, status=2)
    return result.stderr.splitlines()[-1]


def test_wrong_usage():
    assert run("convert", status=2).stdout == ""
    assert run("bogus", status=2).stdout == ""
    assert run("convert", "x", "--length", 0, status=2).stdout == ""


def test_an_unforeseen_error_is_one_line_too(monkeypatch):
    monkeypatch.setattr(dsf, "architectures", lambda: 1 / 0)
    assert error("list") == "dsf: ZeroDivisionError: division by zero (not foreseen; DSF_TRACEBACK=1 shows where)"


def test_long_errors_are_cut():
    from dsf.cli_output import LONGEST, fail

    with pytest.raises(Exception) as caught:
        fail("first line\n\n  second " + "x" * 5000)
    assert type(caught.value).__name__ == "Exit" and caught.value.exit_code == 2
    assert len(error("show", "n" * 3000)) < LONGEST + 20


# -------------------------------------------------------------------------------------------------------- FILE.py:NAME

MINE = """
import helper_beside
import dsf
from dsf import I, Scalar, System, Unit, Vector, architecture, outer

@architecture("My delta rule", register=False)
def mine(q=Vector, k=Unit, beta=Scalar(0, 2)):
    return System(A=I - beta * outer(k), B=beta * k, C=q)

def made():
    return mine.with_domain(beta=dsf.Gate)

def needs(size):
    return mine

def fails():
    raise KeyError("inside")

layer = dsf.Mixer(mine, d_model=4, heads=2)
system = mine(**mine.sample(1, 1, 1, 2, 1)[0])
number = 3
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "helper_beside.py").write_text("found = True\n")
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path / "mine.py"


@pytest.mark.parametrize("name, answer", [("mine", True), ("made", False), ("layer", True)])
def test_check_of_an_architecture_in_a_file(file, name, answer):
    document = parsed("check", f"{file}:{name}")
    assert document["file"] == f"{file}:{name}" and document["architecture"] == "mine"
    assert document["parity"]["answer"] is answer and document["spectrum"]["check"] is True
    assert str(file.parent) not in sys.path and "mine" not in dsf.architectures()


def test_a_file_takes_the_other_options_too(file):
    assert parsed("check", f"{file}:mine", "--set", "beta=0,1")["parity"]["answer"] is False
    assert "x_t = (I - beta_t k_t k_t^T) x_{t-1}" in run("show", f"{file}:mine").stdout
    system = parsed("check", f"{file}:system")
    assert system["spectrum"]["subject"] == "A_t of these numbers" and "parity" in system
    assert "My delta rule, dsf name mine" in run("show", f"{file}:system").stdout


def test_mistakes_in_files(file, tmp_path):
    assert "no.py is not a file: give FILE.py:NAME" in error("check", tmp_path / "no.py:mine")
    assert "say which architecture" in error("show", file) and "it has mine, system" in error("show", file)
    assert "defines no nosuch; it has mine, system" in error("check", f"{file}:nosuch")
    assert "number of " in error("check", f"{file}:number") and "is of type int" in error("check", f"{file}:number")
    assert "needs arguments (size)" in error("check", f"{file}:needs")
    assert "mine.py, line 17: KeyError: 'inside'" in error("check", f"{file}:fails")
    broken = tmp_path / "broken.py"
    broken.write_text("x = 1\nx / 0\n")
    assert error("check", f"{broken}:x") == f"dsf: {broken}, line 2: ZeroDivisionError: division by zero"
    broken.write_text("x = 1\n\ndef f(:\n")
    assert f"{broken}, line 3: SyntaxError" in error("show", f"{broken}:x")
    broken.write_text("import nosuchpackage\n")
    assert "line 1: ModuleNotFoundError: No module named 'nosuchpackage'" in error("show", f"{broken}:x")
    broken.write_text("raise SystemExit(3)\n")
    assert "line 1: SystemExit: 3" in error("show", f"{broken}:x")
    assert str(tmp_path) not in sys.path


# ------------------------------------------------------------------------------------------------------ entry point


def test_the_entry_point_and_a_light_import():
    code = """
import dsf, sys
assert not {"typer", "rich", "safetensors"} & set(sys.modules)
import dsf.cli
dsf.cli.main()
"""
    found = subprocess.run(
        [sys.executable, "-c", code, "list", "--json"], capture_output=True, text=True, env=environment()
    )
    assert found.returncode == 0, found.stderr
    assert len(json.loads(found.stdout)) == len(dsf.architectures()) and found.stderr == ""


def environment():
    """This process's import path, for a child."""
    import os

    return os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
