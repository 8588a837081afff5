"""A picture of an automaton: states as circles, accepting ones as double circles, arrows labelled by their letters.

Where states lie and which way an arrow bends is chosen here, in units of inches; nothing but matplotlib, the extra
"plot", is needed. No window is opened and no global state of matplotlib is touched.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np

from dsf.extras import required

from ..spectrum_plot import INK, SUFFIXES
from .automaton import Automaton
from .description import LABEL, LONGEST, shortened
from .sources import Language

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 60  # states of a picture
RADIUS, APART, MARGIN = 0.22, 1.25, 0.85  # of a circle, between the nearest two centres, round all
BENDS = (0.0, 0.18, -0.18, 0.35, -0.35, 0.55, -0.55, 0.8, -0.8)  # how far an arrow's control point lies off its middle
STARTS, FEW = 6, 30  # layouts that are tried of automata of few states
HEAD = 0.35  # of the title
SAMPLES = np.linspace(0, 1, 41)[:, None]
SIZE = 8.5  # of letters, in points


def plot_automaton(language: Language, path: str | Path | None = None) -> Figure:
    """The minimal automaton of a language as a matplotlib Figure; saved where path says so, as .png, .svg or .pdf.

    Raises ValueError for another suffix and for over 60 states; ImportError that names the extra without matplotlib.

    >>> from .sources import language
    >>> len(plot_automaton(language("parity")).axes[0].patches)  # 3 circles, 4 arrows, 1 into the initial state
    8
    """
    a = language.automaton
    if path is not None and Path(path).suffix.lower() not in SUFFIXES:
        raise ValueError(f"a picture is saved as one of {', '.join(SUFFIXES)}, got {str(path)!r}")
    if a.size > MOST:
        raise ValueError(f"automata of up to {MOST} states are drawn, and this has {a.size:,}")
    figure = required("matplotlib.figure", "plot").Figure()
    axes = figure.subplots()
    Drawing(axes, a).draw()
    axes.set_title(shortened(language.title, LONGEST), fontsize=10, color=INK)
    axes.set(aspect="equal", frame_on=False, xticks=[], yticks=[])
    wide, high = (max(end - start, 2.5) for start, end in (axes.get_xlim(), axes.get_ylim()))
    figure.set_size_inches(wide, high + HEAD)
    figure.subplots_adjust(0, 0, 1, high / (high + HEAD))
    if path is not None:
        figure.savefig(path, dpi=160)
    return figure


def edges(a: Automaton) -> dict[tuple[int, int], str]:
    """The letters of all transitions from one state to another, as one label."""
    letters: dict[tuple[int, int], list[str]] = {}
    for q, row in enumerate(a.table):
        for letter, r in zip(a.letters, row, strict=True):
            letters.setdefault((q, r), []).append(letter)
    return {pair: shortened(", ".join(found), LABEL) for pair, found in letters.items()}


def positions(a: Automaton) -> np.ndarray:
    """Where the states lie, [states, 2]: by the lengths of ways between them, the initial state on the left.

    From several starts, for that is a matter of luck: the one with the fewest crossings, and of those the smallest.
    """
    if a.size == 1:
        return np.zeros((1, 2))
    ways = [(q, r) for q, row in enumerate(a.table) for r in set(row) if q != r]
    graph = nx.Graph(ways)
    apart = APART + 0.25 * max(0.0, len(ways) / a.size - 1)
    rng = np.random.default_rng(0)
    starts: list[Any] = [nx.circular_layout(nx.path_graph(a.size))]
    if a.size <= FEW and len(graph.edges) < 3 * a.size:
        starts += [dict(enumerate(rng.normal(size=(a.size, 2)))) for _ in range(STARTS)]
    found = []
    for start in starts:
        layout = nx.kamada_kawai_layout(graph, pos=start)
        at = np.array([layout[q] for q in range(a.size)])
        gaps = np.linalg.norm(at[:, None] - at, axis=-1) + np.eye(a.size) * 1e9
        at = _turned(at * apart / gaps.min(), a.initial)
        left = at[a.initial, 0] < at[:, 0].min() + RADIUS
        crossings = _crossings(at, np.array(list(graph.edges))) + (not left)
        found.append((crossings, float(np.ptp(at, 0).sum()), len(found), at))
    return min(found)[-1]


def _turned(at: np.ndarray, first: int) -> np.ndarray:
    at = at - at.mean(0)
    z = (at[:, 0] + 1j * at[:, 1]) * -np.conj(complex(*at[first]) or -1)
    z /= abs(complex(*at[first])) or 1
    return np.column_stack([z.real, z.imag if z.imag[0 if first else 1] >= 0 else -z.imag])


def _crossings(at: np.ndarray, ways: np.ndarray) -> int:
    """Of pairs of straight lines between states that share none."""

    def left(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
        return (q[..., 0] - p[..., 0]) * (r[..., 1] - p[..., 1]) > (q[..., 1] - p[..., 1]) * (r[..., 0] - p[..., 0])

    (p, q), (r, s) = np.swapaxes(at[ways], 0, 1)[:, :, None], np.swapaxes(at[ways], 0, 1)[:, None]
    shared = (ways[:, None, :, None] == ways[None, :, None, :]).any((2, 3))
    return int(((left(p, q, r) != left(p, q, s)) & (left(r, s, p) != left(r, s, q)) & ~shared).sum()) // 2


class Drawing:
    """Draws on axes whose unit is an inch."""

    def __init__(self, axes: Any, a: Automaton) -> None:
        self.axes, self.a, self.at, self.edges = axes, a, positions(a), edges(a)
        self.beside: list[tuple[np.ndarray, str]] = []  # arrows that are to be labelled
        self.curves: list[np.ndarray] = []  # points of all arrows, [points, 2] each
        self.labels: list[np.ndarray] = []  # boxes that are taken, [2, 2] each: low corner, high corner
        self.patches = required("matplotlib.patches", "plot")
        self.way = required("matplotlib.path", "plot").Path

    def draw(self) -> None:
        free = {q: self._directions(q) for q in range(self.a.size)}
        start = self._freest(free[self.a.initial], prefer=math.pi)
        free[self.a.initial].append(start)
        low, high = self.at.min(0) - MARGIN, self.at.max(0) + MARGIN
        self.axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        outward = np.array([math.cos(start), math.sin(start)])
        centre = self.at[self.a.initial]
        self._arrow(np.array([centre + outward * (RADIUS + 0.45), centre + outward * RADIUS]))
        for (q, r), label in sorted(self.edges.items(), key=lambda edge: -len(edge[1])):
            if q == r:
                outward = self.at[q] - self.at.mean(0)
                away = math.atan2(*outward[::-1]) if np.linalg.norm(outward) > APART else math.pi / 2
                self._loop(q, self._freest(free[q], prefer=away), label)
            else:
                self._bent(q, r, label)
        for points, label in self.beside:
            self._label(points, label)
        for q, centre in enumerate(self.at):
            for radius in (RADIUS, RADIUS - 0.05)[: 1 + (q in self.a.accepting)]:
                self.axes.add_patch(self.patches.Circle(centre, radius, fc="white", ec=INK, lw=1.1, zorder=3))
            self.axes.text(*centre, str(q), ha="center", va="center", fontsize=SIZE, color=INK, zorder=4)

    def _directions(self, q: int) -> list[float]:
        """Of all arrows between a state and others."""
        ends = {r for pair in self.edges for r in pair if q in pair} - {q}
        return [float(np.arctan2(*(self.at[r] - self.at[q])[::-1])) for r in sorted(ends)]

    def _freest(self, taken: Iterable[float], prefer: float) -> float:
        """The direction farthest from those that are taken; of equals the one nearest to what is preferred."""

        def room(angle: float) -> tuple[float, float]:
            apart = [abs((angle - t + math.pi) % (2 * math.pi) - math.pi) for t in taken]
            return round(min([*apart, 1.3]), 2), math.cos(angle - prefer)

        return max((prefer + k * math.pi / 18 for k in range(36)), key=room)

    def _bent(self, q: int, r: int, label: str) -> None:
        """The bend whose arrow stays farthest from other states, and on its right where one leads back."""
        p0, p2 = self.at[q], self.at[r]
        across = np.array([p2[1] - p0[1], p0[0] - p2[0]])
        others = np.delete(self.at, [q, r], axis=0)
        bends = [bend for bend in BENDS if bend > 0] if (r, q) in self.edges else BENDS

        def curve(bend: float) -> np.ndarray:
            return _bezier(p0, (p0 + p2) / 2 + bend * across, p2)

        def cost(bend: float) -> float:
            clear = np.linalg.norm(curve(bend)[:, None] - others, axis=-1).min() if len(others) else np.inf
            return 0.12 * abs(bend) + max(0.0, 0.42 - clear)

        points = curve(min(bends, key=cost))
        inside = np.minimum(np.linalg.norm(points - p0, axis=1), np.linalg.norm(points - p2, axis=1)) > RADIUS
        points = points[inside]
        self._arrow(points)
        self.beside.append((points, label))

    def _loop(self, q: int, angle: float, label: str) -> None:
        ends = [self.at[q] + RADIUS * _unit(angle + side) for side in (0.5, -0.5)]
        controls = [self.at[q] + 3.4 * RADIUS * _unit(angle + side) for side in (0.55, -0.55)]
        points = _bezier(ends[0], *controls, ends[1])
        self._arrow(points)
        wide, high = _extent(label)
        top = points[len(points) // 2] + _unit(angle) * np.array([wide / 2 + 0.05, high / 2 + 0.05])
        self._write(top, label)

    def _arrow(self, points: np.ndarray) -> None:
        self.curves.append(points)
        style = self.patches.ArrowStyle("-|>", head_length=5, head_width=2.2)
        look = dict(arrowstyle=style, shrinkA=0, shrinkB=0, lw=1.0, color=INK, joinstyle="miter", zorder=2)
        self.axes.add_patch(self.patches.FancyArrowPatch(path=self.way(points), **look))

    def _label(self, points: np.ndarray, label: str) -> None:
        """Beside the arrow, where it covers the fewest states and other labels."""
        wide, high = _extent(label)
        best: tuple[float, np.ndarray] | None = None
        for share in (0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74):
            i = min(len(points) - 2, int(share * len(points)))
            along = points[i + 1] - points[i]
            off = np.array([along[1], -along[0]]) / max(1e-9, float(np.linalg.norm(along)))
            for side in (1, -1):
                centre = points[i] + side * off * (0.07 + abs(off[0]) * wide / 2 + abs(off[1]) * high / 2)
                cost = self._covered(centre, label, points) + 0.3 * abs(share - 0.5) + 0.05 * (side < 0)
                if best is None or cost < best[0]:
                    best = cost, centre
        assert best is not None
        self._write(best[1], label)

    def _covered(self, centre: np.ndarray, label: str, own: np.ndarray) -> float:
        """How many states, labels and, at half the price, arrows a label would lie on."""
        half = np.array(_extent(label)) / 2
        nearest = np.clip(self.at, centre - half, centre + half)
        states = (np.linalg.norm(nearest - self.at, axis=1) < RADIUS + 0.03).sum()
        low, high = centre - half, centre + half
        labels = sum(bool((np.minimum(high, box[1]) > np.maximum(low, box[0])).all()) for box in self.labels)
        arrows = sum(bool(((low < c) & (c < high)).all(1).any()) for c in self.curves if c is not own)
        return float(states + labels + 0.5 * arrows)

    def _write(self, centre: np.ndarray, label: str) -> None:
        half = np.array(_extent(label)) / 2
        self.labels.append(np.array([centre - half, centre + half]))
        box = dict(fc="white", ec="none", alpha=0.75, pad=0.4)
        self.axes.text(*centre, label, ha="center", va="center", fontsize=SIZE, color=INK, bbox=box, zorder=5)


def _extent(label: str) -> tuple[float, float]:
    """Width and height of a label, in inches, about."""
    return 0.62 * SIZE * len(label) / 72, 1.2 * SIZE / 72


def _unit(angle: float) -> np.ndarray:
    return np.array([math.cos(angle), math.sin(angle)])


def _bezier(*controls: np.ndarray) -> np.ndarray:
    """Points of a curve of two or more ends and controls, by repeated halving of the ways between them."""
    found = [np.broadcast_to(c, (len(SAMPLES), 2)) for c in controls]
    while len(found) > 1:
        found = [(1 - SAMPLES) * p + SAMPLES * q for p, q in zip(found, found[1:], strict=False)]
    return found[0]
