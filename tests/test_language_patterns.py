"""Words that defeat a kind of network: found where they exist, checked by running them, refused once corrupted."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings

import naive_monoids as naive
from dsf_analysis.languages import patterns, search
from dsf_analysis.languages.automaton import Automaton
from dsf_analysis.languages.patterns import Clash, Period, Permuting, pattern_of_json, pattern_to_json
from dsf_analysis.languages.sources import Language, language
from naive_monoids import automata
from test_language_algebra import in_step


def passes(found, a):
    assert found.check(a) and found.said(a)
    row = json.loads(json.dumps(pattern_to_json(found)))
    assert pattern_of_json(row) == found
    return True


def cycles(f):
    """Lengths of the cycles of a map."""
    limit = f
    for _ in f:
        limit = naive.then(limit, f)
    return {next(n for n in range(1, len(f) + 1) if power(f, n)[q] == q) for q in set(limit)}


def power(f, n):
    found = tuple(range(len(f)))
    for _ in range(n):
        found = naive.then(found, f)
    return found


def components(a):
    reach = [set(a.words_to(q)) for q in range(a.size)]
    return [{r for r in reach[q] if q in reach[r]} for q in range(a.size)], reach


# ------------------------------------------------------------------------------------------------------------ periods


@given(automata())
def test_letters_that_are_counted(a):
    lengths = set().union(*(cycles(tuple(f)) for f in a.maps.tolist()))
    for wanted in (lambda n: n > 1, lambda n: n % 2 == 1, lambda n: n > 2, lambda n: n == 3):
        found = search.letter_period(Language("", a), wanted)
        divisors = {d for n in lengths for d in range(2, n + 1) if n % d == 0}
        assert found is not None or not any(map(wanted, lengths - {1}))
        if found is not None:
            assert passes(found, a) and wanted(found.period) and found.period in divisors and len(found.u) == 1


@given(automata(states=5))
def test_words_that_are_counted(a):
    M = naive.monoid(a)
    found = search.word_period(Language("", a), lambda n: n > 1)
    assert (found is not None) == any(naive.powers(x)[1] > 1 for x in M)
    assert found is None or passes(found, a)


def even_elements(a):
    layers, letters = naive.layers(a), [tuple(f) for f in a.maps.tolist()]
    one = {tuple(range(a.size))}
    found, now = set(), one
    for _ in range(2 * (len(layers) + 1) ** 2):
        now = {naive.then(naive.then(x, f), g) for x in now for f in letters for g in letters}
        if now <= found:
            break
        found |= now
    return found


@settings(max_examples=60)
@given(automata(states=4, letters=2) | in_step(2))
def test_even_words_that_are_counted(a):
    found = search.even_period(Language("", a))
    assert (found is not None) == any(naive.powers(x)[1] > 1 for x in even_elements(a))
    assert found is None or (passes(found, a) and len(found.u) % 2 == 0)


def test_a_period_that_is_none():
    parity = language("parity").automaton
    good = search.letter_period(language("parity"), lambda n: n > 1)
    assert good == Period((), (1,), (), 2) and good.check(parity)
    for wrong in ({"period": 4}, {"period": 3}, {"period": 1}, {"period": 0}, {"u": ()}, {"u": (0,)}, {"u": (1, 1)}):
        assert not replace(good, **wrong).check(parity)
    six = search.letter_period(language("ones mod 6"), lambda n: n > 2)
    assert six.period == 6 and not replace(six, period=3).check(language("ones mod 6").automaton)
    assert not good.check(language("flip-flop").automaton)


# --------------------------------------------------------------------------------------------------------- permutations


@settings(max_examples=60)
@given(automata(states=5))
def test_groups_that_take_more_layers(a):
    x = Language("", a)
    for series, length in (("derived", x.algebra.derived_length), ("sign", x.algebra.sign_length)):
        for most in (0, 1, 2):
            found = search.permuting(x, series, most)
            assert (found is not None) == (length > most)
            if found is not None:
                assert passes(found, a)
                assert not replace(found, length=(found.length or 0) + 1).check(a)


@pytest.mark.parametrize("name, series, length", [
    ("S3", "derived", 2), ("S4", "derived", 3), ("A5", "derived", None), ("S5", "derived", None), ("D_4", "sign", 2),
    ("Q8", "sign", 2), ("cyclic 8", "sign", 3), ("mod 3", "sign", None), ("S3", "sign", None), ("parity", "sign", 1),
])  # fmt: skip
def test_series_of_groups(name, series, length):
    x = language(name)
    found = search.permuting(x, series, 0)
    assert found.length == length and passes(found, x.automaton)
    a, other = x.automaton, "sign" if series == "derived" else "derived"
    assert not replace(found, length=2 if length is None else None).check(a)
    assert not replace(found, words=()).check(a) and not replace(found, words=((), *found.words)).check(a)
    assert not replace(found, points=(found.points[0],) * len(found.points)).check(a)
    assert not replace(found, points=found.points[:-1]).check(a) or len(found.points) == 2
    assert not replace(found, points=(*found.points[:-1], a.size)).check(a)
    if name in ("S3", "S4", "mod 3"):
        assert not replace(found, series=other).check(a)


def test_a_group_beyond_what_a_check_goes_through(monkeypatch):
    s5 = language("S5")
    found = search.permuting(s5, "derived", 1)
    monkeypatch.setattr(patterns, "LARGEST", 119)
    assert not found.check(s5.automaton)


# -------------------------------------------------------------------------------------------------------------- clashes


def fixes_two(a, pairs):
    """Does some word that is not empty lead both states of one of the pairs back to themselves?"""
    letters = [tuple(f) for f in a.maps.tolist()]
    some = {naive.then(x, f) for x in naive.monoid(a) for f in letters}
    return any(x[p] == p and x[q] == q for x in some for p, q in pairs)


@settings(max_examples=80)
@given(automata(states=5))
def test_no_window_tells_states_apart(a):
    found = search.memory_clash(Language("", a))
    pairs = [(p, q) for p in range(a.size) for q in range(p)]
    assert (found is not None) == fixes_two(a, pairs)
    if found is not None:
        assert passes(found, a)
        assert_corrupted(found, a)


@settings(max_examples=80)
@given(automata(states=5) | in_step(2))
def test_no_window_tells_states_of_equally_long_words_apart(a):
    found = search.window_clash(Language("", a))
    together, reach = components(a)
    equal = set()
    for base in range(a.size):
        if together[base] == reach[base]:
            now, seen = frozenset([base]), set()
            while now not in seen:
                seen.add(now)
                equal |= {(p, q) for p in now for q in now if p < q}
                now = frozenset(a.table[q][i] for q in now for i in range(len(a.letters)))
    assert (found is not None) == fixes_two(a, equal)
    if found is not None:
        assert passes(found, a) and len(found.x1) == len(found.x2)
        assert_corrupted(found, a)
        assert not replace(found, x1=found.x1 + found.u).check(a)  # no longer equally long


@given(automata())
def test_no_frequencies_tell_states_apart(a):
    found = search.average_clash(Language("", a))
    together, _ = components(a)
    assert (found is not None) == any(a.table[p] != a.table[q] for p in range(a.size) for q in together[p])
    if found is not None:
        assert passes(found, a)
        for wrong in ({"u": ()}, {"v": ()}, {"w2": ()}, {"w1": (0,)}, {"kind": "other"}, {"kind": "memory"}):
            assert not replace(found, **wrong).check(a)


def assert_corrupted(found, a):
    for wrong in ({"u": ()}, {"x2": found.x1}, {"w1": (0,)}, {"w2": (0,)}, {"kind": "average"}, {"kind": "other"}):
        assert not replace(found, **wrong).check(a)


def test_an_early_letter_can_be_remembered():
    """`a` first, or not: its two components are never left, so no window clash may tell them apart."""
    first = language("a(a|b)*") if pytest.importorskip("automata") else None
    assert search.window_clash(first) is None
    a = first.automaton
    memory = search.memory_clash(first)
    assert memory is not None and not replace(memory, kind="window").check(a)


def test_what_a_window_clash_demands_beside_its_words():
    """x1 and x2 part in a component that no word leaves: before it a letter can be remembered, beyond it words end."""
    early = Automaton.minimal("ab", [[1, 2], [2, 2], [1, 1]], 0, {1})  # the first letter, then the parity of the length
    clash = Clash("window", (0,), (1,), (0, 0), (), (), ())
    assert not clash.check(early) and replace(clash, kind="memory").check(early)
    left = Automaton.minimal("abc", [[0, 1, 2], [1, 0, 2], [2, 2, 2]], 0, {0})
    clash = Clash("window", (0,), (1,), (0,), (), (), ())
    assert not clash.check(left) and replace(clash, kind="memory").check(left)
    stays = Automaton.minimal("abc", [[0, 1, 0], [1, 0, 1]], 0, {0})
    assert clash.check(stays)
    entered = Automaton.minimal("ab", [[1, 2], [2, 1], [1, 2]], 0, {0, 1})
    assert passes(search.window_clash(Language("", entered)), entered)


def test_states_that_nothing_tells_apart_are_no_points():
    twice = Automaton(("a",), ((1,), (0,)), frozenset())
    assert not Permuting(((0,),), (0, 1), "derived", 1).check(twice)
    assert Permuting(((0,),), (0, 1), "derived", 1).check(Automaton(("a",), ((1,), (0,)), frozenset({0})))


@pytest.mark.parametrize("name, memory, window, average", [
    ("flip-flop", True, True, True), ("parity", True, True, True), ("length mod 2", True, False, True),
    ("(a|b)*abb", False, False, True), ("(ab)*", True, False, True),
    ("contains a", True, False, False), ("even pairs", True, False, False),
])  # fmt: skip
def test_clashes_by_hand(name, memory, window, average):
    if "(" in name:
        pytest.importorskip("automata")
    x = language(name)
    found = [search.memory_clash(x), search.window_clash(x), search.average_clash(x)]
    assert [f is not None for f in found] == [memory, window, average]
    assert all(f is None or passes(f, x.automaton) for f in found)


def test_searches_on_large_automata():
    """Thousands of states, or of letters: no search compares all words of all pairs."""
    for name in ("mod 300", "cyclic 1000", "dyck-1 depth 500", "A7"):
        x = language(name)
        for found in (search.memory_clash(x), search.window_clash(x), search.average_clash(x)):
            assert found is None or found.check(x.automaton)


def test_searches_stop_at_their_caps(monkeypatch):
    x = language("dyck-1 depth 3")
    monkeypatch.setattr(search, "FEW", 0)
    assert search.memory_clash(x) is not None
    monkeypatch.setattr(search, "MOST_PAIRS", 0)
    assert search.memory_clash(x) is None
    monkeypatch.undo()
    monkeypatch.setattr(search, "MOST_LAYERS", 0)
    assert search.window_clash(language("flip-flop")) is None


def test_patterns_of_json_that_are_none():
    for row in ({"pattern": "Other"}, {}, {"pattern": "Period"}, {"pattern": "Clash", "kind": "memory", "x": []}):
        with pytest.raises(ValueError, match="no pattern of a language"):
            pattern_of_json(row)
    assert isinstance(pattern_of_json(pattern_to_json(Permuting(((1,),), (0, 1), "sign", 1))), Permuting)
    assert isinstance(pattern_of_json(pattern_to_json(Clash("memory", (), (1,), (0,), (), (), ()))), Clash)
