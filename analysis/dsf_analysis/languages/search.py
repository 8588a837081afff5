"""Looks for the words that defeat a network of some kind; each finding is checked by its own `check`."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from .automaton import Automaton, Word
from .monoid import Monoid
from .patterns import Clash, Period, Permuting
from .sources import Language

FEW = 60  # states on short cycles of one letter
MOST_PAIRS = 2_000_000_000  # of states, times letters and rounds
MOST_LAYERS = 10_000_000  # states times letters of a word


def letter_period(language: Language, wanted: Callable[[int], bool]) -> Period | None:
    """A letter that the language counts, mod a number that is wanted. Needs no monoid."""
    return _period(language.automaton, ((a,) for a in range(len(language.automaton.letters))), wanted)


def word_period(language: Language, wanted: Callable[[int], bool]) -> Period | None:
    """A word that the language counts, mod a number that is wanted; a letter where the monoid is unknown."""
    algebra = language.algebra
    if algebra is None:
        return letter_period(language, wanted)
    periods = algebra.monoid.periods
    useful = np.isin(periods, [p for p in algebra.exponents if _any_divisor(p, wanted)])
    periodic = np.flatnonzero(useful).tolist()  # breadth first: short words first
    return _period(language.automaton, map(algebra.monoid.word, periodic), wanted)


def _period(a: Automaton, words: Iterable[Word], wanted: Callable[[int], bool]) -> Period | None:
    to, useful = a.words_to(), {}
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
            if len(cycle) not in useful:
                useful[len(cycle)] = _any_divisor(len(cycle), wanted)
            if not useful[len(cycle)]:
                continue
            for prime in _primes(len(cycle)):
                v = a.separator(cycle[0], cycle[len(cycle) // prime])
                assert v is not None
                bits = [a.run(v, state) in a.accepting for state in cycle]
                period = next(p for p in range(1, len(bits) + 1) if bits == bits[p:] + bits[:p])
                if wanted(period):
                    return Period(to[cycle[0]], u, v, period)
    return None


def _any_divisor(n: int, wanted: Callable[[int], bool]) -> bool:
    return any(n % p == 0 and wanted(p) for p in range(2, n + 1))


def _primes(n: int) -> list[int]:
    return [p for p in range(2, n + 1) if n % p == 0 and all(p % d for d in range(2, math.isqrt(p) + 1))]


def permuting(language: Language, series: str, layers: float) -> Permuting | None:
    """A subgroup whose series of that kind takes more than `layers` steps."""
    algebra = language.algebra
    for g in algebra.subgroups if algebra else ():
        length = g.derived_length if series == "derived" else g.sign_length
        if math.isinf(length) or length > layers:
            return Permuting(g.words, g.points, series, None if math.isinf(length) else int(length))
    return None


def memory_clash(language: Language) -> Clash | None:
    """Two states that one word leads back to themselves: no window of the last letters tells them apart."""
    a = language.automaton
    found = _returning(a, np.ones((a.size, a.size), dtype=bool))
    if found is None:
        return None
    p, q, u = found
    to, v = a.words_to(), a.separator(p, q)
    assert v is not None
    return Clash("memory", to[p], to[q], u, (), (), v)


def window_clash(language: Language) -> Clash | None:
    """The same, of states that words of equal length reach, within a component that no word leaves."""
    a = language.automaton
    component, period, level = _components(a)
    final = np.array([(component[row] == component[q]).all() for q, row in enumerate(a.maps.T)])
    final = np.isin(component, component[~final], invert=True)
    alike = (component[:, None] == component) & final & ((level[:, None] - level) % period == 0)
    found = _returning(a, alike)
    if found is None:
        return None
    p, q, u = found
    to, v = a.words_to(), a.separator(p, q)
    base = next(r for r in to if component[r] == component[p])  # an early letter can be remembered: not before here
    ways = _equally_long(a, base, p, q)
    assert v is not None
    return ways and Clash("window", to[base] + ways[0], to[base] + ways[1], u, (), (), v)


def average_clash(language: Language) -> Clash | None:
    """Two states of one component that a letter tells apart: frequencies of letters do not tell which it is."""
    a = language.automaton
    component, to = _components(a)[0], a.words_to()
    for p in range(a.size):
        beside = np.flatnonzero(component == component[p])
        differ = np.argwhere(a.maps[:, beside] != a.maps[:, [p]])
        if not len(differ):
            continue
        i, q = int(differ[0, 0]), int(beside[differ[0, 1]])
        x, back, v = a.words_to(p)[q], a.words_to(q)[p], a.separator(a.table[p][i], a.table[q][i])
        assert v is not None
        return Clash("average", to[p], to[p], x + back, (), x, (i, *v))
    return None


def even_period(language: Language) -> Period | None:
    """A word of even length that the language counts; None where there is none or the monoid is unknown."""
    algebra = language.algebra
    if algebra is None or algebra.aperiodic:
        return None
    return _period(language.automaton, _even_words(algebra.monoid), lambda period: period > 1)


def _even_words(m: Monoid) -> Iterator[Word]:
    """A shortest word of even length of every element that has one and is periodic."""
    seen: dict[tuple[int, int], Word] = {(0, 0): ()}
    queue = deque(seen)
    while queue:
        i, odd_length = queue.popleft()
        word = seen[i, odd_length]
        if word and not odd_length and m.periods[i] > 1:
            yield word
        for a, j in enumerate(m.right[i].tolist()):
            if (j, 1 - odd_length) not in seen:
                seen[j, 1 - odd_length] = (*word, a)
                queue.append((j, 1 - odd_length))


def _returning(a: Automaton, allowed: np.ndarray) -> tuple[int, int, Word] | None:
    """Two different states that are allowed, and a word that leads each back to itself.

    allowed [states, states]: closed under words. A power of a letter where one does; None too beyond a cap.
    """
    allowed = allowed & ~np.eye(a.size, dtype=bool)
    short: tuple[int, int, Word] | None = None
    for i, f in enumerate(a.maps.tolist()):
        around = sorted((length, q) for q, length in _cycles(f).items())[:FEW]
        for (m, p), (n, q) in combinations(around, 2):
            if allowed[p, q] and (short is None or math.lcm(m, n) < len(short[2])):
                short = p, q, (i,) * math.lcm(m, n)
        if short and len(short[2]) == 1:
            break
    return short or _walked(a, allowed)


def _cycles(f: list[int]) -> dict[int, int]:
    """The states that a map leads back to themselves, and after how many steps."""
    found, done = {}, set()
    for start in range(len(f)):
        way, q = [], start
        while q not in done:
            done.add(q)
            way.append(q)
            q = f[q]
        if q in way:
            cycle = way[way.index(q) :]
            found |= dict.fromkeys(cycle, len(cycle))
    return found


def _walked(a: Automaton, alive: np.ndarray) -> tuple[int, int, Word] | None:
    """The same by taking pairs away from which every letter leads to pairs that are gone; what is left leads round."""
    maps = np.unique(a.maps, axis=0)
    for _ in range(MOST_PAIRS // max(1, alive.size * len(maps))):
        onward = np.zeros_like(alive)
        for f in maps:
            onward |= alive[f][:, f]
        if (onward & alive).sum() == alive.sum():
            break
        alive = onward & alive
    else:
        return None
    if not alive.any():
        return None
    p, q = np.argwhere(alive)[0].tolist()
    seen: dict[tuple[int, int], int] = {}
    word: list[int] = []
    while (p, q) not in seen:
        seen[p, q] = len(word)
        ahead = a.maps[:, p], a.maps[:, q]
        i = int(np.argmax(alive[ahead]))
        word.append(i)
        p, q = int(ahead[0][i]), int(ahead[1][i])
    return p, q, tuple(word[seen[p, q] :])


def _components(a: Automaton) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each state: its component, the greatest common divisor of the lengths of words round it, and how far in it is.

    Two states of a component are reached by words of equal length iff they are equally far in, mod that divisor.
    """
    rows = np.repeat(np.arange(a.size), len(a.letters))
    graph = csr_matrix((np.ones(len(rows)), (rows, a.maps.T.reshape(-1))), shape=(a.size, a.size))
    component = connected_components(graph, connection="strong")[1]
    level, period = np.full(a.size, -1), np.zeros(a.size, dtype=np.int64)
    for start in range(a.size):
        if level[start] >= 0:
            continue
        level[start], queue = 0, [start]
        for q in queue:
            for r in a.table[q]:
                if component[r] == component[start] and level[r] < 0:
                    level[r] = level[q] + 1
                    queue.append(r)
        around = (level[queue] + 1 - level[a.maps[:, queue]])[component[a.maps[:, queue]] == component[start]]
        period[queue] = np.gcd.reduce(np.abs(around)) if len(around) else 0
    return component, np.maximum(period, 1), level


def _equally_long(a: Automaton, base: int, p: int, q: int) -> tuple[Word, Word] | None:
    """Words of equal length from a state to two states; None where there are none of a length below a cap."""
    layer = np.arange(a.size) == base
    layers = [layer]
    while not (layer[p] and layer[q]):
        if len(layers) * a.size > MOST_LAYERS:
            return None
        after = np.zeros_like(layer)
        after[a.maps[:, layer]] = True
        layers.append(layer := after)

    def back(state: int) -> Word:
        word = []
        for before in reversed(layers[:-1]):
            i, state = np.argwhere((a.maps == state) & before)[0].tolist()
            word.append(i)
        return tuple(reversed(word))

    return back(p), back(q)
