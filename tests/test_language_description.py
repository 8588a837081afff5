"""What is said of a language: lines, JSON, pictures, and the command `dsf language`."""

import json

import pytest

from dsf_analysis.languages.description import lines, table, to_dict
from dsf_analysis.languages.sources import language
from test_cli import error, parsed, run

ABB = """\
the regular expression (a|b)*abb: a minimal automaton of 4 states
          a    b
-> (0)    (1)  (0)
   (1)    (1)  (2)
   (2)    (1)  ((3))
   ((3))  (1)  (0)

monoid              7 elements; no group
aperiodic           yes: star-free
R-, L-, J-trivial   no, yes, no
quasi-aperiodic     yes
subgroups           trivial ones only
circuit class       AC0
holonomy cascade    3 levels
                      level 3: 2 wide, resets
                      level 2: 2 wide, resets
                      level 1: 2 wide, resets
"""


def said(name):
    return " ".join("\n".join(lines(language(name))).split())


def test_the_lines_of_an_expression():
    pytest.importorskip("automata", reason='needs the extra "languages"')
    assert "\n".join(lines(language("(a|b)*abb"))) + "\n" == ABB


@pytest.mark.parametrize(
    "name, words",
    [
        ("parity", "monoid 2 elements; a group aperiodic no: period 2 R-, L-, J-trivial no, no, no"),
        ("parity", "order 2, exponent 2, abelian, derived length 1, a 2-group (1 step of signs)"),
        ("D_4", "order 8, exponent 4, not abelian, derived length 2, a 2-group (2 steps of signs)"),
        ("S3", "order 6, exponent 6, not abelian, derived length 2 circuit class ACC0, within TC0"),
        ("A5", "order 60, exponent 30, not abelian, not solvable circuit class NC1-complete (Barrington)"),
        ("length mod 2", "quasi-aperiodic yes"),
        ("modular arithmetic 3", "cascade 3 levels level 3: 2 wide, resets level 2: 3 wide, permutes and resets"),
    ],
)
def test_what_is_said(name, words):
    assert words in said(name)


def test_what_a_cap_leaves_open_is_unknown():
    found = said("dyck-1 depth 300")
    assert "monoid unknown (monoid over 200,000 elements); no group" in found
    for fact in ("aperiodic", "R-, L-, J-trivial", "quasi-aperiodic", "subgroups", "circuit class"):
        assert f"{fact} unknown (monoid over 200,000 elements)" in found
    assert "holonomy cascade unknown (its sets of states take over 600,000 steps" in found
    row = to_dict(language("dyck-1 depth 300"))
    assert row["monoid"] is None and row["cascade"] is None and row["unknown"].keys() == {"monoid", "cascade"}


def test_long_tables_are_cut_and_alike_letters_share_a_column():
    cut = table(language("modular arithmetic 12").automaton)
    assert len(cut) == 42 and cut[-1] == "   ... and 249 states and 3 columns more, all of which --json prints"
    assert len(cut[0].split()) == 12 and len(cut[1].split()) == 14
    assert table(language("S5").automaton)[-1] == "   ... and 80 states more, all of which --json prints"
    alike = {q: {"a": 1, "b": 0, "c": 1} for q in (0, 1)}
    row = {"states": [0, 1], "alphabet": list("abc"), "initial": 0, "accepting": [1], "transitions": alike}
    assert table(language(row).automaton)[0].split("  ")[-2:] == ["a, c", " b"]


@pytest.mark.parametrize("name", ["parity", "S4", "even pairs", "dyck-1 depth 2", "A5"])
def test_plain_data(name):
    x, row = language(name), json.loads(json.dumps(to_dict(language(name))))
    assert row["language"] == name and language(row["automaton"]).automaton == x.automaton and row["unknown"] == {}
    assert row["monoid"]["size"] == x.algebra.size and row["monoid"]["circuit_class"] == x.algebra.circuit_class
    assert [g["order"] for g in row["monoid"]["subgroups"]] == [g.order for g in x.algebra.subgroups]
    assert (row["monoid"]["derived_length"] is None) == (name == "A5") == (not row["monoid"]["solvable"])
    assert row["cascade"]["height"] == len(row["cascade"]["levels"]) == x.cascade.height


# ------------------------------------------------------------------------------------------------------------- pictures


@pytest.fixture
def drawing():
    pytest.importorskip("matplotlib", reason='needs the extra "plot"')
    from dsf_analysis.languages import drawing

    return drawing


def curves(drawing, a):
    """Points of all arrows, the one into the initial state first."""
    from matplotlib.figure import Figure

    made = drawing.Drawing(Figure().subplots(), a)
    made.draw()
    return made.curves


@pytest.mark.parametrize("name", ["parity", "S3", "mod 5", "dyck-1 depth 3", "even pairs", "modular arithmetic 2"])
def test_every_state_and_transition_is_drawn_once(drawing, name):
    a = language(name).automaton
    (axes,) = drawing.plot_automaton(language(name)).axes
    circles = [p for p in axes.patches if type(p).__name__ == "Circle"]
    arrows = [p for p in axes.patches if type(p).__name__ == "FancyArrowPatch"]
    assert len(circles) == a.size + len(a.accepting)  # accepting ones are double
    assert len(arrows) == len({(q, r) for q, row in enumerate(a.table) for r in row}) + 1  # one into the initial state
    texts = [t.get_text() for t in axes.texts]
    assert sorted(texts) == sorted([*map(str, range(a.size)), *drawing.edges(a).values()])
    assert axes.get_title() == name
    inside = [axes.get_xlim()[0] <= x <= axes.get_xlim()[1] for x, _ in (t.get_position() for t in axes.texts)]
    assert all(inside)


@pytest.mark.parametrize("name", ["S3", "A4", "mod 5", "dyck-1 depth 6", "ones mod 12"])
def test_no_state_lies_on_another_and_no_arrow_crosses_one(drawing, name):
    a = language(name).automaton
    at = drawing.positions(a)
    gaps = [((at[p] - at[q]) ** 2).sum() ** 0.5 for p in range(a.size) for q in range(p)]
    assert min(gaps) >= drawing.APART - 1e-9
    for points in curves(drawing, a):
        touched = [q for q in range(a.size) if (((points - at[q]) ** 2).sum(1) ** 0.5).min() < 0.9 * drawing.RADIUS]
        assert not touched, "an arrow ends at the rims of its own states and touches no other"


def test_arrows_there_and_back_are_two(drawing):
    _, there, back = curves(drawing, language("length mod 2").automaton)
    gaps = (((there[:, None] - back) ** 2).sum(-1) ** 0.5).min(1)
    assert gaps[len(gaps) // 2] > 0.1


def test_an_arrow_goes_round_the_states_on_its_way(drawing, monkeypatch):
    """Three states on a line, and an arrow from the first to the last."""
    line = {"0": {"a": "1", "b": "2"}, "1": {"a": "2", "b": "1"}, "2": {"a": "2", "b": "2"}}
    row = {"states": "0 1 2".split(), "alphabet": ["a", "b"], "initial": "0", "accepting": ["2"], "transitions": line}
    at = drawing.np.array([[0.0, 0.0], [1.25, 0.0], [2.5, 0.0]])
    monkeypatch.setattr(drawing, "positions", lambda a: at)
    arrows = curves(drawing, language(row).automaton)
    (long,) = [points for points in arrows if abs(points[0, 0] - points[-1, 0]) > 1.5]
    assert (((long - at[1]) ** 2).sum(1) ** 0.5).min() > drawing.RADIUS + 0.05


def test_letters_of_parallel_arrows_are_one_label(drawing):
    parity, five = language("length mod 2").automaton, language("modular arithmetic 9").automaton
    assert drawing.edges(parity) == {(0, 1): "1", (1, 0): "1"}
    assert drawing.edges(language("dyck-1 depth 1").automaton)[2, 2] == "(, )"
    assert all(len(label) <= 24 for label in drawing.edges(five).values())


@pytest.mark.parametrize("suffix, start", [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_files_by_their_suffix(drawing, tmp_path, suffix, start):
    drawing.plot_automaton(language("S3"), tmp_path / f"s3.{suffix}")
    assert (tmp_path / f"s3.{suffix}").read_bytes().startswith(start)


def test_what_is_not_drawn(drawing, tmp_path):
    with pytest.raises(ValueError, match=r"one of \.png, \.svg, \.pdf"):
        drawing.plot_automaton(language("S3"), tmp_path / "s3.gif")
    with pytest.raises(ValueError, match="up to 60 states are drawn, and this has 120"):
        drawing.plot_automaton(language("S5"), tmp_path / "s5.png")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------------- the command


def test_the_command(tmp_path):
    pytest.importorskip("automata", reason='needs the extra "languages"')
    assert run("language", "(a|b)*abb").stdout == ABB
    document = parsed("language", "S5")
    assert document == json.loads(json.dumps(to_dict(language("S5"))))
    (tmp_path / "mine.json").write_text(json.dumps(document["automaton"]))
    assert run("language", tmp_path / "mine.json").stdout.splitlines()[1:] == lines(language("S5"))[1:]


def test_the_command_draws(drawing, tmp_path):
    file = tmp_path / "parity.png"
    assert run("language", "parity", "--plot", file).stdout.splitlines()[-1] == f"Drawn in {file}"
    assert file.read_bytes().startswith(b"\x89PNG")
    assert parsed("language", "parity", "--plot", file)["plot"] == str(file)


def test_mistakes_are_one_line(tmp_path):
    pytest.importorskip("automata", reason='needs the extra "languages"')
    assert "neither a name nor a regular expression" in error("language", "(a")
    assert "names are: parity, mod M" in error("language", "")
    assert "over 2,000 states" in error("language", "(a|b)*a(a|b){15}")
    assert "holds no automaton in JSON" in error("language", tmp_path / "no.json")
    assert ".png, .svg, .pdf" in error("language", "parity", "--plot", tmp_path / "x.gif")
    assert "up to 60 states" in error("language", "S5", "--plot", tmp_path / "x.png")
    assert "No such file or directory" in error("language", "parity", "--plot", tmp_path / "no" / "x.png")
