"""Looks for the words that defeat a network of some kind; each finding is checked by its own `check`."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator

from .automaton import Automaton, Word
from .patterns import Clash, Period, Permuting
from .sources import Language


def letter_period(language: Language, wanted: Callable[[int], bool]) -> Period | None:
    """A letter that the language counts, mod a number that is wanted. Needs no monoid."""
    return _period(language.automaton, ((a,) for a in range(len(language.automaton.letters))), wanted)


def word_period(language: Language, wanted: Callable[[int], bool]) -> Period | None:
    """A word that the language counts, mod a number that is wanted; a letter where the monoid is unknown."""
    algebra = language.algebra
    if algebra is None:
        return letter_period(language, wanted)
    periodic = (i for i in range(algebra.size) if algebra.monoid.periods[i] > 1)  # breadth first: short words first
    return _period(language.automaton, map(algebra.monoid.word, periodic), wanted)


def _period(a: Automaton, words: Iterator[Word], wanted: Callable[[int], bool]) -> Period | None:
    to = a.words_to()
    for u in words:
        after, done = a.map_of(u), set()
        for start in range(a.size):
            cycle, q = [], start
            while q not in done:
                done.add(q)
                cycle.append(q)
                q = after[q]
            if q not in cycle:
                continue
            cycle = cycle[cycle.index(q) :]
            for prime in _primes(len(cycle)):
                v = a.separator(cycle[0], cycle[len(cycle) // prime])
                assert v is not None
                bits = [a.run(v, state) in a.accepting for state in cycle]
                period = next(p for p in range(1, len(bits) + 1) if bits == bits[p:] + bits[:p])
                if wanted(period):
                    return Period(to[cycle[0]], u, v, period)
    return None


def _primes(n: int) -> list[int]:
    return [p for p in range(2, n + 1) if n % p == 0 and all(p % d for d in range(2, math.isqrt(p) + 1))]


def odd(period: int) -> bool:
    """Not a power of two."""
    return period & (period - 1) != 0


def permuting(language: Language, series: str, layers: float) -> Permuting | None:
    """A subgroup whose series of that kind takes more than `layers` steps."""
    algebra = language.algebra
    for g in algebra.subgroups if algebra else ():
        length = g.derived_length if series == "derived" else g.sign_length
        if length > layers:
            return Permuting(g.words, g.points, series, None if math.isinf(length) else int(length))
    return None


def memory_clash(language: Language) -> Clash | None:
    """Two states that one word leads back to themselves: no window of the last letters tells them apart."""
    a = language.automaton
    return _loop(a, [(p, q) for p in range(a.size) for q in range(p)], "memory", a.words_to())


def window_clash(language: Language) -> Clash | None:
    """The same, of states that words of equal length reach, within a component that no word leaves."""
    a = language.automaton
    reach = {q: set(a.words_to(q)) for q in range(a.size)}
    for start in range(a.size):
        if any(start not in reach[r] for r in reach[start]):
            continue  # not final
        pairs = _equal_length(a, start)
        found = _loop(a, [pair for pair in pairs if pair[0] != pair[1]], "window", a.words_to(), start, pairs)
        if found:
            return found
    return None


def _equal_length(a: Automaton, start: int) -> dict[tuple[int, int], tuple[Word, Word]]:
    """Pairs that words of equal length reach from a state, with the words."""
    found: dict[tuple[int, int], tuple[Word, Word]] = {(start, start): ((), ())}
    queue = deque(found)
    while queue:
        p, q = queue.popleft()
        one, two = found[p, q]
        for i, r in enumerate(a.table[p]):
            for j, s in enumerate(a.table[q]):
                if (r, s) not in found:
                    found[r, s] = ((*one, i), (*two, j))
                    queue.append((r, s))
    return found


def _loop(a: Automaton, starts, kind: str, to: dict[int, Word], base: int | None = None, pairs=None) -> Clash | None:
    """From one of the pairs, by equal letters, to a cycle of pairs of different states."""
    seen: set[tuple[int, int]] = set()
    for pair in starts:
        for reached, way in _pairs_from(a, pair, seen).items():
            u = _cycle(a, reached)
            if u is None:
                continue
            v = a.separator(*reached)
            assert v is not None
            if pairs is None:
                x1, x2 = to[reached[0]], to[reached[1]]
            else:
                assert base is not None
                x1, x2 = (to[base] + side + way for side in pairs[pair])
            return Clash(kind, x1, x2, u, (), (), v)
    return None


def _pairs_from(a: Automaton, pair: tuple[int, int], seen: set) -> dict[tuple[int, int], Word]:
    if pair in seen:
        return {}
    seen.add(pair)
    found: dict[tuple[int, int], Word] = {pair: ()}
    queue = deque([pair])
    while queue:
        p, q = queue.popleft()
        for i in range(len(a.letters)):
            after = a.table[p][i], a.table[q][i]
            if after[0] != after[1] and after not in seen:
                seen.add(after)
                found[after] = (*found[p, q], i)
                queue.append(after)
    return found


def _cycle(a: Automaton, pair: tuple[int, int]) -> Word | None:
    """A shortest non-empty word that leads both states back to themselves."""
    found: dict[tuple[int, int], Word] = {}
    queue: deque[tuple[tuple[int, int], Word]] = deque([(pair, ())])
    while queue:
        (p, q), word = queue.popleft()
        for i in range(len(a.letters)):
            after = a.table[p][i], a.table[q][i]
            if after == pair:
                return (*word, i)
            if after[0] != after[1] and after not in found:
                found[after] = (*word, i)
                queue.append((after, found[after]))
    return None


def average_clash(language: Language) -> Clash | None:
    """Two states of one component that a letter tells apart: frequencies of letters do not tell which it is."""
    a = language.automaton
    to = a.words_to()
    for p in range(a.size):
        onward = a.words_to(p)
        for q, x in onward.items():
            back = a.words_to(q).get(p)
            if q == p or back is None:
                continue
            for i in range(len(a.letters)):
                v = a.separator(a.table[p][i], a.table[q][i])
                if v is not None:
                    return Clash("average", to[p], to[p], x + back, (), x, (i, *v))
    return None
