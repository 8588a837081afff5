"""Pictures of spectra: the complex plane with the unit circle, the claimed set and the eigenvalues that are met.

Below each plane a strip counts the real eigenvalues: most spectra are real, and on a line thousands of points are one.
Needs matplotlib, the extra "plot"; no window is opened and no global state of matplotlib is touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dsf import Architecture
from dsf.extras import required
from dsf.sets import Interval, Set

from .extreme_tokens import is_real
from .set_patches import CLAIMED, draw
from .spectra import NotInvariant, spectrum

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
MEASURED, INK, FAINT = "#c2410c", "#333333", "#999999"
ALL_INPUTS = "the set over all inputs"
COLUMNS = 3  # of small multiples
WIDEST = 8.0  # |z| beyond which the window shows nothing
BINS = 24  # bars of the strip on a length of 1
STRIP = 0.3  # its height, of its width
LARGEST_DOT = 10  # of the legend
FEW = 200  # points that need no transparency


@dataclass(frozen=True)
class Picture:
    """What is drawn of one subject: the sets that are claimed, of what, and the eigenvalues that are met [k]."""

    title: str
    parts: tuple[Set, ...]
    claim: str  # of what they are, or why there are none
    values: torch.Tensor
    met: str

    @property
    def window(self) -> float:
        """Half the side of the square that shows the unit circle, the points and the bounded sets."""
        ends = [part.abs.hi for part in self.parts if part.abs.hi < WIDEST]
        return 1.18 * min(WIDEST, max([1.0, *ends, *self.values.abs().tolist()]))


def plot_spectrum(x: Any, path: str | Path | None = None, u: torch.Tensor | None = None) -> Figure:
    """The spectrum of an architecture, a system or a converted layer, as a matplotlib Figure; saved where path says so.

    Of a system of an architecture and of a layer: the set of its family over all inputs, and the eigenvalues of these
    numbers. u: the drive of a Feedback system. path ends in .png, .svg or .pdf.

    Raises ImportError that names the extra where matplotlib is missing; ValueError for another suffix; what
    `dsf.spectrum` raises where there are no eigenvalues to draw.

    >>> import dsf
    >>> len(plot_spectrum(dsf.architecture_named("deltanet")).axes)  # the plane and its strip
    2
    """
    return _figure([_picture(x, _title(x), u)], path)


def plot_spectra(layers: Mapping[str, Any], path: str | Path | None = None) -> Figure:
    """Several of them as small multiples, titled by their names: `plot_spectra(conversion.layers, "all.svg")`.

    Raises as plot_spectrum, and ValueError where there is none.

    >>> import dsf
    >>> both = {name: dsf.architecture_named(name) for name in ("s4d", "deltanet")}
    >>> [axes.get_title() for axes in plot_spectra(both).axes if axes.get_title()]
    ['s4d', 'deltanet']
    """
    if not layers:
        raise ValueError("plot_spectra needs at least one layer")
    return _figure([_picture(x, name, None) for name, x in layers.items()], path)


def _title(x: Any) -> str:
    if hasattr(x, "path") and hasattr(x, "architecture"):
        return f"{x.path}\n{x.architecture.title}"
    architecture = x if isinstance(x, Architecture) else getattr(x, "architecture", None)
    return "" if architecture is None else architecture.title


def _picture(x: Any, title: str, u: torch.Tensor | None) -> Picture:
    nothing = torch.zeros(0, dtype=torch.complex128)
    if isinstance(x, Architecture):
        return Picture(title, spectrum(x).parts, ALL_INPUTS, nothing, "")
    met = spectrum(x, u)
    values = nothing if met.values is None else met.values.detach().flatten().to("cpu", torch.complex128)
    of = "the Jacobian of (x, y)" if met.dependence == "state" else "A_t of these numbers"
    of = next((f"{of}, {how[how.index('at ') :]}" for how in met.how if how.endswith("steps")), of)
    family = getattr(x, "architecture", None)
    if family is None:
        return Picture(title, met.parts, "a set that holds them", values, of)
    try:
        return Picture(title, spectrum(family).parts, ALL_INPUTS, values, of)
    except NotInvariant:
        return Picture(title, (), "no set over all inputs: A_t is a function of the past", values, of)


def _figure(pictures: list[Picture], path: str | Path | None) -> Figure:
    if path is not None and Path(path).suffix.lower() not in SUFFIXES:
        raise ValueError(f"a picture is saved as one of {', '.join(SUFFIXES)}, got {str(path)!r}")
    matplotlib = required("matplotlib.figure", "plot")
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    figure = matplotlib.Figure(figsize=(0.5 + 3.6 * columns, 0.8 + 5.3 * rows), layout="constrained")
    grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[1, STRIP] * rows)
    for i in range(rows * columns):
        plane, strip = (grid[2 * (i // columns) + j, i % columns] for j in (0, 1))
        if i < len(pictures):
            _plane(plane, pictures[i])
            _strip(strip, pictures[i])
        else:
            plane.remove()
            strip.remove()
    named: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        named = dict(zip(labels, handles, strict=True)) | named
    place: dict[str, Any] = dict(loc="outside lower center", ncols=min(2, columns), frameon=False, fontsize=8)
    legend = figure.legend(named.values(), named.keys(), markerscale=2, **place)
    for handle in legend.legend_handles:
        if hasattr(handle, "set_markersize"):  # a set that is one point is a large dot already
            handle.set_markersize(min(handle.get_markersize(), LARGEST_DOT))
    if path is not None:
        figure.savefig(path, dpi=160)
    return figure


def _plane(axes: Any, picture: Picture) -> None:
    side, z, turn = picture.window, picture.values, torch.linspace(0, 2 * torch.pi, 361)
    axes.plot(turn.cos(), turn.sin(), ls="--", lw=0.9, color=FAINT, label="unit circle", zorder=2)
    axes.axhline(0, lw=0.5, color=FAINT, zorder=1)
    axes.axvline(0, lw=0.5, color=FAINT, zorder=1)
    for part in picture.parts:
        draw(axes, part, side, picture.claim)
    if not picture.parts:
        axes.text(0, -0.95 * side, picture.claim, ha="center", fontsize=7, color=INK)
    if len(z):
        dots: dict[str, Any] = dict(ms=4.5, mew=0, alpha=0.9 if len(z) < FEW else 0.5, color=MEASURED, zorder=4)
        axes.plot(z.real, z.imag, ".", label=f"eigenvalues of {picture.met}", **dots)
    axes.set(xlim=(-side, side), ylim=(-side, side), box_aspect=1)
    axes.set_title(picture.title, fontsize=9)
    _label(axes, "", "imaginary part")


def _strip(axes: Any, picture: Picture) -> None:
    """How many real eigenvalues lie where, on a logarithmic scale, over the claimed intervals."""
    side, z = picture.window, picture.values
    for part in picture.parts:
        if isinstance(part, Interval):
            lo, hi = max(part.lo, -side), min(part.hi, side)
            axes.axvspan(lo - 0.004 * side, hi + 0.004 * side, color=CLAIMED, alpha=0.22, lw=0)
    for end in (-1, 1):
        axes.axvline(end, ls="--", lw=0.9, color=FAINT)
    reals = z.real[is_real(z)].numpy().round(9)  # rounding alone puts no 0 and no 1 on the other side of an edge
    if len(reals):
        count = int(side * BINS) + 1
        edges = [(1 + 1e-8) * i / BINS for i in range(-count, count + 1)]  # -1, 0 and 1 belong to the bars inside
        axes.hist(reals, bins=edges, color=MEASURED, log=True)
        axes.set_ylim(0.7, max(14, axes.get_ylim()[1]))  # a whole power of ten at least: those alone are labelled
        axes.yaxis.set_minor_formatter(required("matplotlib.ticker", "plot").NullFormatter())
    else:
        axes.set_yticks([])
        none = "no eigenvalue here is real" if len(z) else "no numbers: a claim over all inputs"
        axes.text(0.5, 0.5, none, ha="center", va="center", transform=axes.transAxes, fontsize=8, color=INK)
    axes.set(xlim=(-side, side), box_aspect=STRIP)
    _label(axes, "real part", "real ones" if len(reals) else "")


def _label(axes: Any, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y if axes.get_subplotspec().is_first_col() else "", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(required("matplotlib.ticker", "plot").MaxNLocator(5, steps=[1, 2, 5, 10]))
