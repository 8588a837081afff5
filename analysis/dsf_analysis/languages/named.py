"""Languages by name: parity, mod m, cyclic m, flip-flop, even pairs, Dyck, word problems of groups, arithmetic."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sympy.combinatorics import Permutation, PermutationGroup
from sympy.combinatorics.named_groups import AlternatingGroup, DihedralGroup, SymmetricGroup

from .automaton import Automaton, TooLarge

LARGEST_GROUP = 5_040
LARGEST_MODULUS = 20  # of arithmetic: states grow with its square
USUAL_MODULUS = 5  # of arithmetic, where none is named: that of the task of Deletang et al. (2023), arXiv:2207.02098
MOST_DIGITS = 100
NAMES = (
    *("parity", "mod M", "cyclic M", "ones mod M", "length mod M", "flip-flop", "even pairs", "contains a"),
    *("dyck-1 depth H", "S3", "S4", "S5", "A4", "A5", "D_M", "Q8", "C_M"),
    *("modular arithmetic M", "modular arithmetic without brackets", "random aperiodic SEED"),
)


def named(name: str) -> Automaton | None:
    """The minimal automaton of a name, or None where it is no name.

    >>> named("mod 3").size, named("a*b") is None
    (3, True)
    """
    text = " ".join(in_full(name).lower().replace("_", " ").split())
    for pattern, make in _MAKERS:
        found = re.fullmatch(pattern, text)
        if found:
            return make(*map(_number, found.groups()))
    return None


def in_full(name: str) -> str:
    """A name in single spaces, with the modulus that it leaves out.

    >>> in_full(" modular  arithmetic without brackets")
    'modular arithmetic without brackets, mod 5'
    """
    text = " ".join(name.split())
    return f"{text}, mod {USUAL_MODULUS}" if re.fullmatch(_ARITHMETIC, text.lower().replace("_", " ")) else text


def word_problem(group: Any, letters: Sequence[str] | None = None) -> Automaton:
    """Words over generators, with an identity letter "e", whose product is 1.

    States are the elements of the group; the product of a word grows on the right. TooLarge beyond 5,040 elements.
    """
    generators = [tuple(g.array_form) for g in group.generators if not g.is_Identity]
    identity = tuple(range(group.degree))
    moves = [identity, *generators]
    few = "abcdfghijklmnopqrstuvwxyz"
    several = few if len(generators) <= len(few) else [f"g{i + 1}" for i in range(len(generators))]
    names = list(letters or ["e", *several[: len(generators)]])
    if len(names) != len(moves):
        raise ValueError(f"{len(moves)} letters are needed: the identity and {len(generators)} generators")
    number, queue, rows = {identity: 0}, [identity], []
    for element in queue:
        after = [tuple(move[i] for i in element) for move in moves]
        for g in after:
            if g not in number:
                number[g] = len(number)
                queue.append(g)
        rows.append([number[g] for g in after])
        if len(number) > LARGEST_GROUP:
            raise TooLarge(f"word problems are built of groups of up to {LARGEST_GROUP:,} elements, and this has more")
    return Automaton.minimal(names, rows, 0, {0})


def _mod(m: int) -> Automaton:
    _at_least(m, 2)
    return Automaton.minimal([str(j) for j in range(m)], [[(q + j) % m for j in range(m)] for q in range(m)], 0, {0})


def _cyclic(m: int) -> Automaton:
    _at_least(m, 2)
    return Automaton.minimal(["-1", "0", "1"], [[(q - 1) % m, q, (q + 1) % m] for q in range(m)], 0, {0})


def _ones(m: int) -> Automaton:
    _at_least(m, 2)
    return Automaton.minimal(["0", "1"], [[q, (q + 1) % m] for q in range(m)], 0, {0})


def _length(m: int) -> Automaton:
    _at_least(m, 2)
    return Automaton.minimal(["1"], [[(q + 1) % m] for q in range(m)], 0, {0})


def _parity() -> Automaton:
    """Words with an odd number of ones."""
    return Automaton.minimal(["0", "1"], [[0, 1], [1, 0]], 0, {1})


def _flip_flop() -> Automaton:
    """h holds, 0 and 1 write: the last bit written is 1."""
    return Automaton.minimal(["h", "0", "1"], [[0, 0, 1], [1, 0, 1]], 0, {1})


def _even_pairs() -> Automaton:
    """The first letter is the last one (the empty word too)."""
    return Automaton.minimal(["a", "b"], [[1, 3], [1, 2], [1, 2], [4, 3], [4, 3]], 0, {0, 1, 3})


def _contains() -> Automaton:
    return Automaton.minimal(["a", "b"], [[1, 0], [1, 1]], 0, {1})


def _dyck(depth: int) -> Automaton:
    """Balanced brackets that nest at most `depth` deep."""
    _at_least(depth, 1)
    rows = [[d + 1 if d < depth else depth + 1, d - 1 if d else depth + 1] for d in range(depth + 1)]
    return Automaton.minimal(["(", ")"], [*rows, [depth + 1] * 2], 0, {0})


def _dihedral(m: int) -> Automaton:
    _at_least(m, 3)
    return word_problem(DihedralGroup(m))


def _quaternions() -> Automaton:
    i, j = Permutation(0, 1, 2, 3)(4, 5, 6, 7), Permutation(0, 4, 2, 6)(1, 7, 3, 5)
    return word_problem(PermutationGroup([i, j]))


def _symmetric(n: int) -> Automaton:
    if not 2 <= n <= 7:
        raise TooLarge(f"S_n is built for n = 2 to 7, got {n}")
    return word_problem(SymmetricGroup(n))


def _alternating(n: int) -> Automaton:
    if not 3 <= n <= 7:
        raise TooLarge(f"A_n is built for n = 3 to 7, got {n}")
    return word_problem(AlternatingGroup(n))


def _arithmetic(m: int) -> Automaton:
    """Sums and products of digits mod m without brackets, as in 2*2+1, that are 0."""
    _at_least(m, 2, LARGEST_MODULUS)
    digits, number = [str(d) for d in range(m)], {}
    start, sink = ("sign", 0, 1), ("sink", 0, 0)  # (what came last, sum of closed terms, open term)
    number[start], queue, rows = 0, [start], []

    def after(state: tuple, letter: str) -> tuple:
        last, total, term = state
        if last == "sign" and letter in digits:
            return ("digit", total, term * int(letter) % m)
        if last == "digit" and letter == "*":
            return ("sign", total, term)
        if last == "digit" and letter in "+-":
            return ("sign", (total + term) % m, 1 if letter == "+" else m - 1)
        return sink

    letters = [*digits, "+", "-", "*"]
    for state in queue:
        row = [after(state, letter) for letter in letters]
        for s in row:
            if s not in number:
                number[s] = len(number)
                queue.append(s)
        rows.append([number[s] for s in row])
    good = {q for (last, total, term), q in number.items() if last == "digit" and (total + term) % m == 0}
    return Automaton.minimal(letters, rows, 0, good)


def random_aperiodic(seed: int = 0, states: int = 5, letters: int = 3) -> Automaton:
    """A minimal automaton of that many states, drawn until its monoid is aperiodic and no letter is trivial."""
    from .classes import algebra_of

    rng = np.random.default_rng(seed)
    while True:
        rows = rng.integers(states, size=(states, letters))
        good = set(np.flatnonzero(rng.integers(2, size=states)).tolist())
        found = Automaton.minimal("abcdefghij"[:letters], rows.tolist(), 0, good)
        if found.size == states:
            algebra = algebra_of(found)
            if algebra.aperiodic and not algebra.r_trivial:
                return found


def _number(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"numbers of names have up to {MOST_DIGITS} digits, got one of {len(digits):,}")
    return int(digits)


def _at_least(m: int, least: int, most: int = 1000) -> None:
    if not least <= m <= most:
        raise ValueError(f"a number from {least} to {most} is needed, got {m}")


_ARITHMETIC = r"mod(?:ular)? arithmetic without brackets"
_MAKERS: tuple[tuple[str, Callable[..., Automaton]], ...] = (
    (r"parity", _parity),
    (r"mod[- ]?(\d+)", _mod),
    (r"(?:cyclic|z|c) ?(\d+)", _cyclic),
    (r"ones mod (\d+)", _ones),
    (r"length mod (\d+)", _length),
    (r"flip[- ]?flop", _flip_flop),
    (r"even[- ]pairs", _even_pairs),
    (r"contains a", _contains),
    (r"dyck[- ]?1,? (?:(?:up )?to )?depth (\d+)", _dyck),
    (r"s ?(\d+)", _symmetric),
    (r"a ?(\d+)", _alternating),
    (r"d ?(\d+)", _dihedral),
    (r"q ?8", _quaternions),
    (r"mod(?:ular)? arithmetic(?: without brackets)?,? (?:mod )?(\d+)", _arithmetic),
    (r"random aperiodic (\d+)", random_aperiodic),
)
