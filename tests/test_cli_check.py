"""`dsf check` with languages, `--all`, saved verdicts; `dsf theorems`."""

import csv
import json
import subprocess
import sys

import pytest

import dsf
from dsf_analysis.matrix import TASKS, matrix
from dsf_analysis.recognition import RECOGNITION
from dsf_analysis.saved_verdicts import seal_of
from dsf_analysis.theorems import THEOREMS
from long_cases import some_slow
from test_cli import environment, error, parsed, run

SOME = ("lssl", "short_convolution", "gla")


def some_architectures(monkeypatch):
    """Three of them, so that a matrix is quick."""
    found = {name: dsf.architecture_named(name) for name in SOME}
    monkeypatch.setattr(dsf, "architectures", lambda: found)


# ---------------------------------------------------------------------------------------------------------- languages


def test_languages_beside_parity():
    args = "check", "deltanet", "--set", "beta=0,2", "--language", "S3", "--language", "flip-flop"
    document = parsed(*args)
    assert document["parity"]["answer"] is True and document["languages"].keys() == {"S3", "flip-flop"}
    assert [row["answer"] for row in document["languages"].values()] == [True, True]
    assert all(row["check"] is True and row["regimes"] for row in document["languages"].values())
    shallow = parsed(*args, "--depth", 1)["languages"]
    assert shallow["S3"]["answer"] is False and shallow["S3"]["layers"] == "1 layer" and shallow["S3"]["fix"]
    out = run(*args, "--depth", 1).stdout
    for words in ("S3: Does DeltaNet recognise S3", "theorem", "proved for  1 layer; precision: margin", "to change"):
        assert words in out


def test_languages_from_files_and_expressions(tmp_path):
    pytest.importorskip("automata")
    file = tmp_path / "mine.json"
    rows = {"e": {"a": "o", "b": "e"}, "o": {"a": "e", "b": "o"}}
    file.write_text(
        json.dumps({"states": ["e", "o"], "alphabet": ["a", "b"], "transitions": rows, "initial": "e", "accepting": []
                    } | {"accepting": ["o"]})
    )  # fmt: skip
    found = parsed("check", "gla", "--language", file, "--language", "(a|b)*abb")["languages"]
    assert [row["answer"] for row in found.values()] == [False, True]
    assert list(found) == ["mine.json", "the regular expression (a|b)*abb"]


def test_a_language_of_an_architecture_in_a_file(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import dsf\nfrom dsf import System, Vector, architecture, diag\n\n"
        "@architecture('Mine', register=False)\ndef mine(q=Vector, k=Vector, a=Vector(-1, 1)):\n"
        "    return System(A=diag(a), B=k, C=q)\n"
    )
    found = parsed("check", f"{tmp_path / 'mine.py'}:mine", "--language", "mod 3")
    assert found["parity"]["answer"] is True and found["languages"]["mod 3"]["answer"] is False


def test_regimes():
    assert parsed("check", "gla")["parity"]["answer"] is False
    assert parsed("check", "gla", "--precision", "log")["parity"]["answer"] is None
    assert "--precision is one of margin, finite, machine, log" in error("check", "gla", "--precision", "fp8")


def test_mistakes():
    assert "neither a name nor a regular expression" in error("check", "gla", "--language", "(a")
    assert "name an architecture, a model's folder or a saved verdict" in error("check")
    assert "--all takes --language" in error("check", "gla", "--all")
    assert "--csv is for --all" in error("check", "gla", "--csv", "x.csv")
    assert "is not a folder" in error("check", "--all", "--csv", "no/such/x.csv")
    assert run("check", "gla", "--depth", 0, status=2).stdout == ""


# ------------------------------------------------------------------------------------------------------------- saving


@pytest.mark.parametrize("task, answer", some_slow([("flip-flop", True), ("S3", False)], ("S3", False)))
def test_a_saved_verdict_is_checked_in_a_fresh_process(tmp_path, task, answer):
    file = tmp_path / "verdict.json"
    out = run("check", "gla", "--language", task, "--save", file).stdout
    assert f"Saved in {file}; next: dsf check {file}" in out
    command = [sys.executable, "-m", "dsf", "check", str(file), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["check"] is True and found["answer"] is answer


def test_a_damaged_verdict_is_status_one(tmp_path):
    file = tmp_path / "verdict.json"
    run("check", "gla", "--language", "flip-flop", "--save", file)
    row = json.loads(file.read_text())
    row["verdict"]["answer"] = False
    file.write_text(json.dumps(row))
    assert "was changed since it was saved" in error("check", file)
    file.write_text(json.dumps(row | {"seal": seal_of(row)}))
    assert "check       FAILED: StackWitness.check()" in run("check", file, status=1).stdout
    assert parsed("check", file, status=1)["check"] is False


def test_what_cannot_be_saved_or_read(tmp_path):
    file = tmp_path / "verdict.json"
    result = run("check", "gla", "--precision", "log", "--save", file, status=2)
    assert "an undecided verdict has no certificate to save" in result.stderr and not file.exists()
    assert "--save writes one verdict" in error(
        "check", "gla", "--language", "S3", "--language", "S4", "--save", file
    )  # fmt: skip
    file.write_text("{}")
    assert "holds no verdict" in error("check", file)
    assert "is not a file" in error("check", tmp_path / "no.json")


# --------------------------------------------------------------------------------------------------------- the matrix


def test_the_matrix(monkeypatch, tmp_path):
    some_architectures(monkeypatch)
    result = run("check", "--all", "--csv", tmp_path / "m.csv")
    lines = result.stdout.splitlines()
    row = {line.split()[0]: line.split()[1:] for line in lines if line.split()[:1] and line.split()[0] in SOME}
    assert row["gla"] == ["no"] * 3 + ["yes"] * 3 + ["no"] * 5 + ["yes"]
    assert row["lssl"][:4] == ["no*"] * 4 and "?" in row["lssl"] and row["short_convolution"] == ["no"] * 12
    assert max(map(len, lines)) <= 100 and "yes: some weights of it" in result.stdout
    assert "33 of 36 are decided, and 33 certificates passed" in result.stdout
    assert result.stderr.startswith("dsf: 3 architectures, 12 languages")
    with (tmp_path / "m.csv").open() as stream:
        found = list(csv.DictReader(stream))
    assert len(found) == 36 and found[0]["architecture"] == "lssl" and found[0]["own"] == "True"
    assert {row["check"] for row in found if row["answer"]} == {"True"}


@pytest.mark.slow
def test_the_matrix_of_other_languages(monkeypatch):
    some_architectures(monkeypatch)
    document = parsed("check", "--all", "--language", "mod 5", "--depth", 2)
    assert document["layers"] == 2 and list(document["architectures"]) == list(SOME)
    for (cell,) in document["architectures"].values():
        assert cell["language"] == "mod 5" and cell["answer"] is False and cell["check"] is True
        assert cell["layers"] == "2 layers"


def test_a_failed_certificate_is_in_the_matrix_and_in_the_status(monkeypatch):
    some_architectures(monkeypatch)
    monkeypatch.setattr("dsf_analysis.matrix.processors", lambda: 1)
    monkeypatch.setattr(dsf.Verdict, "check", lambda self: False)
    out = run("check", "--all", "--language", "parity", status=1).stdout
    assert out.count("FAILED") == 4 and "0 certificates passed" in out  # three and the legend


def test_a_narrow_matrix(monkeypatch):
    some_architectures(monkeypatch)
    monkeypatch.setattr("dsf_analysis.matrix.processors", lambda: 1)
    monkeypatch.setattr("dsf.cli_output.width", lambda: 60)
    out = run("check", "--all").stdout
    assert max(map(len, out.splitlines())) <= 60
    assert "gla  no: parity, mod 3, cyclic 12" in out


@pytest.mark.slow
def test_processes_find_what_one_finds():
    languages = [task for task in TASKS if task != "random aperiodic 0"][:5]
    one, two = (dict(matrix(SOME, languages, workers=n)) for n in (1, 2))
    assert one == two and all(cell.check is True for cells in one.values() for cell in cells if cell.answer is not None)


# ----------------------------------------------------------------------------------------------------------- theorems


def test_theorems():
    document, out = parsed("theorems"), " ".join(run("theorems").stdout.split())
    (rules,) = document["tables"].values()
    assert [row["name"] for row in rules] == [rule.name for rule in RECOGNITION.rules]
    assert [row["cite"] for row in document["theorems"]] == [t.cite for t in THEOREMS]
    for number, rule in enumerate(RECOGNITION.rules, 1):
        assert f"{number} {rule.name}: {rule.answer} if {rule.condition}" in out
    for theorem in THEOREMS:
        mark = "own derivation, proof in docs/theorems.md; " if theorem.own else ""
        assert f"{theorem.cite}: {mark}{theorem.statement}" in out
    assert {rule.theorem for rule in RECOGNITION.rules if rule.theorem} <= set(THEOREMS)
