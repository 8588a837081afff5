"""Running products in a finite group, a layer for each step of a normal series; in blocks where a token does little.

A head that turns by R(g) at a token g shows the product up to the kernel N of R. The next layer multiplies in N: with a
representative t(q) of each coset, g = n t(q), and n_t = n_(t-1) . t(q_(t-1)) u_t t(q_t)^-1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from dsf import Architecture

from ..languages.holonomy import Map, then
from .builder import Builder, NotBuilt, Quantity, jointly
from .corners import Signals
from .matrix_skills import MatrixSearch, generic
from .representations import LARGEST, irreducible, kernel, rank, reflections
from .skills import one_head, run, state_after

LARGEST_DIMENSION = 4
FLIPPED = np.diag([1.0, -1.0])


def running_product(b: Builder, elements: list[Map], step: Quantity) -> Quantity:
    """The number of the product of all steps so far (elements[0] is 1, steps multiply on the right)."""
    if len(elements) == 1:
        return step.then(lambda _: 0)
    if len(elements) > LARGEST:
        raise NotBuilt(f"the group has over {LARGEST} elements")
    group = _Group(elements)
    used = sorted(_values(b, step))
    chosen, N = _fewest(_turnings(b, irreducible(elements), used), frozenset(range(len(elements))))
    if not chosen:
        return _in_blocks(b, group, step, used)
    shown = [t.head(b, group, step) for t in chosen]
    coset_of = {g: frozenset(group.product[n][g] for n in N) for g in range(group.size)}
    first = {c: min(c) for c in set(coset_of.values())}
    by_classes = {tuple(t.coset[g] for t in chosen): first[coset_of[g]] for g in range(group.size)}
    q = jointly(lambda *classes: by_classes.get(classes), *shown)  # the representative of the coset
    if len(N) == 1:
        return q
    members = sorted(N)
    place = {g: i for i, g in enumerate(members)}

    def inner_step(now: int, u: int) -> int | None:
        old = first[coset_of[group.product[now][group.inverse[u]]]]
        return place.get(group.product[group.product[old][u]][group.inverse[now]])

    n = running_product(b, [elements[g] for g in members], jointly(inner_step, q, step))
    return jointly(lambda i, t: group.product[members[i]][t], n, q)


class _Group:
    """Products and inverses by number."""

    def __init__(self, elements: list[Map]):
        number = {g: i for i, g in enumerate(elements)}
        self.size = len(elements)
        self.product = [[number[then(g, h)] for h in elements] for g in elements]
        self.inverse = [row.index(0) for row in self.product]


class _Turning:
    """A representation that one head can be: coset[g] is the class of g modulo its kernel."""

    def __init__(
        self, R: np.ndarray, rows: dict[Any, Signals], start: Any, search: MatrixSearch, twofold: bool, before: bool
    ):
        self.R, self.rows, self.start, self.search, self.twofold, self.before = R, rows, start, search, twofold, before
        self.kernel = kernel(R)
        keys: dict[tuple, int] = {}
        self.coset = [keys.setdefault(tuple(np.round(r, 5).flatten().tolist()), len(keys)) for r in R]

    def head(self, b: Builder, group: _Group, step: Quantity) -> Quantity:
        """Adds the head; the class of the product that it shows."""
        if self.twofold:
            return self._alternating(b, group, step)
        state = _state(self.search.alone, self.rows, self.start)
        seen = _walk(
            self.search.alone,
            self.rows,
            state,
            lambda at, u: group.product[at][u],
            0,
            lambda g: self.coset[g],
            self.before,
        )
        levels, order = _levels(seen)
        number = b.head(step, lambda u: (self.rows[u], 0.0), levels, state)
        shown = Quantity((number,), lambda s: order[s])
        if not self.before:
            return shown
        one = {c: g for g, c in reversed(list(enumerate(self.coset)))}
        return jointly(lambda c, u: self.coset[group.product[one[c]][u]], shown, step)

    def _alternating(self, b: Builder, group: _Group, step: Quantity) -> Quantity:
        """A rotation as two reflections, one per token: F R at odd tokens, R F at even ones."""
        time, before = b.flip(step.then(lambda _: True))
        odd = time.then(lambda bit: 1 - bit) if before else time
        action = jointly(lambda u, bit: (u, bit), step, odd)
        state = _state(self.search.alone, self.rows, self.start)

        def after(at: tuple[int, int], token: tuple[int, int]) -> tuple[int, int] | None:
            return (group.product[at[0]][token[0]], token[1]) if token[1] != at[1] else None

        seen = _walk(
            self.search.alone, self.rows, state, after, (0, 0), lambda at: (self.coset[at[0]], at[1]), self.before
        )
        levels, order = _levels(seen)
        number = b.head(action, lambda token: (self.rows[token], 0.0), levels, state)
        shown = Quantity((number,), lambda s: order[s][0])
        if not self.before:
            return shown
        one = {c: g for g, c in reversed(list(enumerate(self.coset)))}
        return jointly(lambda c, u: self.coset[group.product[one[c]][u]], shown, step)


def _turnings(b: Builder, representations: list[np.ndarray], used: list[int]) -> list[_Turning]:
    """Those that one head can be; a faithful one that is not twofold alone: it needs no others."""
    found = []
    for R in sorted((R for R in representations if len(R[0]) <= LARGEST_DIMENSION), key=lambda R: len(kernel(R))):
        turn = _turning(b, R, used)
        if turn is not None and len(turn.kernel) == 1 and not turn.twofold:
            return [turn]
        found += [turn] if turn else []
    return found


def _turning(b: Builder, R: np.ndarray, used: list[int]) -> _Turning | None:
    """Can one head turn by R at the used elements? Whole, as a complex phase, or by turns."""
    search, d, before = b.search.matrices, R.shape[1], b.architecture.bounds().reads == "before"
    if len(kernel(R)) == len(R):
        return None
    sign = b.search.flip
    if d == 1 and sign:
        rows = {u: sign.tokens[int(R[u, 0, 0] < 0)] for u in used}
        return _Turning(R, rows, sign.state, search, False, sign.before)
    rows = search.rows([R[u] for u in used])
    if rows is not None:
        return _Turning(R, dict(zip(used, rows, strict=True)), generic(d + 1)[:d], search, False, before)
    if d == 2 and all(np.linalg.det(r) > 0 for r in R):
        phases = R[:, 0, 0] + 1j * R[:, 1, 0]
        rows = search.rows([np.array([[phases[u]]]) for u in used])
        if rows is not None:
            return _Turning(
                phases[:, None, None], dict(zip(used, rows, strict=True)), np.ones(1), search, False, before
            )
        if search.template and b.search.flip:
            by_turns = {(u, bit): FLIPPED @ R[u] if bit else R[u] @ FLIPPED for u in used for bit in (0, 1)}
            rows = search.rows(list(by_turns.values()))
            if rows is not None:
                return _Turning(R, dict(zip(by_turns, rows, strict=True)), generic(3)[:2], search, True, before)
    return None


def _fewest(turns: list[_Turning], everything: frozenset[int]) -> tuple[list[_Turning], frozenset[int]]:
    """A few representations whose kernels meet where all of them meet."""
    wanted = everything.intersection(*(t.kernel for t in turns)) if turns else everything
    chosen, left = [], everything
    while left != wanted:
        best = min(turns, key=lambda t: (len(left & t.kernel), t.twofold, t.R.shape[1]))
        chosen.append(best)
        left = left & best.kernel
    return chosen, wanted


def _state(alone: Architecture, rows: dict[Any, Signals], start: Any) -> Any:
    """x_0 of one head in the shape that the architecture has: `start`, then ones; a state as it is."""
    if isinstance(start, (torch.Tensor, tuple)):
        return start
    shape = state_after(alone, [next(iter(rows.values()))], [0.0])
    state = torch.ones_like(shape)
    state[0, 0, : len(start), 0] = torch.tensor(start, dtype=torch.float64).to(state.dtype)
    return state


def _walk(
    alone: Architecture, rows: dict[Any, Signals], state: Any, after: Any, at: Any, named: Any, before: bool
) -> dict[Any, float]:
    """The score of each class, met on a random walk over (state, token) pairs; NotBuilt where one has two scores."""
    rng, tokens = np.random.default_rng(0), list(rows)
    word, classes = [], []
    for _ in range(60 * len(tokens) + 600):
        possible = [u for u in tokens if after(at, u) is not None]
        u = possible[int(rng.integers(len(possible)))]
        classes.append(named(at))
        at = after(at, u)
        word.append(u)
        if not before:
            classes[-1] = named(at)
    with torch.no_grad():
        y = run(
            alone, one_head(alone, [rows[u] for u in word]), torch.zeros(1, len(word), 1, dtype=torch.float64), state
        )[0]
    scores: dict[Any, list[float]] = {}
    for c, score in zip(classes, y[0, :, 0].tolist(), strict=True):
        scores.setdefault(c, []).append(score)
    if any(max(s) - min(s) > 1e-6 for s in scores.values()):
        raise NotBuilt("a head does not keep apart what it should")
    return {c: float(np.mean(s)) for c, s in scores.items()}


def _levels(seen: dict[Any, float]) -> tuple[list[float], list[Any]]:
    order = sorted(seen, key=lambda c: seen[c])
    return [seen[c] for c in order], order


def _values(b: Builder, q: Quantity) -> set:
    found: set = set()
    b.table(q, lambda value: found.add(value) or 0)
    return found


# -------------------------------------------------------------------------------------------------------- in blocks
def _in_blocks(b: Builder, group: _Group, step: Quantity, used: list[int]) -> Quantity:
    """While a block of m tokens is read, the reflections of the block before are applied, as many as a token can.

    The last 2 m tokens stand in registers by the time mod 2 m, and the head is read in the frame that is turned so far.
    Source: siems2025deltaproduct, Theorem 1 (its last layer).
    """
    search = b.search.matrices
    J, t = search.reflections_per_token, search.template
    if not J or t is None or t.reader is None or b.search.architecture.bounds().reads == "before":
        raise NotBuilt("no head reflects along any vector and is read along any other")
    R = next((R for R in irreducible_of(group) if len(kernel(R)) == 1 and len(R[0]) <= LARGEST_DIMENSION), None)
    if R is None:
        raise NotBuilt(f"no faithful representation has at most {LARGEST_DIMENSION} dimensions")
    m = 1
    while m * J < max(map(rank, R)):
        m *= 2
    clock = _clock(b, 2 * m)
    slots = []
    for slot in range(2 * m):
        write = jointly(lambda u, p, slot=slot: used.index(u) if p == slot else -1, step, clock)
        slots.append(b.register(write, len(used) + 1, len(used))[0].then(lambda i: used[i] if i < len(used) else 0))

    def plan(p: int, *held: int) -> tuple[int, int, int]:
        """(the block before, the present one so far, how many tokens of it)."""
        here, there = (range(m), range(m, 2 * m)) if p < m else (range(m, 2 * m), range(m))
        done = p % m + 1
        return _product(group, [held[i] for i in there]), _product(group, [held[i] for i in here][:done]), done

    planned = jointly(plan, clock, *slots)
    factors = {g: reflections(R[g]) for g in range(group.size)}
    d, read = R.shape[1], generic(R.shape[1])

    def token(action: tuple[int, int]) -> tuple[Signals, float]:
        g, done = action
        vectors = factors[g][(done - 1) * J : done * J]
        w = read.copy()
        for v in factors[g][: done * J]:
            w = w - 2 * v * (v @ w)
        return search.reflect(vectors, d, w), 0.0

    start = generic(d + 1)[:d]
    levels = {g: float(read @ R[g] @ start) for g in range(group.size)}
    by_level, order = _levels(levels)
    state = _state(search.alone, {0: search.reflect([], d)}, start)
    number = b.head(planned.then(lambda x: (x[0], x[2])), token, by_level, state)
    base = Quantity((number,), lambda s: order[s])
    return jointly(lambda g, x: group.product[group.product[g][x[0]]][x[1]], base, planned)


def _clock(b: Builder, period: int) -> Quantity:
    """t - 1 modulo a power of two, t = 1, 2, ...: a bit changes where all lower ones were 1."""
    bits: list[Quantity] = []
    tick = b.letter.then(lambda _: True)
    while 2 ** len(bits) < period:
        carry = jointly(lambda _, *low: not any(low), b.letter, *bits) if bits else tick
        shown, before = b.flip(carry)
        if before:
            shown = jointly(lambda bit, c: bit ^ int(c), shown, carry)
        bits.append(shown)
    return jointly(lambda *low: (sum(bit << i for i, bit in enumerate(low)) - 1) % period, *bits)


def _product(group: _Group, steps: list[int]) -> int:
    at = 0
    for u in steps:
        at = group.product[at][u]
    return at


def irreducible_of(group: _Group) -> list[np.ndarray]:
    """The irreducible representations of a group given by its table: it acts on itself."""
    return irreducible([tuple(group.product[x][g] for x in range(group.size)) for g in range(group.size)])
