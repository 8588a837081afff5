"""Holonomy cascades: run word by word beside the automaton, from every state, until no coordinates are new."""

import pytest
from hypothesis import given

from dsf_analysis.languages import holonomy
from dsf_analysis.languages.automaton import TooLarge
from dsf_analysis.languages.classes import algebra_of
from dsf_analysis.languages.holonomy import cascade_of
from dsf_analysis.languages.sources import Language, language
from naive_monoids import automata, monoid
from test_language_algebra import full, maps_on


def holds(a):
    """Checks a cascade against its automaton at all coordinates that words reach from those of any state."""
    c = cascade_of(a)
    widths = [c.width(level) for level in range(c.height, 0, -1)]
    found = {c.encode(q) for q in range(a.size)}
    queue = list(found)
    for x in queue:
        q = c.decode(x)
        assert len(x) == c.height and all(0 <= at < w for at, w in zip(x, widths, strict=True))
        for letter, after in enumerate(a.table[q]):
            y = c.step(x, letter)
            assert c.decode(y) == after
            for place, level in enumerate(range(c.height, 0, -1)):  # a step is what its levels do, each by its own
                kind, what = c.action(level, x[:place], letter)
                assert y[place] == (what[0] if kind == "reset" else what[x[place]])
                assert len(what) == (1 if kind == "reset" else widths[place])
                assert kind == "reset" or sorted(what) == list(range(widths[place]))
            if y not in found:
                found.add(y)
                queue.append(y)
    assert set(c.reachable) <= found
    return c


@given(automata(states=6))
def test_a_cascade_is_its_automaton(a):
    c = holds(a)
    assert all(c.decode(c.encode(q)) == q for q in range(a.size))
    assert c.aperiodic == algebra_of(a).aperiodic
    assert c.height <= 2**a.size and all(2 <= c.width(level) <= 2**a.size for level in range(1, c.height + 1))
    for level in range(1, c.height + 1):
        above = {x[: c.height - level] for x in c.reachable}
        assert c.actions(level).keys() == {(x, letter) for x in above for letter in range(len(a.letters))}


@given(automata(states=5))
def test_sets_and_heights_by_their_definition(a):
    """P <= R iff P lies in an image of R: heights count the classes on the longest way down."""
    c, M = cascade_of(a), monoid(a)
    sets = {frozenset(x) for x in M} | {frozenset([q]) for q in range(a.size)}
    assert c.heights.keys() == sets
    under = {R: {P for P in sets if any(P <= {x[q] for q in R} for x in M)} for R in sets}

    def height(R):
        below = [P for P in under[R] if R not in under[P]]
        return 0 if len(R) == 1 else 1 + max(map(height, below), default=0)

    assert all(c.heights[R] == height(R) for R in sets)
    for P, R in c.representative.items():
        assert P in under[R] and R in under[P] and {c.into[P][q] for q in R} == P
        assert all(c.back[P][c.into[P][q]] == q for q in R)
    for R, tiles in c.tiles.items():
        parts = [P for P in sets if P < R]
        assert set(tiles) == {P for P in parts if not any(P < Q for Q in parts)} and frozenset().union(*tiles) == R


@pytest.mark.parametrize(
    "name, widths, kinds",
    [
        ("parity", [2], ["permutes"]),
        ("S4", [24], ["permutes"]),
        ("flip-flop", [2], ["resets"]),
        ("length mod 6", [6], ["permutes"]),
        ("dyck-1 depth 2", [2, 2, 2], ["resets"] * 3),
        ("even pairs", [3, 2], ["resets"] * 2),
        ("(a|b)*", [], []),
    ],
)
def test_levels_by_hand(name, widths, kinds):
    if "(" in name:
        pytest.importorskip("automata", reason='needs the extra "languages"')
    c = holds(language(name).automaton)
    levels = c.to_dict()["levels"]
    assert [level["width"] for level in levels] == widths and [level["kind"] for level in levels] == kinds
    assert c.to_dict()["height"] == len(widths) and c.aperiodic == ("permutes" not in str(kinds))


def test_all_maps_have_a_level_for_each_rank():
    c = holds(full(4))
    assert [c.width(level) for level in range(c.height, 0, -1)] == [4, 3, 2]
    assert c.kind(3) == c.kind(2) == c.kind(1) == "permutes and resets"


def test_a_long_permutation_of_a_set_is_undone_at_once():
    """A letter of period 3 * 5 * 7 * 11 on the states that a reset leaves."""
    permutation = []
    for n in (3, 5, 7, 11):
        start = len(permutation)
        permutation += [start + (i + 1) % n for i in range(n)]
    onward = [*range(1, 26), 0]
    assert cascade_of(maps_on(26, permutation, onward)).kind(1) == "permutes"


@pytest.mark.parametrize("name", ["A7", "mod 1000", "dyck-1 depth 900", "D_1000"])
def test_large_ones_are_unknown(name):
    found = language(name)
    assert found.cascade is None and "the cascade is not computed" in found.unknown["cascade"]


def test_caps(monkeypatch):
    many = full(6)  # 2^6 - 1 sets, 6! coordinates
    with monkeypatch.context() as patch:
        patch.setattr(holonomy, "MOST_SETS", 62)
        with pytest.raises(TooLarge, match="over 62 sets of states"):
            cascade_of(many)
    monkeypatch.setattr(holonomy, "MOST_STEPS", 720 * 3 * 5 - 1)
    assert cascade_of(many).height == 5
    found = Language("all maps", many)
    assert found.cascade is None and "coordinates take over 10,799 steps" in found.unknown["cascade"]
    monkeypatch.setattr(holonomy, "MOST_STEPS", 720 * 3 * 5)
    assert len(Language("all maps", many).cascade.reachable) == 720
