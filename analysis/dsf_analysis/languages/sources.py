"""What may stand for a regular language: a name, a regular expression, an automaton, a group."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sympy.combinatorics import PermutationGroup

from dsf.extras import required

from .automaton import Automaton, TooLarge
from .classes import Algebra, algebra_of
from .holonomy import Cascade, cascade_of
from .named import NAMES, named, word_problem

MOST_STATES = 2_000  # of a minimal automaton, and of the subsets on the way to it
LONGEST = 2_000  # characters of a regular expression
MOST_REPEATS = 200  # in one pair of braces


@dataclass(frozen=True)
class Language:
    """A regular language: its title and its minimal automaton; its algebra and cascade when they are asked for."""

    title: str
    automaton: Automaton
    unknown: dict[str, str] = field(default_factory=dict, compare=False)  # what a cap left open, and which cap

    @cached_property
    def algebra(self) -> Algebra | None:
        """The syntactic monoid; None where it is over the cap, which `unknown` says."""
        try:
            algebra = algebra_of(self.automaton)
            _ = algebra.subgroups, algebra.quasi_aperiodic, algebra.derived_length, algebra.sign_length
            return algebra
        except TooLarge as why:
            self.unknown["monoid"] = str(why)

    @cached_property
    def cascade(self) -> Cascade | None:
        """The holonomy cascade; None where it is over a cap, which `unknown` says."""
        try:
            return cascade_of(self.automaton)
        except TooLarge as why:
            self.unknown["cascade"] = str(why)


def language(x: Any) -> Language:
    """The language that x stands for.

    x: a name ("parity", "mod 3", "flip-flop", "S5", "dyck-1 depth 3", ...), a regular expression over single
    characters (extra `languages`), a path of a JSON file or a mapping {"states", "alphabet", "transitions", "initial",
    "accepting"}, an automaton of automata-lib, or a group of sympy.combinatorics, which stands for its word problem.
    Raises ValueError for what cannot be read, TooLarge (a ValueError) beyond a cap, TypeError for anything else.

    >>> language("parity").automaton.size, language({"states": ["0"], "alphabet": ["a"], "initial": "0",
    ...     "transitions": {"0": {"a": "0"}}, "accepting": []}).automaton.size
    (2, 1)
    """
    if isinstance(x, Language):
        return x
    if isinstance(x, Automaton):
        return Language("this automaton", Automaton.minimal(x.letters, x.table, x.initial, x.accepting))
    if isinstance(x, PermutationGroup):
        return Language(f"the word problem of a group of order {x.order()}", word_problem(x))
    if isinstance(x, Mapping):
        return Language("this automaton", _of_mapping(x))
    if isinstance(x, Path):
        return _of_file(x)
    if isinstance(x, str):
        found = named(x)
        if found is not None:
            return Language(" ".join(x.split()), found)
        if x.endswith(".json"):
            return _of_file(Path(x))
        return Language(f"the regular expression {x}", _of_regex(x))
    if hasattr(x, "initial_state") and hasattr(x, "transitions"):
        return Language("this automaton", _of_automata_lib(x))
    raise TypeError(
        f"a language is a name, a regular expression, a mapping, a group or an automaton, got {type(x).__name__}"
    )


def _of_file(path: Path) -> Language:
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} holds no automaton in JSON: {error}") from None
    if not isinstance(row, Mapping):
        raise ValueError(f"{path} holds no automaton: an object with {', '.join(_KEYS)} is needed")
    return Language(path.name, _of_mapping(row))


_KEYS = ("states", "alphabet", "transitions", "initial", "accepting")


def _of_mapping(row: Mapping[str, Any]) -> Automaton:
    missing = [key for key in _KEYS if key not in row]
    if missing:
        raise ValueError(f"an automaton has the entries {', '.join(_KEYS)}; missing: {', '.join(missing)}")
    states, letters = list(row["states"]), list(row["alphabet"])
    number = {q: i for i, q in enumerate(states)}
    if len(number) != len(states) or len(set(letters)) != len(letters) or not letters:
        raise ValueError("states and letters are named once each, and there is at least one letter")
    if len(states) > MOST_STATES:
        raise TooLarge(f"the automaton has over {MOST_STATES:,} states")

    def state(q: Any, where: str) -> int:
        if not isinstance(q, (str, int)) or q not in number:
            raise ValueError(f"{where} names {q!r}, which is none of the {len(states)} states")
        return number[q]

    rows = []
    for q in states:
        row_of = row["transitions"].get(q) if isinstance(row["transitions"], Mapping) else None
        if not isinstance(row_of, Mapping) or any(a not in row_of for a in letters):
            raise ValueError(f"the automaton must be complete: state {q!r} needs a transition for every letter")
        rows.append([state(row_of[a], f"the transition of {q!r} by {a!r}") for a in letters])
    good = {state(q, "accepting") for q in row["accepting"]}
    return Automaton.minimal([str(a) for a in letters], rows, state(row["initial"], "initial"), good)


def _of_automata_lib(x: Any) -> Automaton:
    """Of a DFA or NFA of automata-lib, by subsets."""
    letters = sorted(map(str, x.input_symbols))
    moves: dict[Any, dict[str, Any]] = {q: dict(row) for q, row in x.transitions.items()}

    def targets(q: Any, a: str) -> frozenset:
        to = moves.get(q, {}).get(a)
        return frozenset() if to is None else frozenset(to) if isinstance(to, (set, frozenset)) else frozenset([to])

    def closed(subset: frozenset) -> frozenset:
        found, queue = set(subset), list(subset)
        for q in queue:
            fresh = targets(q, "") - found
            found |= fresh
            queue += fresh
        return frozenset(found)

    start = closed(frozenset([x.initial_state]))
    number, queue, rows = {start: 0}, [start], []
    for subset in queue:
        row = []
        for a in letters:
            after = closed(frozenset().union(*(targets(q, a) for q in subset)))
            if after not in number:
                number[after] = len(number)
                queue.append(after)
                if len(number) > MOST_STATES:
                    raise TooLarge(f"its deterministic automaton has over {MOST_STATES:,} states")
            row.append(number[after])
        rows.append(row)
    good = {i for subset, i in number.items() if subset & frozenset(x.final_states)}
    return Automaton.minimal(letters, rows, 0, good)


def _of_regex(text: str) -> Automaton:
    expression = "".join(text.split())
    hint = f"names are: {', '.join(NAMES)}"
    if not expression:
        raise ValueError(f"the language is empty text; {hint}")
    repeats = [int(n) for n in re.findall(r"\{[^}]*?(\d+)\}|\{(\d+)", expression) for n in n if n]
    if len(expression) > LONGEST or max(repeats, default=0) > MOST_REPEATS:
        raise TooLarge(f"expressions are read up to {LONGEST:,} characters and {MOST_REPEATS} repeats")
    fa, exceptions = (required(f"automata.{module}", "languages") for module in ("fa.nfa", "base.exceptions"))
    try:
        return _of_automata_lib(fa.NFA.from_regex(expression))
    except (exceptions.AutomatonException, RecursionError) as error:
        raise ValueError(f"{text!r} is neither a name nor a regular expression ({error}); {hint}") from None
