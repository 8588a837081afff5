"""A text that was meant for a name, and is none: told apart from a regular expression, with the names that are near."""

from __future__ import annotations

import difflib
import re

from .expressions import MEANT, SIGNS
from .named import NAMES

SHORTEST = 4  # letters of a word that is compared with the words of names: shorter ones are near to anything
LONGEST = 60  # characters that are compared, and shown


def _shape(name: str) -> str:
    """A name with # for its number, so that only words are compared."""
    return re.sub(r"\b(M|H|SEED)$|(?<=_)M$|\d+", "#", name).lower().replace("_", " ")


_SHAPES = {_shape(name): name for name in reversed(NAMES)}
_WORDS = {word for word in (re.split(r"[^a-z]", shape)[0] for shape in _SHAPES) if len(word) > 1}


def hint(text: str = "") -> str:
    """The names that are near to a text, else all of them."""
    shape = _shape(text[:LONGEST])
    word = re.split(r"[^a-z]", shape)[0]
    same = [s for s in _SHAPES if word in _WORDS and re.split(r"[^a-z]", s)[0] == word]
    close = difflib.get_close_matches(shape, _SHAPES, n=3, cutoff=0.6)
    near = [_SHAPES[s] for s in dict.fromkeys([*same, *close])]
    return f"names that are near: {', '.join(near)}" if near else f"names are: {', '.join(NAMES)}"


def refuse_misspelt(text: str) -> None:
    """ValueError for a text without a sign of expressions that looks like a name: "dyck", "mod -3", "K4", "pairity".

    >>> refuse_misspelt("abb"), refuse_misspelt("(dyck)")
    (None, None)
    >>> refuse_misspelt("cyclic")
    Traceback (most recent call last):
    ValueError: 'cyclic' is no name; as an expression, put it in parentheses: (cyclic); names that are near: cyclic M
    """
    plain = text.strip()
    if not plain or SIGNS & set(plain):
        return
    spaced = len(plain.split()) > 1 or bool({"-", "_"} & set(plain))
    numbered = any(c.isdigit() for c in plain) and any(c.isalpha() for c in plain)
    if spaced or numbered or _is_near(plain.lower()):
        short = len(plain) <= LONGEST
        shown = plain if short else plain[:LONGEST] + "..."
        written = "".join(f"[{c}]" if c in MEANT else c for c in plain if not c.isspace())
        way = f"put it in parentheses{f': ({written})' if short else ''}"
        raise ValueError(f"{shown!r} is no name; as an expression, {way}; {hint(plain)}")


def _is_near(word: str) -> bool:
    """Is it the first word of a name, or nearly a word or name?"""
    if word in _WORDS:
        return True
    return SHORTEST <= len(word) <= LONGEST and bool(difflib.get_close_matches(word, [*_WORDS, *_SHAPES], 1, 0.8))
