"""Languages by name, against a few lines of Python that say which words are theirs."""

from functools import reduce

import pytest
from sympy.combinatorics import Permutation
from sympy.combinatorics.named_groups import AlternatingGroup, DihedralGroup, SymmetricGroup

from dsf_analysis.languages import named as module
from dsf_analysis.languages.automaton import TooLarge
from dsf_analysis.languages.classes import algebra_of
from dsf_analysis.languages.named import NAMES, named, random_aperiodic, word_problem
from dsf_analysis.languages.sources import language
from naive_monoids import spelled


def total(m):
    return lambda w: sum(map(int, w)) % m == 0


def nests(depth):
    def balanced(w):
        level = 0
        for bracket in w:
            level += 1 if bracket == "(" else -1
            if not 0 <= level <= depth:
                return False
        return level == 0

    return balanced


def value(m):
    """Is it an expression, and 0 mod m? Python reads it."""

    def is_zero(w):
        places = all((x.isdigit()) == (i % 2 == 0) for i, x in enumerate(w))
        return bool(w) and places and len(w) % 2 == 1 and eval("".join(w)) % m == 0

    return is_zero


def last_write(w):
    return ([x for x in w if x != "h"] or "0")[-1] == "1"


PREDICATES = {
    "parity": (lambda w: w.count("1") % 2 == 1, 8),
    "mod 3": (total(3), 7),
    "mod 5": (total(5), 5),
    "cyclic 4": (total(4), 7),
    "z 4": (total(4), 7),
    "C_12": (total(12), 7),
    "ones mod 4": (total(4), 8),
    "length mod 3": (lambda w: len(w) % 3 == 0, 12),
    "flip-flop": (last_write, 7),
    "even pairs": (lambda w: w[:1] == w[-1:], 9),
    "contains a": (lambda w: "a" in w, 8),
    "dyck-1 depth 1": (nests(1), 10),
    "dyck-1 depth 3": (nests(3), 12),
    "modular arithmetic 2": (value(2), 5),
    "modular arithmetic 3": (value(3), 5),
}


@pytest.mark.parametrize("name", PREDICATES)
def test_a_name_is_its_words(name):
    a, (predicate, longest) = named(name), PREDICATES[name]
    for w in spelled(a, longest):
        assert a.accepts(w) == predicate(w), w


GROUPS = {
    **{"S3": SymmetricGroup(3), "S4": SymmetricGroup(4), "S5": SymmetricGroup(5)},
    **{"A4": AlternatingGroup(4), "A5": AlternatingGroup(5), "D_5": DihedralGroup(5)},
}


@pytest.mark.parametrize("name", GROUPS)
def test_word_problems_are_products(name):
    a, group = named(name), GROUPS[name]
    moves = {"e": Permutation(group.degree - 1)} | dict(zip("abcd", group.generators, strict=False))
    assert a.size == group.order() and list(a.letters) == list(moves)
    for w in spelled(a, 7):
        assert a.accepts(w) == reduce(lambda p, x: p * moves[x], w, moves["e"]).is_Identity


def test_quaternions_by_their_relations():
    a = named("Q8")
    assert a.size == 8 and a.accepts("aaaa") and a.accepts("aabb") and a.accepts("ababbb")
    assert not a.accepts("aa") and not a.accepts("abab") and not a.accepts("ab")
    orders = sorted(algebra_of(a).monoid.periods.tolist())
    assert orders == [1, 2, 4, 4, 4, 4, 4, 4]  # one element of order 2: no dihedral group


@pytest.mark.parametrize("seed", range(4))
def test_random_aperiodic_ones_are(seed):
    a = named(f"random aperiodic {seed}")
    algebra = algebra_of(a)
    assert a == random_aperiodic(seed) and a.size == 5 and len(a.letters) == 3
    assert algebra.aperiodic and not algebra.r_trivial


def test_every_name_that_is_listed_is_one():
    for name in NAMES:
        text = name.replace(" M", " 3").replace("_M", "_3").replace(" H", " 2").replace("SEED", "0")
        assert named(text) is not None, name
        assert named(f"  {text.upper()} ") == named(text)
    assert named("no name") is None and named("") is None and named("mod") is None
    assert named("dyck1 depth 2") == named("Dyck-1  depth 2") and named("flip flop") == named("flip_flop")
    assert named("modular arithmetic without brackets, mod 3") == named("modular arithmetic 3")
    assert language(" mod  3 ").title == "mod 3"


@pytest.mark.parametrize(
    "name, message",
    [
        ("mod 1", "a number from 2 to 1000 is needed, got 1"),
        ("mod 1001", "got 1001"),
        ("mod 100000000000", "a number from 2 to 1000 is needed, got 100000000000$"),
        ("S 12345678901", "got 12345678901$"),
        ("mod " + "9" * 5000, "numbers of names have up to 100 digits, got one of 5,000"),
        ("cyclic 0", "got 0"),
        ("length mod 1", "got 1"),
        ("dyck-1 depth 0", "a number from 1 to 1000"),
        ("D_2", "a number from 3 to 1000"),
        ("modular arithmetic 21", "a number from 2 to 20"),
        ("S1", "n = 2 to 7"),
        ("S8", "n = 2 to 7"),
        ("A2", "n = 3 to 7"),
    ],
)
def test_numbers_beyond_what_is_built(name, message):
    with pytest.raises(ValueError, match=message):
        named(name)


@pytest.mark.parametrize(
    "text, name",
    [
        ("mod3", "mod 3"),
        ("mod-3", "mod 3"),
        ("Mod_12", "mod 12"),
        ("dyck-1 to depth 3", "dyck-1 depth 3"),
        ("Dyck 1, up to depth 2", "dyck-1 depth 2"),
        ("modular arithmetic without brackets", "modular arithmetic 5"),
        ("Modular_arithmetic  without brackets", "modular arithmetic 5"),
        ("mod arithmetic without brackets, mod 3", "modular arithmetic 3"),
    ],
)
def test_natural_spellings(text, name):
    assert named(text) == named(name) is not None


def test_the_modulus_that_is_left_out_is_in_the_title():
    title = "modular arithmetic without brackets, mod 5"
    assert language(" modular arithmetic  without brackets").title == title == language(title).title


def test_all_digits_of_a_seed_count():
    assert named("random aperiodic 1234567890") == random_aperiodic(1234567890) != random_aperiodic(123456789)


def test_letters_of_a_word_problem(monkeypatch):
    group = SymmetricGroup(3)
    assert word_problem(group, ["0", "1", "2"]).letters == ("0", "1", "2")
    with pytest.raises(ValueError, match="3 letters are needed: the identity and 2 generators"):
        word_problem(group, "ab")
    monkeypatch.setattr(module, "LARGEST_GROUP", 5)
    with pytest.raises(TooLarge, match="up to 5 elements"):
        word_problem(group)
