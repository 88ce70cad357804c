"""The plots show what they are given, legibly on a white and on a dark page."""

from types import SimpleNamespace

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import same_color, to_rgb

from distill_lib import plots

WHITE, DARK = "#ffffff", "#14181e"


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def luminance(color):
    """Relative luminance of WCAG 2.2."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)
    ]
    return np.dot([0.2126, 0.7152, 0.0722], linear)


def contrast(one, other):
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


def test_the_contrast_formula_is_right():
    assert contrast("#000000", WHITE) == pytest.approx(21)
    assert contrast("#777777", WHITE) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("page", [WHITE, DARK])
def test_text_comes_near_the_best_that_one_colour_can_do_on_both_pages(page):
    reachable = np.sqrt(contrast(WHITE, DARK))
    assert reachable == pytest.approx(4.22, abs=0.005)
    assert contrast(plots.INK, page) > reachable - 0.03


@pytest.mark.parametrize("color", plots.PALETTE)
def test_every_colour_of_the_palette_can_be_seen_on_both_pages(color):
    assert min(contrast(color, WHITE), contrast(color, DARK)) >= 3


def test_figures_are_transparent_and_leave_the_settings_alone(tmp_path):
    before = dict(mpl.rcParams)
    axes = plots.figure()
    plots.curves(axes, [0, 1], {"a": [0, 1], "b": [1, 0]})
    axes.set_title("$T$")
    axes.figure.savefig(tmp_path / "one.png")
    assert dict(mpl.rcParams) == before
    pixels = plt.imread(tmp_path / "one.png")
    assert pixels[0, 0, 3] == 0
    assert (pixels[..., 3] == 0).mean() > 0.7


def test_all_text_has_the_ink_colour_also_what_is_added_later():
    axes = plots.figure()
    plots.curves(axes, [0, 1], {"a": [0, 1], "b": [1, 0]})
    axes.set_title("$T$")
    axes.set_xlabel("$x$")
    axes.figure.canvas.draw()
    texts = [t for t in axes.findobj(mpl.text.Text) if t.get_text()]
    assert len(texts) > 8
    assert all(same_color(t.get_color(), plots.INK) for t in texts)


def test_figure_gives_axes_in_the_shape_asked_for():
    assert isinstance(plots.figure(width=5, height=2), plt.Axes)
    assert plots.figure(columns=3).shape == (3,)
    assert plots.figure(columns=3, rows=2).shape == (2, 3)
    assert plots.figure(width=5, height=2).figure.get_size_inches().tolist() == [5, 2]


def test_curves_draw_the_numbers_with_different_colours_lines_and_markers():
    axes = plots.figure()
    series = {f"${i}$": np.arange(4) + i for i in range(5)}
    bands = {"$1$": (np.zeros(4), np.ones(4))}
    assert plots.curves(axes, np.arange(4), series, bands) is axes
    for line, values in zip(axes.lines, series.values(), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), values)
    assert len({line.get_color() for line in axes.lines}) == 5
    assert len({line.get_marker() for line in axes.lines}) == 5
    assert len({str(line._dash_pattern) for line in axes.lines}) == 5
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(series)
    (band,) = axes.collections
    assert band.get_datalim(axes.transData).y1 == 1
    assert same_color(band.get_facecolor()[0][:3], plots.PALETTE[1])


def test_one_curve_has_no_legend():
    assert plots.curves(plots.figure(), [0, 1], {"a": [0, 1]}).get_legend() is None


def test_too_many_curves_and_stray_bands_are_refused():
    with pytest.raises(ValueError, match="series must be at most 5, got 6"):
        plots.curves(plots.figure(), [0], {str(i): [0] for i in range(6)})
    with pytest.raises(
        ValueError, match=r"bands must have labels of series \['a'\], got \['b'\]"
    ):
        plots.curves(plots.figure(), [0], {"a": [0]}, {"b": ([0], [0])})


def comparison(difference, half, verdict):
    low, high = difference - half, difference + half
    return SimpleNamespace(difference=difference, low=low, high=high, verdict=verdict)


def test_intervals_run_from_low_to_high_beside_a_zero_line():
    axes = plots.figure()
    made = {"$A$": comparison(2, 1, "better"), "$B$": comparison(1, 3, "cannot tell")}
    plots.intervals(axes, made)
    zero, first, first_mark, second, second_mark = axes.lines
    assert list(zero.get_xdata()) == [0, 0]
    assert list(first.get_xdata()) == [1, 3]
    assert list(second.get_xdata()) == [-2, 4]
    assert first_mark.get_markerfacecolor() == plots.PALETTE[0]
    assert second_mark.get_markerfacecolor() == "none"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["$A$", "$B$"]
    assert axes.yaxis_inverted()


def test_bars_have_their_lengths_and_numbers():
    axes = plots.bars(plots.figure(), {"$A$": 2, "$B$": 0.12345, "$C$": 288554})
    assert [bar.get_width() for bar in axes.patches] == [2, 0.12345, 288554]
    assert [text.get_text() for text in axes.texts] == ["2", "0.123", "288,554"]


def test_images_keep_their_brightness_and_spare_axes_stay_empty():
    axes = plots.figure(columns=2, rows=2)
    grey = np.full((4, 4, 1), 0.5)
    assert plots.images(axes, [grey] * 3, ["1", "2", "3"]) is axes
    drawn = axes.ravel()[0].images[0]
    assert drawn.get_array().shape == (4, 4)
    assert drawn.get_clim() == (0, 1)
    assert [len(one.images) for one in axes.ravel()] == [1, 1, 1, 0]
    assert not any(one.axison for one in axes.ravel())
    assert axes[1, 0].get_title() == "3"
    with pytest.raises(ValueError, match="at most the 4 axes, got 5 and 5"):
        plots.images(axes, [grey] * 5, list("12345"))


def test_the_heatmap_prints_each_number_in_a_colour_that_can_be_read_on_its_cell():
    values = np.linspace(0, 1, 12).reshape(3, 4)
    axes = plots.heatmap(plots.figure(), values, rows=list("abc"), columns=[1, 2, 3, 4])
    texts = axes.texts
    assert [t.get_text() for t in texts] == [f"{v:.3g}" for v in values.ravel()]
    assert [t.get_position() for t in texts[:2]] == [(0, 0), (1, 0)]
    image = axes.images[0]
    cells = [image.cmap(image.norm(v)) for v in values.ravel()]
    pairs = zip(texts, cells, strict=True)
    assert min(contrast(t.get_color(), cell[:3]) for t, cell in pairs) > 3
    assert [t.get_text() for t in axes.get_xticklabels()] == ["1", "2", "3", "4"]


def test_the_heatmap_leaves_out_what_is_missing_and_refuses_other_shapes():
    axes = plots.heatmap(plots.figure(), [[1, np.nan]], rows=["a"], columns=["b", "c"])
    assert len(axes.texts) == 1
    with pytest.raises(ValueError, match=r"values must have the shape \(1, 1\), got \(1, 2\)"):
        plots.heatmap(plots.figure(), [[1, 2]], rows=["a"], columns=["b"])
