"""The closed sets of dsf.sets drawn on matplotlib axes, cut to the window where they are infinite."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dsf.extras import required
from dsf.sets import Interval, Polar, Rectangle, Set

CLAIMED = "#1d4ed8"
FILL: dict[str, Any] = dict(facecolor=CLAIMED, alpha=0.16, edgecolor=CLAIMED, lw=0.8, zorder=1.5)
CURVE: dict[str, Any] = dict(color=CLAIMED, lw=5, alpha=0.35, zorder=3)


def draw(axes: Any, part: Set, side: float, label: str) -> None:
    """One set in the window |re|, |im| <= side: intervals and curves as thick bars, the rest as patches.

    >>> from matplotlib.figure import Figure
    >>> axes = Figure().subplots()
    >>> draw(axes, Interval(-math.inf, 0), 2.0, "claimed")
    >>> axes.lines[0].get_xdata().tolist()
    [-4.0, 0.0]
    """
    far = 2 * side  # beyond the corners, so that no cut edge is seen
    if isinstance(part, Interval):
        _bar(axes, [max(part.lo, -far), min(part.hi, far)], [0, 0], label)
    elif isinstance(part, Rectangle):
        _rectangle(axes, part, far, label)
    else:
        _sector(axes, part, far, label)


def _bar(axes: Any, x: Any, y: Any, label: str) -> None:
    """A curve; a single point is a disc of the same thickness."""
    if np.ptp(x) == 0 and np.ptp(y) == 0:
        axes.plot(x[:1], y[:1], "o", ms=9, mew=0, color=CLAIMED, alpha=0.35, label=label, zorder=3)
    else:
        axes.plot(x, y, solid_capstyle="butt", label=label, **CURVE)


def _rectangle(axes: Any, part: Rectangle, far: float, label: str) -> None:
    left, right, low, high = (max(min(end, far), -far) for end in (part.re.lo, part.re.hi, part.im.lo, part.im.hi))
    if left == right or low == high:
        return _bar(axes, [left, right], [low, high], label)
    patches = required("matplotlib.patches", "plot")
    axes.add_patch(patches.Rectangle((left, low), right - left, high - low, label=label, **FILL))


def _sector(axes: Any, part: Polar, far: float, label: str) -> None:
    inner, outer = min(part.r.lo, far), min(part.r.hi, far)
    first, last = part.theta.lo, part.theta.hi
    if outer == 0:
        return _bar(axes, [0, 0], [0, 0], label)
    if inner == outer:
        angles = np.linspace(first, last, 2 + int(360 * (last - first) / math.pi))
        return _bar(axes, outer * np.cos(angles), outer * np.sin(angles), label)
    if first == last:
        x, y = ([inner * f(first), outer * f(first)] for f in (math.cos, math.sin))
        return _bar(axes, x, y, label)
    patches = required("matplotlib.patches", "plot")
    start, end = (0.0, 360.0) if part.full else (math.degrees(first), math.degrees(last))
    axes.add_patch(patches.Wedge((0, 0), outer, start, end, width=outer - inner, label=label, **FILL))
