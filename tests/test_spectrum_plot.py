"""Pictures of spectra: what is drawn lies where the sets and the eigenvalues are; files, names, and what is missing."""

import math

import numpy as np
import pytest
import torch

import dsf
from dsf import Dense, Interval, System, extras
from dsf.sets import Polar, Rectangle, annulus, arc, disc, inf
from dsf_analysis.spectra import NotInvariant
from eigenvalue_checks import distance
from helpers import generator

pytest.importorskip("matplotlib", reason='needs the extra "plot"')

from matplotlib.figure import Figure  # noqa: E402
from matplotlib.transforms import Affine2D  # noqa: E402

from dsf_analysis.set_patches import draw  # noqa: E402
from dsf_analysis.spectrum_plot import plot_spectra, plot_spectrum  # noqa: E402


def sampled(name, n=3):
    arch = dsf.architecture_named(name)
    return arch(**arch.sample(2, 7, 2, n, 2, generator=generator())[0])


def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def dots(axes):
    (line,) = [line for line in axes.lines if line.get_label().startswith("eigenvalues")]
    return line.get_xdata() + 1j * np.asarray(line.get_ydata())


def outlines(part, side=1.5):
    """Points of what is drawn of a set, in the coordinates of the data."""
    axes = Figure().subplots()
    draw(axes, part, side, "claimed")
    assert len(axes.lines) + len(axes.patches) == 1
    if axes.lines:
        return np.asarray(axes.lines[0].get_xdata()) + 1j * np.asarray(axes.lines[0].get_ydata())
    patch = axes.patches[0]
    path = patch.get_patch_transform().transform_path(patch.get_path())
    flat = path.transformed(Affine2D().scale(1000)).cleaned(curves=False, simplify=False)  # curves as many short lines
    points = flat.vertices[np.isin(flat.codes, (flat.MOVETO, flat.LINETO))] / 1000
    return points[:, 0] + 1j * points[:, 1]


SETS = [
    Interval(-0.5, 1),
    Interval(1, 1),
    disc(1),
    disc(0),
    annulus(0.5, 1),
    annulus(1, 1),
    arc(1, 0.2, 1.2),
    Polar(Interval(0.25, 0.75), Interval(0.5, 0.5)),
    Polar(Interval(0.25, 0.75), Interval(0.5, 2)),
    Rectangle(Interval(-1, 0), Interval(0, 0.5)),
    Rectangle(Interval(0.5, 0.5), Interval(-1, 1)),
]


@pytest.mark.parametrize("part", SETS, ids=repr)
def test_what_is_drawn_lies_in_the_set_and_reaches_its_ends(part):
    drawn = outlines(part)
    assert distance(drawn, part).max() < 2e-3
    assert abs(np.abs(drawn).max() - part.abs.hi) < 2e-3


@pytest.mark.parametrize(
    "part", [Interval(-inf, 0.5), disc(inf), annulus(1, inf), Rectangle(), Rectangle(Interval(-inf, 0))]
)
def test_infinite_sets_are_cut_beyond_the_window(part):
    drawn = outlines(part, side=1.5)
    assert np.isfinite(drawn).all() and 1.5 * math.sqrt(2) < np.abs(drawn).max() <= 3 * math.sqrt(2) + 1e-9


def test_a_system_of_an_architecture_shows_its_family_and_its_numbers():
    system = sampled("deltaproduct")
    figure = plot_spectrum(system)
    plane, strip = figure.axes
    found = dsf.spectrum(system).values.flatten().numpy()
    assert np.array_equal(np.sort_complex(dots(plane)), np.sort_complex(found))
    assert set(labels(figure)) == {"unit circle", "eigenvalues of A_t of these numbers", "the set over all inputs"}
    assert plane.get_title() == "DeltaProduct" and plane.get_xlim() == strip.get_xlim()
    counted = sum(round(patch.get_height()) for patch in strip.patches)
    assert counted == (abs(found.imag) < 1e-9).sum() and 0 < counted < len(found)


def test_no_bar_of_the_strip_goes_beyond_one_where_no_eigenvalue_does():
    system = sampled("deltanet")
    _, strip = plot_spectrum(system).axes
    bars = [p for p in strip.patches if p.get_width() < 0.1 and p.get_height() > 0.5 and p.get_x() > -2]
    reach = max(p.get_x() + p.get_width() for p in bars)
    assert dsf.spectrum(system).values.max() == 1 and reach == pytest.approx(1, abs=1e-6)


def test_an_architecture_alone_has_no_points():
    figure = plot_spectrum(dsf.architecture_named("s4d"))
    assert set(labels(figure)) == {"unit circle", "the set over all inputs"}
    assert "no numbers" in figure.axes[1].texts[0].get_text()
    with pytest.raises(NotInvariant):
        plot_spectrum(dsf.architecture_named("lstm"))


def test_the_window_holds_bounded_sets():
    titans = dsf.architecture_named("titans")
    assert dsf.spectrum(titans).radius > 2 and plot_spectrum(titans).axes[0].get_xlim()[1] > dsf.spectrum(titans).radius


def test_feedback_shows_its_jacobian_and_says_that_there_is_no_set():
    layer = dsf.convert(torch.nn.GRU(3, 4), torch.randn(9, 2, 3, generator=generator())).layers["layer0"]
    figure = plot_spectrum(layer)
    assert "no set over all inputs" in figure.axes[0].texts[0].get_text()
    assert set(labels(figure)) == {"unit circle", "eigenvalues of the Jacobian of (x, y), at 9 of 9 steps"}
    assert figure.axes[0].get_title() == "layer0\nGRU" and len(dots(figure.axes[0])) == 9 * 2 * 8


def test_a_bare_system_shows_the_set_that_holds_its_numbers():
    ones = torch.ones(1, 1, 1, 2).double()
    A = Dense(torch.tensor([[0.0, -3.0], [3.0, 0.0]]).double()[None, None, None])
    figure = plot_spectrum(System(A=A, B=ones, C=ones))
    assert "a set that holds them" in labels(figure) and figure.axes[0].get_xlim()[1] > 3
    assert "no eigenvalue here is real" in figure.axes[1].texts[0].get_text()


def test_small_multiples():
    names = ("s4d", "deltanet", "titans", "gla")
    figure = plot_spectra({name: sampled(name) for name in names})
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == list(names) and len(figure.axes) == 8
    assert len(labels(figure)) == len(set(labels(figure)))
    with pytest.raises(ValueError, match="at least one"):
        plot_spectra({})


@pytest.mark.parametrize("suffix, start", [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_files_by_their_suffix(tmp_path, suffix, start):
    path = tmp_path / f"spectrum.{suffix}"
    plot_spectrum(sampled("mamba2"), path)
    assert path.read_bytes().startswith(start) and path.stat().st_size > 5000


def test_another_suffix_is_refused_before_anything_is_drawn(tmp_path):
    with pytest.raises(ValueError, match=r"\.png, \.svg, \.pdf"):
        plot_spectrum(sampled("mamba2"), tmp_path / "spectrum.gif")


def test_a_missing_matplotlib_is_named_with_its_extra(monkeypatch):
    gla, whole = dsf.architecture_named("gla"), extras.importlib.import_module

    def absent(name):
        if not name.startswith("matplotlib"):
            return whole(name)
        raise ModuleNotFoundError(f"No module named {name!r}", name=name.split(".")[0])

    monkeypatch.setattr(extras.importlib, "import_module", absent)
    with pytest.raises(ImportError, match=r"dsf-toolkit\[plot\]"):
        plot_spectrum(gla)


def test_a_point_is_no_larger_in_the_legend_than_other_dots():
    """A set of one point is drawn as a large dot, so that points can lie on it."""
    (legend,) = plot_spectrum(dsf.architecture_named("softmax_attention")).legends
    sizes = [handle.get_markersize() for handle in legend.legend_handles if handle.get_marker() == "o"]
    assert sizes and max(sizes) <= 10
