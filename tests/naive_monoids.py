"""What follows from a finite automaton by definition alone, slowly: references for the package `languages`."""

from itertools import product

from hypothesis import strategies as st

from dsf_analysis.languages.automaton import Automaton


@st.composite
def automata(draw, states=6, letters=3):
    """Minimal automata of random complete ones."""
    n, k = draw(st.integers(1, states)), draw(st.integers(1, letters))
    rows = draw(st.lists(st.lists(st.integers(0, n - 1), min_size=k, max_size=k), min_size=n, max_size=n))
    good = draw(st.sets(st.integers(0, n - 1)))
    return Automaton.minimal("abc"[:k], rows, 0, good)


def then(f, g):
    return tuple(g[i] for i in f)


def monoid(a):
    """All maps of words, closed under products with all that is known."""
    letters = [tuple(row[i] for row in a.table) for i in range(len(a.letters))]
    found = {tuple(range(a.size))} | set(letters)
    while True:
        more = found | {then(f, g) for f in found for g in letters}
        if more == found:
            return found
        found = more


def green(M):
    """The R-, L- and J-classes, as maps from elements to the one-sided and two-sided ideals that they make."""
    right = {x: frozenset(then(x, m) for m in M) for x in M}
    left = {x: frozenset(then(m, x) for m in M) for x in M}
    both = {x: frozenset(then(m, y) for y in right[x] for m in M) for x in M}
    return right, left, both


def powers(x):
    """x, x^2, ... until one comes again; and the period."""
    found = [x]
    while (after := then(found[-1], x)) not in found:
        found.append(after)
    return found, len(found) - found.index(after)


def subgroup_orders(M):
    """Orders of the maximal subgroups, one for each J-class, those of order 1 left out; the largest first."""
    right, left, both = green(M)
    orders = {}
    for e in M:
        if then(e, e) == e:
            orders[both[e]] = sum(right[x] == right[e] and left[x] == left[e] for x in M)
    return sorted((n for n in orders.values() if n > 1), reverse=True)


def layers(a):
    """The sets of maps of words of lengths 1, 2, ... until one comes again."""
    letters = [tuple(row[i] for row in a.table) for i in range(len(a.letters))]
    found, now = [], frozenset(letters)
    while now not in found:
        found.append(now)
        now = frozenset(then(f, g) for f in now for g in letters)
    return found


def quasi_aperiodic(a):
    """Does no set of the maps of all words of one length hold a group that is not trivial?"""
    for layer in layers(a):
        for x in layer:
            found, period = powers(x)
            cycle = found[len(found) - period :]
            if period > 1 and set(cycle) <= layer:
                return False
    return True


def words(letters, longest):
    """All words of up to so many letters, as strings."""
    for n in range(longest + 1):
        yield from map("".join, product(letters, repeat=n))


def spelled(a, longest):
    """All words of up to so many letters, as tuples of letters."""
    for n in range(longest + 1):
        yield from product(a.letters, repeat=n)
