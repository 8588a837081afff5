"""What may stand for a regular language: a name, a regular expression, an automaton, a group."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sympy.combinatorics import PermutationGroup

from dsf.extras import required

from .automaton import Automaton, TooLarge
from .classes import Algebra, algebra_of
from .expressions import closed_up, letters_of
from .holonomy import Cascade, cascade_of
from .named import in_full, named, word_problem
from .spellings import hint, refuse_misspelt

MOST_STATES = 2_000  # of a given automaton, and of the subsets on the way to one
MOST_TRANSITIONS = 400_000  # states times letters
MOST_MOVES = 3_000_000  # of single states, on the way from subset to subset
MOST_BYTES = 64_000_000  # of a file


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
            cascade = cascade_of(self.automaton)
            _ = cascade.reachable
            return cascade
        except TooLarge as why:
            self.unknown["cascade"] = str(why)


def language(x: Any) -> Language:
    """The language that x stands for.

    x: a name ("parity", "mod 3", "flip-flop", "S5", "dyck-1 depth 3", ...), a regular expression over single
    characters (extra `languages`; spaces are left out), a path of a JSON file or a mapping {"states", "alphabet",
    "transitions", "initial", "accepting"}, an automaton of automata-lib, or a group of sympy.combinatorics, which
    stands for its word problem.
    A text without signs of expressions that looks like a name and is none, as "dyck" or "K4", is refused.
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
        automaton = word_problem(x)
        return Language(f"the word problem of a group of order {automaton.size}", automaton)
    if isinstance(x, Mapping):
        return Language("this automaton", _of_mapping(x))
    if isinstance(x, Path):
        return _of_file(x)
    if isinstance(x, str):
        found = named(x)
        if found is not None:
            return Language(in_full(x), found)
        if x.endswith(".json"):
            return _of_file(Path(x))
        return Language(f"the regular expression {x}", _of_regex(x))
    if all(hasattr(x, name) for name in ("initial_state", "final_states", "transitions", "input_symbols")):
        if hasattr(x, "stack_symbols") or hasattr(x, "tape_symbols"):
            raise TypeError(f"a {type(x).__name__} has more than finitely many states: give a DFA or NFA")
        return Language("this automaton", _of_automata_lib(x))
    raise TypeError(
        f"a language is a name, a regular expression, a mapping, a group or an automaton, got {type(x).__name__}"
    )


def _of_file(path: Path) -> Language:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise TooLarge(f"{path} has over {MOST_BYTES:,} bytes")
        row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} holds no automaton in JSON: {error}") from None
    if not isinstance(row, Mapping):
        raise ValueError(f"{path} holds no automaton: an object with {', '.join(_KEYS)} is needed")
    return Language(path.name, _of_mapping(row))


_KEYS = ("states", "alphabet", "transitions", "initial", "accepting")


def _of_mapping(row: Mapping[str, Any]) -> Automaton:
    """States and letters are compared as text: the keys of an object of JSON are."""
    missing = [key for key in _KEYS if key not in row]
    if missing:
        raise ValueError(f"an automaton has the entries {', '.join(_KEYS)}; missing: {', '.join(missing)}")
    states, letters, accepting = (_texts(row[key], key) for key in ("states", "alphabet", "accepting"))
    number = {q: i for i, q in enumerate(states)}
    if len(number) != len(states) or len(set(letters)) != len(letters) or not letters:
        raise ValueError("states and letters are named once each, and there is at least one letter")
    _hold(len(states), len(letters), "the automaton has")

    def state(q: Any, where: str) -> int:
        if not isinstance(q, (str, int)) or str(q) not in number:
            raise ValueError(f"{where} names {q!r}, which is none of the {len(states)} states")
        return number[str(q)]

    rows_of, rows = _keyed(row["transitions"], "transitions"), []
    for q in states:
        row_of = _keyed(rows_of.get(q, {}), f"transitions of {q!r}")
        if any(a not in row_of for a in letters):
            raise ValueError(f"the automaton must be complete: state {q!r} needs a transition for every letter")
        rows.append([state(row_of[a], f"the transition of {q!r} by {a!r}") for a in letters])
    good = {state(q, "accepting") for q in accepting}
    return Automaton.minimal(letters, rows, state(row["initial"], "initial"), good)


def _texts(names: Any, key: str) -> list[str]:
    if not isinstance(names, (list, tuple, set, frozenset)) or not all(isinstance(q, (str, int)) for q in names):
        raise ValueError(f"{key} is a list of names, text or whole numbers")
    return [str(q) for q in names]


def _keyed(row: Any, what: str) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        kind = type(row).__name__
        raise ValueError(f"transitions[state][letter] is a state, in a mapping of mappings; {what}: a {kind}")
    return {str(key): value for key, value in row.items()}


def _hold(states: int, letters: int, what: str) -> None:
    if states > MOST_STATES:
        raise TooLarge(f"{what} over {MOST_STATES:,} states")
    if states * letters > MOST_TRANSITIONS:
        raise TooLarge(f"{what} over {MOST_TRANSITIONS:,} transitions")


def _of_automata_lib(x: Any) -> Automaton:
    """Of a DFA or NFA of automata-lib, by subsets."""
    letters, work = sorted(x.input_symbols), 0
    if not letters:
        raise ValueError("the language has no letters")

    def targets(to: Any) -> Any:
        return to if isinstance(to, (set, frozenset)) else (to,)

    def closed(subset: set) -> frozenset:
        found, queue = set(subset), list(subset)
        for q in queue:
            fresh = set(targets(x.transitions.get(q, {}).get("", ()) or set())) - found
            found |= fresh
            queue += fresh
        return frozenset(found)

    start = closed({x.initial_state})
    number, queue, rows, known = {start: 0}, [start], [], {}
    for subset in queue:
        after: dict[str, set] = {a: set() for a in letters}
        for q in subset:
            for a, to in x.transitions.get(q, {}).items():
                if a != "":
                    after[a].update(targets(to))
        row = []
        for a in letters:
            before = frozenset(after[a])
            if before not in known:
                reached = closed(after[a])
                known[before] = number.setdefault(reached, len(number))
                if len(number) > len(queue):
                    queue.append(reached)
                work += len(reached)
            row.append(known[before])
            work += len(before)
        rows.append(row)
        _hold(len(number), len(letters), "its deterministic automaton has")
        if work > MOST_MOVES:
            raise TooLarge(f"its deterministic automaton takes over {MOST_MOVES:,} moves")
    good = {i for subset, i in number.items() if subset & frozenset(x.final_states)}
    return Automaton.minimal(letters, rows, 0, good)


def _of_regex(text: str) -> Automaton:
    if not text.strip():
        raise ValueError(f"the language is empty text; {hint()}")
    refuse_misspelt(text)
    expression = closed_up(text)
    letters = letters_of(expression)
    fa, exceptions = (required(f"automata.{module}", "languages") for module in ("fa.nfa", "base.exceptions"))
    try:
        automaton = fa.NFA.from_regex(expression, input_symbols=letters)
    except (exceptions.AutomatonException, exceptions.RegexException, RecursionError) as error:
        raise ValueError(f"{text!r} is neither a name nor a regular expression ({error}); {hint(text)}") from None
    return _of_automata_lib(automaton)
