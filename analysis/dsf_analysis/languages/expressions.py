"""What is read of a regular expression: its letters, and how large its automaton grows, before one is made.

automata-lib takes the numbers of repeats for letters, a{0} for a, and [z-a] for nothing: such are told apart here.
"""

from __future__ import annotations

import re

from .automaton import TooLarge

LONGEST = 2_000  # characters of a regular expression
MOST_LETTERS = 2_000  # of its classes
MOST_PARTS = 50_000  # states and transitions that are written on the way to its automaton
TOKEN = re.compile(r"\\.|\[[^\]]*\]|\{[^}]*\}|.", re.S)
SIGNS = frozenset("*+?|&^().{}[]\\")
MEANT = {  # signs that other notations have, and that automata-lib takes for letters
    "-": "ranges stand in brackets, as in [a-z]",
    "~": "there is no complement",
    "ε": "write () for the empty word",
    "∅": "write a&aa for no word at all",
}


def closed_up(text: str) -> str:
    """An expression without its spaces. ValueError for one between letters: is it a letter too?

    >>> closed_up("a | (bc)* & [de]{1, 3}")
    'a|(bc)*&[de]{1,3}'
    """
    found = re.search(r"\w+\s+\w+", text)
    if found:
        raise ValueError(f"{found[0]!r}: spaces in expressions are left out, so write letters without any between them")
    return "".join(text.split())


def letters_of(expression: str) -> frozenset[str]:
    """The letters that an expression names, where it is read at all.

    Raises ValueError for what has another meaning elsewhere; TooLarge where it is long, or where its repeats, products
    and classes of letters multiply beyond a cap.

    >>> sorted(letters_of("(a|[x-z]{2,})*b.")), sorted(letters_of(r"\\*"))
    (['a', 'b', 'x', 'y', 'z'], ['*'])
    >>> letters_of("(a{200}){200}")
    Traceback (most recent call last):
    dsf_analysis.languages.automaton.TooLarge: its repeats and products take over 50,000 states on the way
    """
    if len(expression) > LONGEST:
        raise TooLarge(f"expressions are read up to {LONGEST:,} characters")
    found: set[str] = set()
    for token in TOKEN.findall(expression):
        if token[0] == "{" and re.fullmatch(r"\{0*(,0+)?\}", token):
            raise ValueError(f"{token} repeats nothing: write () for the empty word")
        if token in MEANT:
            raise ValueError(f"{token} is not read: {MEANT[token]}, and [{token}] for the letter")
        if token[0] == "\\" and (token == "\\" or token[1:].isalnum()):
            raise ValueError(f"{token} is not read: a backslash goes before a sign, and letters are named")
        if token[0] == "\\":
            found.add(token[1:])
        elif token[0] == "[" and len(token) > 1:
            found |= _of_class(token)
        elif token not in SIGNS and token[0] != "{":
            found.add(token)
        if len(found) > MOST_LETTERS:
            raise TooLarge(f"expressions are read with up to {MOST_LETTERS:,} letters")
    if not found:
        raise ValueError(f"{expression} names no letters, and . stands for those that are named")
    if _parts(expression, len(found)) > MOST_PARTS:
        raise TooLarge(f"its repeats and products take over {MOST_PARTS:,} states on the way")
    return frozenset(found)


def _of_class(token: str) -> set[str]:
    """The letters of [...]."""
    inside = token[1:-1].removeprefix("^")
    if "\\" in inside:
        raise ValueError(f"{token} is not read: write its letters without a backslash")
    found = set()
    for first, _, last, single in re.findall(r"(.)(-)(.)|(.)", inside, re.S):
        if single:
            found.add(single)
            continue
        if ord(first) > ord(last) or ord(last) - ord(first) >= MOST_LETTERS:
            raise ValueError(f"{token}: a range goes upwards, over at most {MOST_LETTERS:,} letters")
        found |= set(map(chr, range(ord(first), ord(last) + 1)))
    return found


def _parts(expression: str, every: int) -> int:
    """At least what is written while subexpressions are copied, joined and repeated; stops beyond the cap.

    every: how many letters one stands for at most.
    """
    stack: list[tuple[int, str, int]] = []
    left, joint, run, last, written = 0, "", 0, 0, every  # of the terms before, of the factors before, of the last one
    for token in TOKEN.findall(expression):
        if token == "(":
            stack.append((left, joint, run + last))
            left, joint, run, last = 0, "", 0, 0
        elif token in ("|", "&", "^", ")"):
            term = run + last
            left = term if not joint else left + term + 2 if joint == "|" else (left + 2) * (term + 2)
            written += left if joint in ("&", "^") else term
            joint, run, last = token, 0, 0
            if token == ")" and stack:
                last, (left, joint, run) = left, stack.pop()
                written += last if run else 0
        elif token in ("*", "+", "?") or token[0] == "{":
            last = last * max([1, *(int(n[:9]) for n in re.findall(r"\d+", token))]) + 2
            written += last
        else:
            run, last = run + last, 2 + (every if token == "." or token[0] in "\\[" else 1)
            written += last
        if written > MOST_PARTS:
            break
    return written
