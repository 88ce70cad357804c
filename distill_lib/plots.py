"""Plots that can be read on a white page and on a dark one, without words to translate.

Backgrounds are transparent. Text and axes share one grey: against both white and the dark
theme's #14181e a single colour can reach a contrast of 4.22:1 at most (the square root of
the 17.8:1 between them), so the 4.5:1 that WCAG asks of small text is out of reach; the
figures use 11 points, and the grey keeps at least 4.2:1. The colours of :data:`PALETTE` keep
3:1, what WCAG asks of graphics, and each also has its own line style and marker.

Functions take arrays and draw on Matplotlib axes, which they return.
"""

import matplotlib.pyplot as plt
import numpy as np

INK = "#747c84"
PALETTE = ("#2f7fc1", "#d9601a", "#2a9d6f", "#8f5bd0", "#c2507a")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v")

STYLE = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.facecolor": "none",
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=PALETTE, linestyle=LINES),
    "font.size": 11,
    "lines.linewidth": 2,
}


def figure(columns=1, rows=1, *, width=6.4, height=3.6):
    """Start a figure in the book's style.

    Args:
        columns, rows: how many axes beside and below each other.
        width, height: of the whole figure, in inches.

    Returns:
        the ``Axes`` if there is one, else an array of them: ``(columns,)`` for one row,
        ``(rows,)`` for one column, ``(rows, columns)`` for more.
    """
    with plt.rc_context(STYLE):
        _, axes = plt.subplots(rows, columns, figsize=(width, height), layout="constrained")
    return axes


def curves(axes, x, series, bands=None):
    """Draw lines over a common x, with a legend where there are several.

    Args:
        axes: Matplotlib ``Axes``.
        x: numbers ``(n,)``.
        series: ``{label: numbers (n,)}``, at most as many as :data:`PALETTE` has colours.
        bands: ``{label: (low, high)}``, two rows ``(n,)`` shaded behind a line; the labels
            must be among those of ``series``.
    """
    _check_at_most_palette("series", series)
    if extra := sorted(set(bands or {}) - set(series)):
        raise ValueError(f"bands must have labels of series {list(series)}, got {extra}")
    with plt.rc_context(STYLE):
        marks = zip(series.items(), PALETTE, LINES, MARKERS, strict=False)
        for (label, y), color, line, marker in marks:
            options = {"color": color, "linestyle": line, "marker": marker}
            axes.plot(x, y, label=label, markevery=max(1, len(x) // 8), **options)
            if bands and label in bands:
                axes.fill_between(x, *bands[label], color=color, alpha=0.2, linewidth=0)
        if len(series) > 1:
            axes.legend()
    return axes


def intervals(axes, comparisons):
    """Draw a forest plot: each mean difference with its interval, and a line at zero.

    A filled mark has a verdict, a hollow one "cannot tell".

    Args:
        axes: Matplotlib ``Axes``.
        comparisons: ``{label: comparison}`` with the attributes ``difference``, ``low``,
            ``high`` and ``verdict``; the first is drawn on top.
    """
    colors = {"better": PALETTE[0], "worse": PALETTE[1]}
    with plt.rc_context(STYLE):
        axes.axvline(0, color=INK, linewidth=1)
        for row, one in enumerate(comparisons.values()):
            color = colors.get(one.verdict, INK)
            face = color if one.verdict in colors else "none"
            axes.plot([one.low, one.high], [row, row], color=color, linestyle="-")
            axes.plot(one.difference, row, "o", color=color, markerfacecolor=face, markersize=8)
        axes.set_yticks(range(len(comparisons)), list(comparisons))
        axes.xaxis.set_major_locator(plt.MaxNLocator(5))
        axes.set_ylim(len(comparisons) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
    return axes


def bars(axes, values):
    """Draw horizontal bars, the first on top, with their values at the ends.

    Args:
        axes: Matplotlib ``Axes``.
        values: ``{label: number}``.
    """
    with plt.rc_context(STYLE):
        drawn = axes.barh(list(values), list(values.values()), color=PALETTE[0], height=0.6)
        numbers = [f"{v:.3g}" if abs(v) < 1000 else f"{v:,.0f}" for v in values.values()]
        axes.bar_label(drawn, numbers, padding=4)
        axes.margins(x=0.3)
        axes.xaxis.set_major_locator(plt.MaxNLocator(4))
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
    return axes


def images(axes_array, arrays, titles):
    """Draw one grey image in each of the axes; what is left over stays empty.

    Args:
        axes_array: array of Matplotlib ``Axes``, of any shape.
        arrays: images ``(rows, columns)`` or ``(rows, columns, 1)``, brightness 0 to 1.
        titles: one string for each image.
    """
    places = np.ravel(axes_array)
    if not len(titles) == len(arrays) <= len(places):
        raise ValueError(
            f"arrays and titles must be equally many and at most the {len(places)} axes, "
            f"got {len(arrays)} and {len(titles)}"
        )
    with plt.rc_context(STYLE):
        for axes in places:
            axes.set_axis_off()
        for axes, array, title in zip(places, arrays, titles, strict=False):
            axes.imshow(np.squeeze(array), cmap="gray", vmin=0, vmax=1)
            axes.set_title(title)
    return axes_array


def heatmap(axes, values, rows, columns):
    """Draw a table of coloured cells, each with its number.

    Args:
        axes: Matplotlib ``Axes``.
        values: numbers ``(len(rows), len(columns))``; NaN leaves a cell empty.
        rows, columns: labels of the ticks.
    """
    values = np.asarray(values, float)
    if values.shape != (len(rows), len(columns)):
        expected = (len(rows), len(columns))
        raise ValueError(f"values must have the shape {expected}, got {values.shape}")
    with plt.rc_context(STYLE):
        drawn = axes.imshow(values, cmap="viridis", aspect="auto")
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(rows)), rows)
        axes.grid(visible=False)
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                # Dark text on the light end of the colour map, light text on the dark end.
                color = "black" if drawn.norm(value) > 0.5 else "white"
                axes.text(column, row, f"{value:.3g}", ha="center", va="center", color=color)
    return axes


def _check_at_most_palette(name, values):
    if len(values) > len(PALETTE):
        raise ValueError(f"{name} must be at most {len(PALETTE)}, got {len(values)}")
