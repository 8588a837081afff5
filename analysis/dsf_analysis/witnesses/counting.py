"""Languages that need no reset: what happened before, in a partial order; and how high a bounded counter stands.

Layers with A = I alone (linear attention) count, and averages (softmax attention) tell none, one and more events apart.
"""

from __future__ import annotations

import itertools

import networkx as nx

from ..languages.automaton import Automaton
from ..languages.sources import Language
from .builder import Builder, NotBuilt, Quantity, jointly
from .skills import Search
from .stacks import StackWitness


def ordered_witness(search: Search, language: Language) -> StackWitness:
    """For languages whose state before the last letter never comes back once it is left.

    Two layers per state of a longest chain: a letter that leaves it was read, and which state was then entered.
    NotBuilt where states come back, or where no head remembers that something happened.
    """
    a = language.automaton
    state_of, table = _before_the_last_letter(a)
    graph = nx.DiGraph((q, r) for q, row in enumerate(table) for r in row if r != q)
    graph.add_nodes_from(range(len(table)))
    if not nx.is_directed_acyclic_graph(graph):
        raise NotBuilt("its states come back after they were left")
    b = Builder(search, a)
    start = state_of[a.initial]
    entering: dict[int, list[Quantity]] = {}  # events: at most one of them happens, once
    status: list[tuple[int, Quantity]] = []  # (state, was it where the word stood before this letter?)
    for q in nx.topological_sort(graph):
        if q == start:
            was = b.letter.then(lambda _: True)
        elif q in entering:
            event = jointly(lambda *e: any(e), *entering[q])
            was = jointly(lambda n, e: n - int(e) >= 1, b.events(event), event)
        else:
            continue  # words do not reach it
        after = sorted({r for r in table[q] if r != q})
        if not after:
            status.append((q, was))
            continue
        leaving = jointly(lambda a, w, q=q: w and table[q][a] != q, b.letter, was)
        times = b.events(leaving)
        status.append((q, jointly(lambda w, n, e: w and n - int(e) == 0, was, times, leaving)))
        for r in after:
            entering.setdefault(r, []).append(
                jointly(lambda a, n, e, q=q, r=r: e and n == 1 and table[q][a] == r, b.letter, times, leaving)
            )
    representative = {c: q for q, c in enumerate(state_of)}

    def accepted(letter: int, *here: bool) -> bool | None:
        at = [q for (q, _), holds in zip(status, here, strict=True) if holds]
        return a.table[representative[at[0]]][letter] in a.accepting if len(at) == 1 else None

    recipe = "which states of a partial order were entered and left, each remembered for ever"
    return b.witness(jointly(accepted, b.letter, *(s for _, s in status)), recipe)


def _before_the_last_letter(a: Automaton) -> tuple[list[int], list[list[int]]]:
    """States that every letter leads to the same states are one: (class of each state, transitions of classes)."""
    number: dict[tuple[int, ...], int] = {}
    state_of = [number.setdefault(row, len(number)) for row in a.table]
    return state_of, [[state_of[r] for r in row] for row in number]


def counter_witness(search: Search, language: Language) -> StackWitness:
    """For languages that count up and down between two bounds and reject for ever beyond them (Dyck-1 up to a depth).

    A counter, and a layer that remembers whether a bound was crossed. NotBuilt for other languages.
    """
    a = language.automaton
    trap = next((q for q, row in enumerate(a.table) if set(row) == {q} and q not in a.accepting), None)
    found = next(filter(None, (_heights(a, trap, c) for c in _weights(len(a.letters)))), None)
    if found is None:
        raise NotBuilt("it is no counter between two bounds")
    weights, height = found
    at = {h: q for q, h in height.items()}
    b = Builder(search, a)
    add = b.letter.then(lambda letter: weights[letter])
    shown, before = b.count(add, min(at), max(at))
    old = shown if before else jointly(lambda h, c: h - c, shown, add)
    new = jointly(lambda h, c: h + c, shown, add) if before else shown
    crossed = jointly(lambda letter, h: h not in at or a.table[at[h]][letter] == trap, b.letter, old)
    ever = b.events(crossed)
    accepted = jointly(lambda n, h: n == 0 and at.get(h) in a.accepting, ever, new)
    return b.witness(accepted, "a counter, and a layer that remembers whether it ever left its bounds")


def _weights(letters: int):
    return itertools.product((-1, 0, 1), repeat=letters) if letters <= 6 else ()


def _heights(a: Automaton, trap: int | None, weights: tuple[int, ...]):
    """(weights, height of each state) where every letter adds its weight, heights are distinct, or it traps."""
    height, queue = {a.initial: 0}, [a.initial]
    if trap is None or a.initial == trap:
        return None
    for q in queue:
        for letter, r in enumerate(a.table[q]):
            if r == trap:
                continue
            h = height[q] + weights[letter]
            if height.setdefault(r, h) != h:
                return None
            if r not in queue:
                queue.append(r)
    return (weights, height) if len(set(height.values())) == len(height) else None
