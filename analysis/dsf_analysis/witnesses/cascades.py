"""Any regular language by a cascade: a register for each level that resets, layers of a group for one that permutes."""

from __future__ import annotations

from ..languages.groups import group_of
from ..languages.holonomy import then
from ..languages.sources import Language
from .builder import Builder, NotBuilt, Quantity, jointly
from .group_layers import running_product
from .skills import Search
from .stacks import StackWitness

LARGEST_GROUP = 200  # elements of a level's group


def cascade_witness(search: Search, language: Language) -> StackWitness:
    """A stack for the language, level by level. NotBuilt where a skill is missing."""
    cascade = language.cascade
    if cascade is None:
        raise NotBuilt("the cascade is over its cap")
    b, automaton = Builder(search, language.automaton), language.automaton
    start = cascade.encode(automaton.initial)
    old: list[Quantity] = []
    new: list[Quantity] = []
    for place, level in enumerate(range(cascade.height, 0, -1)):
        actions, width, last = cascade.actions(level), cascade.width(level), level == 1
        action = jointly(lambda a, *above, actions=actions: actions.get((above, a)), b.letter, *old)
        now, before = _level(b, action, width, start[place], last)
        new.append(now)
        if not last:
            assert before is not None
            old.append(before)

    def accepted(*coordinates: int) -> bool | None:
        try:
            return cascade.decode(coordinates) in automaton.accepting
        except (ValueError, IndexError):
            return None  # no state has these coordinates

    kinds = "registers" if cascade.aperiodic else "registers and groups"
    recipe = f"holonomy cascade of {cascade.height} levels by {kinds}, each reading the old coordinates above it"
    return b.witness(jointly(accepted, *new), recipe)


def _level(b: Builder, action: Quantity, width: int, start: int, last: bool) -> tuple[Quantity, Quantity | None]:
    """(new coordinate, old coordinate) of one level; the old one of the last level is not needed."""
    kinds = {value for value in _values(b, action)}
    moves = {what for kind, what in kinds if kind == "permute"}
    identity = tuple(range(width))
    if moves <= {identity}:
        write = action.then(lambda k: -1 if k[0] == "permute" else k[1][0])
        shown, before = b.register(write, width, start)
        if before:
            return jointly(lambda c, w: c if w < 0 else w, shown, write), shown
        return shown, None if last else b.previous(shown, width, start)
    resets = any(kind == "reset" for kind, _ in kinds)
    elements = _closure(moves)
    number = {g: i for i, g in enumerate(elements)}
    step = action.then(lambda k: number[k[1]] if k[0] == "permute" else number[identity])
    product = running_product(b, elements, step)
    inverse = {i: number[_inverse(g)] for g, i in number.items()}
    former = jointly(lambda g, s: number[then(elements[g], elements[inverse[s]])], product, step)
    if not resets:
        return product.then(lambda g: elements[g][start]), former.then(lambda g: elements[g][start])
    # the product as of the last reset and the target: the coordinate is what the product did to the target since then
    size = len(elements) * width
    reset = action.then(lambda k: -1 if k[0] == "permute" else k[1][0])
    write = jointly(lambda t, g: -1 if t < 0 else g * width + t, reset, product)
    kept, before = b.register(write, size, number[identity] * width + start)

    def coordinate(g: int, held: int) -> int:
        return elements[g][elements[inverse[held // width]][held % width]]

    if before:
        held = jointly(lambda c, w: c if w < 0 else w, kept, write)
        return jointly(coordinate, product, held), jointly(coordinate, former, kept)
    now = jointly(coordinate, product, kept)
    return now, None if last else b.previous(now, width, start)


def _values(b: Builder, q: Quantity) -> set:
    found: set = set()
    b.table(q, lambda value: found.add(value) or 0)
    return found


def _closure(moves: set) -> list:
    """All elements of the group that some permutations generate, the identity first."""
    if int(group_of(moves).order()) > LARGEST_GROUP:
        raise NotBuilt(f"a level's group has over {LARGEST_GROUP} elements")
    identity = tuple(range(len(next(iter(moves)))))
    found, queue = {identity: None}, [identity]
    for g in queue:
        for m in sorted(moves):
            h = then(g, m)
            if h not in found:
                found[h] = None
                queue.append(h)
    return list(found)


def _inverse(g: tuple[int, ...]) -> tuple[int, ...]:
    back = [0] * len(g)
    for i, j in enumerate(g):
        back[j] = i
    return tuple(back)
