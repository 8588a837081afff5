"""Any regular language by one recurrent layer whose gates are saturated: a unit for each transition of the automaton.

A unit (p, q) fires where the state was p and the letter leads from p to q: the sum over the units that end in p says
whether the state was p, and the drive says which transitions the letter allows. Source: merrill2020; the construction
is that of Minsky's finite automata by threshold units.
"""

from __future__ import annotations

from typing import Any

import torch

from dsf import Architecture

from ..languages.sources import Language
from .builder import NotBuilt
from .corners import SATURATION
from .stacks import LETTER, Head, StackWitness

LARGEST = 1_500  # units
ROUNDING = 1e-9
Template = tuple[dict[str, float], str, float, float]  # values of the other signals, the matrix, y when off and when on


def threshold_units(a: Architecture) -> Template | None:
    """Values at which y_t is a step of u_t + R y_{t-1}, whatever was before; found by trying saturated ones."""
    vectors = [k for k, d in a.signals.items() if d.kind in ("vector", "scalar") and not d.const]
    matrices = [k for k, d in a.signals.items() if d.kind == "matrix" and d.const]
    if not matrices or any(d.steps or d.groups or d.unit or d.ball for d in a.signals.values()):
        return None
    levels = {k: [v for v in (-SATURATION, 0.0, SATURATION) if _holds(a, k, v)] for k in vectors}
    grid = torch.cartesian_prod(*(torch.tensor(v) for v in levels.values())) if vectors else torch.zeros(1, 0)
    grid = grid.reshape(len(grid), len(vectors)).double()
    for matrix in matrices:
        values = [_steps(a, vectors, grid, matrix, pull) for pull in (0.0, 3 * SATURATION, -2 * SATURATION)]
        off, on = values[0][0], values[0][1]
        good = (on - off > 0.1) & torch.stack([v[2] for v in values]).all(0)
        good &= torch.stack([(v[0] - off).abs() + (v[1] - on).abs() <= ROUNDING for v in values]).all(0)
        if good.any():
            i = int(torch.where(good, on - off, 0.0).argmax())
            return dict(zip(vectors, grid[i].tolist(), strict=True)), matrix, off[i].item(), on[i].item()
    return None


def _holds(a: Architecture, k: str, v: float) -> bool:
    return a.signals[k].contains(torch.full((1, 1, 1, *((1,) * len(a.signals[k].own_axes))), v, dtype=torch.float64))


def _steps(a: Architecture, vectors: list[str], grid: torch.Tensor, matrix: str, pull: float):
    """(y when off, y when on, is it the same from several states?) of a unit whose own weight is `pull`, by row."""
    outcomes = []
    for push in (-SATURATION, SATURATION):
        for y in (1.0, -1.0, 0.5, 0.0):  # x = y: an Elman network's state is its output
            H = len(grid)
            signals = {}
            for k, d in a.signals.items():
                shape = (H,) if d.const else (1, 1, H)
                fill = (
                    grid[:, vectors.index(k)]
                    if k in vectors
                    else torch.full((H,), pull if k == matrix else 0.0).double()
                )
                signals[k] = fill.reshape(*shape, *((1,) * len(d.own_axes)))
            state = tuple(torch.full((1, H, 1), v, dtype=torch.float64) for v in (y, y))
            system: Any = a(**signals)
            u = torch.full((1, H, 1), push - pull * y, dtype=torch.float64)
            start = system.zero_state(u[:, None])
            state = tuple(s.reshape(z.shape) for s, z in zip(state, start, strict=True))
            outcomes.append(system.step(0, state, u)[1].reshape(H))
    seen = torch.stack(outcomes).reshape(2, 4, -1)
    return seen[0, 0], seen[1, 0], ((seen - seen[:, :1]).abs() <= ROUNDING).all(1).all(0)


def saturated_witness(a: Architecture, language: Language) -> StackWitness:
    """One layer for the language. NotBuilt where no such unit was found, or too many would be needed."""
    template = threshold_units(a)
    if template is None:
        raise NotBuilt("no saturated gates make its cell a threshold unit")
    values, matrix, off, on = template
    automaton = language.automaton
    reached = [("start", automaton.initial)]
    units: list[tuple[Any, int]] = reached + [(p, q) for p, row in enumerate(automaton.table) for q in sorted(set(row))]
    n = len(units)
    if n > LARGEST:
        raise NotBuilt(f"it would take {n:,} units, over {LARGEST:,}")
    K = 2 * SATURATION
    ends = torch.tensor([q for _, q in units])
    begins = torch.tensor([-1 if p == "start" else p for p, _ in units])
    R = (K / (on - off)) * (begins[:, None] == ends[None, :]).double()
    rest = off * R.sum(1)  # what the sum is when none fires
    drive = torch.empty(len(automaton.letters), 1, n, dtype=torch.float64)
    for letter, row in enumerate(automaton.maps.tolist()):
        allowed = torch.tensor([p >= 0 and row[p] == q for p, q in zip(begins.tolist(), ends.tolist(), strict=True)])
        drive[letter, 0] = -rest + torch.where(allowed, -K / 2, -2 * K)
    signals = {}
    for k, d in a.signals.items():
        lead = (1,) if d.const else (len(automaton.letters), 1)
        shape = (*lead, *((n,) * len(d.own_axes)))
        signals[k] = R[None].clone() if k == matrix else torch.full(shape, values.get(k, 0.0), dtype=torch.float64)
    one: Any = a(**{k: s if a.signals[k].const else s[None, :1] for k, s in signals.items()})
    x, y = one.zero_state(drive[:1][None])
    y = torch.full_like(y, off)
    y[..., 0] = on
    x = y.reshape(x.shape).clone()
    good = torch.tensor([float(q in automaton.accepting) for q in ends.tolist()], dtype=torch.float64)
    low = off * good.sum().item()
    rows = torch.arange(len(automaton.letters))
    head = Head(1, (LETTER,), rows, signals, drive, (x, y), good, (low + (on - off) / 2,), (on - off) / 4)
    answer = torch.tensor([0, 1])
    recipe = f"{n} saturated units, one for each transition of the automaton"
    return StackWitness(automaton, (head,), (0,), answer, recipe).sealed()
