"""Syntactic monoids: against their definition on small ones, against sympy on groups, and against the textbooks."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy.combinatorics import Permutation, PermutationGroup

import naive_monoids as naive
from dsf_analysis.languages import monoid as monoids
from dsf_analysis.languages.automaton import Automaton, TooLarge
from dsf_analysis.languages.classes import algebra_of
from dsf_analysis.languages.groups import group_of
from dsf_analysis.languages.monoid import transition_monoid
from dsf_analysis.languages.sources import Language, language
from naive_monoids import automata

oo = math.inf


def maps_on(n, *letters):
    """The automaton of some maps of n states; started in 0, which alone accepts."""
    return Automaton.minimal("abcdefgh"[: len(letters)], list(zip(*letters, strict=True)), 0, {0})


def full(n):
    """Letters that generate all maps of n states."""
    return maps_on(n, [*range(1, n), 0], [1, 0, *range(2, n)], [0, 0, *range(2, n)])


# --------------------------------------------------------------------------------------------------- by the definition


@given(automata(states=5))
def test_the_monoid_is_the_closure_of_the_letters(a):
    m = transition_monoid(a)
    elements = [tuple(row) for row in m.maps.tolist()]
    assert len(set(elements)) == m.size and set(elements) == naive.monoid(a)
    assert elements[0] == tuple(range(a.size))
    letters = [tuple(f) for f in a.maps.tolist()]
    for i, x in enumerate(elements[:200]):
        assert a.map_of(m.word(i)) == x
        for k, f in enumerate(letters):
            assert elements[m.right[i, k]] == naive.then(x, f) and elements[m.left[i, k]] == naive.then(f, x)
        assert m.periods[i] == naive.powers(x)[1]
    assert {elements[i] for i in m.idempotents} == {x for x in elements if naive.then(x, x) == x}
    lengths = [len(m.word(i)) for i in range(m.size)]
    assert lengths == sorted(lengths)  # breadth first: words are shortest


@settings(max_examples=60)
@given(automata(states=4))
def test_classes_by_their_definition(a):
    found, M = algebra_of(a), naive.monoid(a)
    right, left, both = naive.green(M)
    assert found.size == len(M)
    assert found.r_trivial == (len(set(right.values())) == len(M))
    assert found.l_trivial == (len(set(left.values())) == len(M))
    assert found.j_trivial == (len(set(both.values())) == len(M))
    assert found.j_trivial == (found.r_trivial and found.l_trivial)
    periods = {naive.powers(x)[1] for x in M}
    assert found.aperiodic == (periods == {1}) and found.exponents == tuple(sorted(periods - {1}))
    assert [g.order for g in found.subgroups] == naive.subgroup_orders(M)
    assert found.quasi_aperiodic == naive.quasi_aperiodic(a)
    assert found.group == all(len(set(x)) == a.size for x in M)


def in_step(blocks):
    """Automata that go round blocks of states in step with the length, a letter moving states within their block."""

    @st.composite
    def made(draw):
        n, width = draw(st.integers(1, blocks)), draw(st.integers(1, 3))
        rows = []
        for q in range(n * width):
            base = (q // width + 1) % n * width
            rows.append([base + draw(st.integers(0, width - 1)) for _ in range(2)])
        return Automaton.minimal("ab", rows, 0, draw(st.sets(st.integers(0, n * width - 1))))

    return made()


@settings(max_examples=80)
@given(in_step(3))
def test_groups_that_live_in_lengths(a):
    """Random automata are seldom quasi-aperiodic and not aperiodic; these often are."""
    assert algebra_of(a).quasi_aperiodic == naive.quasi_aperiodic(a)


def test_a_group_half_of_which_lives_in_lengths():
    """One letter counts up mod 4, the other down: words of even length make 0 and 2, so a group of order 2 is left."""
    a = maps_on(4, [1, 2, 3, 0], [3, 0, 1, 2])
    assert not algebra_of(a).quasi_aperiodic and not naive.quasi_aperiodic(a)


@given(st.lists(st.permutations(range(5)), min_size=1, max_size=3))
def test_groups_are_those_of_sympy(generators):
    reference = PermutationGroup([Permutation(list(g)) for g in generators])
    algebra = algebra_of(maps_on(5, *map(list, generators)))
    orbit = algebra.automaton.size
    if reference.order() == 1 or orbit == 1:
        return
    reference = PermutationGroup([Permutation(list(f)) for f in algebra.automaton.maps.tolist()])
    (g,) = algebra.subgroups
    series = reference.derived_series()
    assert (
        algebra.group and g.order == reference.order() == group_of(map(tuple, algebra.automaton.maps.tolist())).order()
    )
    assert g.abelian == reference.is_abelian and g.solvable == reference.is_solvable
    assert g.derived_length == (len(series) - 1 if series[-1].order() == 1 else oo)
    assert g.exponent == math.lcm(*(int(p.order()) for p in reference.elements))
    assert math.isfinite(g.sign_length) == (g.order & (g.order - 1) == 0)
    points = {q: i for i, q in enumerate(g.points)}
    words = [[points[algebra.automaton.run(w, q)] for q in g.points] for w in g.words]
    assert PermutationGroup([Permutation(w) for w in words]).order() == g.order


# -------------------------------------------------------------------------------------------------------- by the books

# name or expression: monoid, (aperiodic, R-, L-, J-trivial, quasi-aperiodic), groups, derived and sign length, class
YES, NO = True, False
AC0, ACC0, NC1 = "AC0", "ACC0, within TC0", "NC1-complete (Barrington)"
BOOKS = {
    "parity": (2, (NO, NO, NO, NO, NO), [2], 1, 1, ACC0),
    "mod 3": (3, (NO, NO, NO, NO, NO), [3], 1, oo, ACC0),
    "cyclic 12": (12, (NO, NO, NO, NO, NO), [12], 1, oo, ACC0),
    "cyclic 8": (8, (NO, NO, NO, NO, NO), [8], 1, 3, ACC0),
    "ones mod 4": (4, (NO, NO, NO, NO, NO), [4], 1, 2, ACC0),
    "length mod 2": (2, (NO, NO, NO, NO, YES), [2], 1, 1, AC0),
    "length mod 6": (6, (NO, NO, NO, NO, YES), [6], 1, oo, AC0),
    "flip-flop": (3, (YES, NO, YES, NO, YES), [], 0, 0, AC0),
    "contains a": (2, (YES, YES, YES, YES, YES), [], 0, 0, AC0),
    "even pairs": (5, (YES, NO, NO, NO, YES), [], 0, 0, AC0),
    "S3": (6, (NO, NO, NO, NO, NO), [6], 2, oo, ACC0),
    "A4": (12, (NO, NO, NO, NO, NO), [12], 2, oo, ACC0),
    "S4": (24, (NO, NO, NO, NO, NO), [24], 3, oo, ACC0),
    "A5": (60, (NO, NO, NO, NO, NO), [60], oo, oo, NC1),
    "S5": (120, (NO, NO, NO, NO, NO), [120], oo, oo, NC1),
    "D_4": (8, (NO, NO, NO, NO, NO), [8], 2, 2, ACC0),
    "D_8": (16, (NO, NO, NO, NO, NO), [16], 2, 3, ACC0),
    "D_5": (10, (NO, NO, NO, NO, NO), [10], 2, oo, ACC0),
    "Q8": (8, (NO, NO, NO, NO, NO), [8], 2, 2, ACC0),
    "dyck-1 depth 1": (6, (YES, NO, NO, NO, YES), [], 0, 0, AC0),
    "dyck-1 depth 2": (15, (YES, NO, NO, NO, YES), [], 0, 0, AC0),
    "dyck-1 depth 3": (31, (YES, NO, NO, NO, YES), [], 0, 0, AC0),
    "(ab)*": (6, (YES, NO, NO, NO, YES), [], 0, 0, AC0),
    "(aa)*": (2, (NO, NO, NO, NO, YES), [2], 1, 1, AC0),
    "((a|b)(a|b))*a": (5, (NO, NO, NO, NO, YES), [2], 1, 1, AC0),
    "(a|b)*abb": (7, (YES, NO, YES, NO, YES), [], 0, 0, AC0),
    "a(a|b)*": (3, (YES, YES, NO, NO, YES), [], 0, 0, AC0),
    "(a|b)*a(a|b)*b(a|b)*": (5, (YES, YES, YES, YES, YES), [], 0, 0, AC0),
    "(a|b)*": (1, (YES, YES, YES, YES, YES), [], 0, 0, AC0),
    "(b*ab*ab*)*|b*": (2, (NO, NO, NO, NO, NO), [2], 1, 1, ACC0),
}


@pytest.mark.parametrize("name", BOOKS)
def test_classes_by_the_books(name):
    size, classes, orders, derived, signs, circuits = BOOKS[name]
    if set("(*") & set(name):
        pytest.importorskip("automata", reason='needs the extra "languages"')
    x = language(name).algebra
    assert x.size == size
    assert (x.aperiodic, x.r_trivial, x.l_trivial, x.j_trivial, x.quasi_aperiodic) == classes
    assert [g.order for g in x.subgroups] == orders
    assert x.derived_length == derived and x.sign_length == signs and x.circuit_class == circuits
    assert x.solvable == (circuits != NC1)


def test_all_maps_of_n_states():
    """The subgroups of all maps of n states are S_2 ... S_n."""
    x = algebra_of(full(5))
    assert x.size == 5**5 and [g.order for g in x.subgroups] == [120, 24, 6, 2]
    assert [g.solvable for g in x.subgroups] == [False, True, True, True] and x.exponents == (2, 3, 4, 5, 6)
    assert len(np.unique(x.monoid.j_classes)) == 5  # by the rank


def test_modular_arithmetic_has_the_groups_of_sums_and_of_products():
    assert {g.order for g in language("modular arithmetic 5").algebra.subgroups} == {5, 4}
    assert {g.order for g in language("modular arithmetic 3").algebra.subgroups} == {3, 2}


# ---------------------------------------------------------------------------------------------------------------- caps


def test_a_monoid_of_a_hundred_thousand_elements():
    """A random automaton of 8 states, whose groups reach S5."""
    rows = np.random.default_rng(349).integers(8, size=(8, 2)).tolist()
    x = algebra_of(Automaton.minimal("ab", rows, 0, {0}))
    assert x.size == 148_576 and not x.aperiodic and not x.quasi_aperiodic and not x.r_trivial
    assert [g.order for g in x.subgroups][:2] == [120, 24] and x.exponents == (2, 3, 4, 5, 6)


def test_all_maps_of_seven_states_are_over_the_cap():
    with pytest.raises(TooLarge, match="over 200,000 elements"):
        transition_monoid(full(7))
    seven = Language("all maps", full(7))
    assert seven.algebra is None and seven.unknown == {"monoid": "monoid over 200,000 elements"}
    assert seven.cascade is not None and seven.cascade.height == 6


def test_caps_count_memory_and_letters(monkeypatch):
    with pytest.raises(TooLarge, match="over 3 elements"):
        transition_monoid(language("mod 4").automaton, most=3)
    assert transition_monoid(language("mod 4").automaton, most=4).size == 4
    for name, value in (("MOST_BYTES", 4 * 4 * 3 + 16 * 4 * 3), ("MOST_PRODUCTS", 12), ("MOST_LOOKED_UP", 48)):
        with monkeypatch.context() as patch:
            patch.setattr(monoids, name, value)
            with pytest.raises(TooLarge, match="over 3 elements"):
                transition_monoid(language("mod 4").automaton)


def test_a_long_period_is_no_long_loop():
    """Cycles of 2, 3, 5, 7, 11 and 16 states: a letter of period 2 * 3 * 5 * 7 * 11 * 8 alone."""
    lengths, permutation = (3, 5, 7, 11, 16), []
    for n in lengths:
        start = len(permutation)
        permutation += [start + (i + 1) % n for i in range(n)]
    found = monoids._periods(np.array([permutation, list(range(len(permutation)))]))
    assert found.tolist() == [math.lcm(*lengths), 1]
