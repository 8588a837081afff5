"""What stands for a regular language: automata, regular expressions, files, groups; what is refused; caps."""

import json
import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy.combinatorics import Permutation, PermutationGroup
from sympy.combinatorics.named_groups import AbelianGroup, SymmetricGroup

from dsf_analysis.languages import sources
from dsf_analysis.languages.automaton import Automaton, TooLarge
from dsf_analysis.languages.expressions import letters_of
from dsf_analysis.languages.sources import language
from naive_monoids import automata, spelled, words

PARITY = {
    **{"states": ["e", "o"], "alphabet": ["0", "1"], "initial": "e", "accepting": ["o"]},
    "transitions": {"e": {"0": "e", "1": "o"}, "o": {"0": "o", "1": "e"}},
}


def fa(name):
    return pytest.importorskip(f"automata.fa.{name}", reason='needs the extra "languages"')


# ---------------------------------------------------------------------------------------------------------- automata


@given(automata(), st.randoms(use_true_random=False))
def test_the_minimal_automaton_is_that_of_automata_lib(a, random):
    """A larger automaton of the same language: every state twice, transitions to either copy."""
    table = [[r + a.size * random.randrange(2) for r in row] for row in a.table * 2]
    good = {q for q in range(2 * a.size) if q % a.size in a.accepting}
    dfa = fa("dfa").DFA(
        states=set(range(2 * a.size)), input_symbols=set(a.letters), initial_state=0, final_states=good,
        transitions={q: dict(zip(a.letters, row, strict=True)) for q, row in enumerate(table)},
    )  # fmt: skip
    assert Automaton.minimal(a.letters, table, 0, good) == a == language(dfa).automaton
    assert len(dfa.minify(retain_names=False).states) == a.size
    assert all(dfa.accepts_input("".join(w)) == a.accepts(w) for w in spelled(a, 5))


@given(automata())
def test_separators_are_shortest_words_that_tell_states_apart(a):
    every = [a.spell(w) for w in spelled(a, a.size - 1)] if a.size < 5 else []
    for p in range(a.size):
        for q in range(p):
            word = a.separator(p, q)
            assert (a.run(word, p) in a.accepting) != (a.run(word, q) in a.accepting)
            for other in every:
                tells = (a.run(other, p) in a.accepting) != (a.run(other, q) in a.accepting)
                assert not tells or len(other) >= len(word)
    assert a.tells_apart(range(a.size)) and not a.tells_apart([0, 0]) and a.separator(0, 0) is None


@given(automata())
def test_words_to_every_state(a):
    to = a.words_to()
    assert to.keys() == set(range(a.size)) and all(a.run(word) == q for q, word in to.items())
    assert all(len(word) <= min(len(w) for w in map(a.spell, spelled(a, 3)) if a.run(w) == q) for q, word in to.items()
               if any(a.run(a.spell(w)) == q for w in spelled(a, 3)))  # fmt: skip
    assert language(json.loads(json.dumps(a.to_dict()))).automaton == a


def test_words_of_letters():
    a = language("cyclic 3").automaton
    assert a.letters == ("-1", "0", "1") and a.accepts(["1", "-1", "0"]) and not a.accepts(["1"])
    assert a.text(a.spell(["1", "-1"])) == "1 -1" and language("parity").automaton.text((0, 1)) == "01"
    assert a.text(()) == "(the empty word)"
    with pytest.raises(ValueError, match="'2' is no letter: they are -1, 0, 1"):
        a.accepts(["2"])


# ------------------------------------------------------------------------------------------------ regular expressions


def expressions():
    atoms = st.sampled_from(["a", "b", "[ab]", "ab", "."])
    quantifiers = ["*", "+", "?", "{1}", "{2}", "{0,1}", "{1,3}", "{2,}", "{0,}", "{,2}"]

    def larger(inner):
        return st.one_of(
            st.tuples(inner, inner).map("".join),
            st.tuples(inner, inner).map("({0[0]}|{0[1]})".format),
            st.tuples(inner, st.sampled_from(quantifiers)).map("({0[0]}){0[1]}".format),
        )

    return st.recursive(atoms, larger, max_leaves=5)


@given(expressions())
def test_regular_expressions_are_those_of_python(text):
    fa("nfa")
    text += "|aab"  # both letters are named
    a = language(text).automaton
    pattern = re.compile(text.replace("{,", "{0,"))
    assert a.letters == ("a", "b")
    assert all(a.accepts(w) == bool(pattern.fullmatch(w)) for w in words("ab", 6))


@pytest.mark.parametrize(
    "text, letters, accepted, rejected",
    [
        ("a{2}b?", "ab", ["aa", "aab"], ["a", "aaa"]),
        (r"a\*", "*a", ["a*"], ["a", ""]),
        ("[a-c]*", "abc", ["", "cab"], []),
        ("[^a]b", "ab", ["bb"], ["ab"]),
        ("(a|é)*ß", "aßé", ["aéß"], ["a"]),
        ("a* & (aa)*", "a", ["aa"], ["a"]),
        ("ab^c", "abc", ["abc", "cab", "acb"], ["ab", "bac"]),
        ("a | ()", "a", ["", "a"], ["aa"]),
        ("a" * 40, "a", ["a" * 40], ["a" * 39]),
        ("abb", "ab", ["abb"], ["ab"]),
        ("0110", "01", ["0110"], ["011"]),
        (" abb ", "ab", ["abb"], ["ab"]),
        ("(dyck)", "cdky", ["dyck"], ["d"]),
        ("(mod[-]3)", "-3dmo", ["mod-3"], ["mod3"]),
        ("[ε~∅-]", "-~ε∅", ["ε", "~", "∅", "-"], ["", "ε~"]),
        ("a&aa", "a", [], ["", "a", "aa"]),
        ("a{1, 2} | b", "ab", ["a", "aa", "b"], [""]),
    ],
)
def test_what_expressions_mean(text, letters, accepted, rejected):
    fa("nfa")
    a = language(text).automaton
    assert "".join(a.letters) == letters
    assert all(map(a.accepts, accepted)) and not any(map(a.accepts, rejected))


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "the language is empty text; names are: parity"),
        ("  ", "empty text"),
        ("(a", "neither a name nor a regular expression"),
        ("a)", "neither a name"),
        ("*a", "neither a name"),
        ("a||b", "neither a name"),
        ("a{3,1}", "neither a name"),
        ("a{-1}", "neither a name"),
        ("a{", "neither a name"),
        ("[ab", "neither a name"),
        ("()", "names no letters"),
        (".", "names no letters"),
        ("a{0}", r"\{0\} repeats nothing: write \(\) for the empty word"),
        ("a{0,0}b", "repeats nothing"),
        ("a{}", "repeats nothing"),
        (r"\d*", r"a backslash goes before a sign"),
        (r"[\d]*", r"without a backslash"),
        ("[z-a]", "a range goes upwards"),
        ("a|\\", "a backslash goes before a sign"),
        ("\\", "a backslash goes before a sign"),
        ("(a-b)", r"- is not read: ranges stand in brackets, as in \[a-z\], and \[-\] for the letter"),
        ("~a", r"~ is not read: there is no complement, and \[~\] for the letter"),
        ("a|ε", r"ε is not read: write \(\) for the empty word"),
        ("∅", "∅ is not read: write a&aa for no word at all"),
        ("(a b)*", "'a b': spaces in expressions are left out, so write letters without any between them"),
        ("dyck-1 (depth 3)", "spaces in expressions are left out"),
    ],
)
def test_what_is_no_expression(text, message):
    fa("nfa")
    with pytest.raises(ValueError, match=message) as caught:
        language(text)
    assert not isinstance(caught.value, TooLarge)


@pytest.mark.parametrize(
    "text, written, near",
    [
        (
            "modular arithmetic",
            "(modulararithmetic)",
            "near: modular arithmetic without brackets, modular arithmetic M",
        ),
        ("dyck", "(dyck)", "near: dyck-1 depth H"),
        ("Dyck", "(Dyck)", "near: dyck-1 depth H"),
        ("dyck-2 depth 3", "(dyck[-]2depth3)", "near: dyck-1 depth H"),
        ("cyclic", "(cyclic)", "near: cyclic M"),
        ("random aperiodic", "(randomaperiodic)", "near: random aperiodic SEED"),
        ("mod", "(mod)", "near: mod M"),
        ("mod -3", "(mod[-]3)", "near: mod M"),
        ("parity of ones", "(parityofones)", "near: parity"),
        ("pairity", "(pairity)", "near: parity"),
        ("evenpairs", "(evenpairs)", "near: even pairs"),
        ("K4", "(K4)", "names are: parity, mod M"),
        ("V4", "(V4)", "names are: parity, mod M"),
        ("C_M", "(C_M)", "near: C_M"),
        ("-1", "([-]1)", "names are"),
        ("a b", "(ab)", "names are"),
        ("ab1", "(ab1)", "near: A4"),
    ],
)
def test_misspelt_names_are_no_expressions(text, written, near):
    with pytest.raises(ValueError) as caught:
        language(text)
    start, _, names = str(caught.value).partition(f"; as an expression, put it in parentheses: {written}; ")
    assert start == f"{text!r} is no name" and near in names
    fa("nfa")
    assert language(written).automaton.accepts("".join(text.split()))


def test_a_long_text_that_looks_like_a_name_is_cut():
    with pytest.raises(
        ValueError, match=r"^'(xy ){20}\.\.\.' is no name; as an expression, put it in parentheses; names"
    ):
        language("xy " * 1000)


@pytest.mark.parametrize(
    "text, message",
    [
        ("(a|b)*a(a|b){15}", "over 2,000 states"),
        ("a" * 1999, "over 2,000 states"),
        ("a" * 2001, "up to 2,000 characters"),
        ("a{1,100000}", "repeats and products"),
        ("a{" + "9" * 1900 + "}", "repeats and products"),
        ("((a{99}){99}){99}", "repeats and products"),
        ("^".join(["(a|b)*a"] * 12), "repeats and products"),
        ("&".join(f"(a{{{p}}})*" for p in (7, 11, 13, 17, 19)), "repeats and products"),
        ("(" * 650 + "a" + ")*" * 650, "repeats and products"),
        ("(a{59}|a{61})*", "over 2,000 states"),
        ("".join(map(chr, range(0x4E00, 0x4E00 + 1000))), "over 400,000 transitions"),
        ("[a-z][一-乿][0-9][Ā-ſ][Ѐ-ӿ]" + "[가-갟]" * 300, "repeats and products"),
        ("S8", "n = 2 to 7"),
    ],
)
def test_caps_on_the_way_to_an_automaton(text, message):
    fa("nfa")
    with pytest.raises(TooLarge, match=message):
        language(text)


def test_deep_and_wide_expressions_within_the_caps():
    fa("nfa")
    assert language("(" * 600 + "a" + ")" * 600).automaton.size == 3
    assert language("(a|b)*" * 100).automaton.size == 1
    assert language("(a?){20}a{20}").automaton.size == 42
    assert len(letters_of("".join(string.ascii_letters))) == 52


# --------------------------------------------------------------------------------------- mappings, files, groups, names


def changed(**entries):
    return PARITY | entries


@pytest.mark.parametrize(
    "row, message",
    [
        ({}, "missing: states, alphabet, transitions, initial, accepting"),
        (changed(states=2), "states is a list of names"),
        (changed(states=["e", ["o"]]), "states is a list of names"),
        (changed(accepting="o"), "accepting is a list of names"),
        (changed(states=["e", "e"]), "named once each"),
        (changed(alphabet=["0", "0"]), "named once each"),
        (changed(alphabet=[]), "at least one letter"),
        (changed(states=[]), "accepting names 'o', which is none of the 0 states"),
        (changed(initial="x"), "initial names 'x', which is none of the 2 states"),
        (changed(initial=["e"]), "initial names"),
        (changed(accepting=["x"]), "accepting names 'x'"),
        (changed(transitions={}), "must be complete: state 'e'"),
        (changed(transitions=[["e", "o"], ["o", "e"]]), "mapping of mappings; transitions: a list"),
        (changed(transitions={"e": ["e", "o"], "o": {}}), "mapping of mappings; transitions of 'e': a list"),
        (changed(transitions={"e": {"0": "e", "1": "o"}, "o": {"0": "o"}}), "must be complete: state 'o'"),
        (changed(transitions={"e": {"0": "e", "1": "x"}, "o": {"0": "o", "1": "e"}}), "of 'e' by '1' names 'x'"),
    ],
)
def test_wrong_mappings(row, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        language(row)
    (tmp_path / "row.json").write_text(json.dumps(row))
    with pytest.raises(ValueError, match=message):
        language(tmp_path / "row.json")


def test_mappings_and_files(tmp_path):
    parity = language("parity").automaton
    assert language(PARITY).automaton == parity
    numbered = {"states": [0, 1], "alphabet": [0, 1], "initial": 0, "accepting": [1]}
    assert language(numbered | {"transitions": {0: {0: 0, 1: 1}, 1: {0: 1, 1: 0}}}).automaton == parity
    assert language(numbered | {"transitions": {"0": {"0": 0, "1": 1}, "1": {"0": 1, "1": 0}}}).automaton == parity
    (tmp_path / "mine.json").write_text(json.dumps(PARITY))
    found = language(str(tmp_path / "mine.json"))
    assert found.automaton == parity and found.title == "mine.json" and language(found) is found
    assert language(parity).automaton == parity


def test_wrong_files(tmp_path, monkeypatch):
    for name, content in (("a", b"\xff"), ("b", b"{"), ("c", b"[" * 100_000)):
        (tmp_path / f"{name}.json").write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}.json holds no automaton in JSON"):
            language(str(tmp_path / f"{name}.json"))
    (tmp_path / "d.json").write_text("[1]")
    with pytest.raises(ValueError, match="an object with states, alphabet"):
        language(tmp_path / "d.json")
    with pytest.raises(ValueError, match="none.json holds no automaton"):
        language("none.json")
    monkeypatch.setattr(sources, "MOST_BYTES", 2)
    with pytest.raises(TooLarge, match="over 2 bytes"):
        language(tmp_path / "d.json")


def test_large_mappings():
    with pytest.raises(TooLarge, match="over 2,000 states"):
        language(changed(states=list(range(2001)), initial="0", accepting=[]))
    with pytest.raises(TooLarge, match="over 400,000 transitions"):
        language(changed(states=list(range(2000)), alphabet=list(range(201))))


def test_automata_of_automata_lib():
    nfa = fa("nfa").NFA(
        states={0, 1, 2}, input_symbols={"a", "b"}, initial_state=0, final_states={2},
        transitions={0: {"a": {0, 1}, "b": {0}}, 1: {"": {2}}},
    )  # fmt: skip
    assert language(nfa).automaton == language("(a|b)*a").automaton
    partial = fa("dfa").DFA(
        states={0, 1}, input_symbols={"a", "b"}, initial_state=0, final_states={1},
        transitions={0: {"a": 1}, 1: {}}, allow_partial=True,
    )  # fmt: skip
    assert language(partial).automaton == language("a|(b&a)").automaton
    pda = pytest.importorskip("automata.pda.dpda").DPDA(
        states={"q"}, input_symbols={"a"}, stack_symbols={"Z"}, transitions={"q": {"a": {"Z": ("q", "Z")}}},
        initial_state="q", initial_stack_symbol="Z", final_states={"q"}, acceptance_mode="final_state",
    )  # fmt: skip
    with pytest.raises(TypeError, match="DPDA has more than finitely many states"):
        language(pda)


@pytest.mark.parametrize("x", [None, 5, b"a", [1], object()])
def test_what_is_no_language_at_all(x):
    with pytest.raises(TypeError, match=f"got {type(x).__name__}"):
        language(x)


def test_groups_stand_for_their_word_problems():
    found = language(SymmetricGroup(3))
    assert found.title == "the word problem of a group of order 6" and found.automaton.size == 6
    assert language(PermutationGroup([Permutation(2)])).automaton.size == 1
    many = PermutationGroup([Permutation(i, i + 1, size=4) for i in (0, 1, 2)] * 10)
    assert language(many).automaton.size == 24
    for large in (SymmetricGroup(8), SymmetricGroup(60), AbelianGroup(*[2] * 30)):
        with pytest.raises(TooLarge, match="up to 5,040 elements"):
            language(large)


@settings(max_examples=300)
@given(st.text(alphabet="ab()|*+?{}[]^&.\\0123, -é", max_size=12))
def test_any_text_is_a_language_or_a_named_error(text):
    fa("nfa")
    try:
        found = language(text)
    except ValueError as error:
        assert str(error)
    else:
        assert found.automaton.size >= 1 and found.automaton.letters
