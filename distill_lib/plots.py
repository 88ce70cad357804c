"""Plots that can be read on a white page and on a dark one, without words to translate.

Backgrounds are transparent. :data:`INK` keeps a contrast of 4.2:1 with white and with the dark
theme's #14181e (one colour can reach 4.22:1 with both), :data:`PALETTE` 3:1, WCAG's rule for
graphics. Functions draw on Matplotlib ``Axes``, which they return; ``ValueError`` for arrays
and labels that do not fit.
"""

import matplotlib.pyplot as plt
import numpy as np

INK = "#747c84"
PALETTE = ("#2f7fc1", "#d9601a", "#2a9d6f", "#8f5bd0", "#c2507a")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v")

STYLE = {
    **{f"{part}.facecolor": "none" for part in ("figure", "axes", "savefig")},
    **{f"{part}.color": INK for part in ("text", "xtick", "ytick", "grid")},
    **{f"axes.{part}color": INK for part in ("label", "edge")},
    **{f"axes.spines.{side}": False for side in ("top", "right")},
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": plt.cycler(color=PALETTE, linestyle=LINES),
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "font.size": 11,
    "lines.linewidth": 2,
}


@plt.rc_context(STYLE)
def figure(columns=1, rows=1, *, width=6.4, height=3.6):
    """Axes in the book's style; ``width`` and ``height`` of the whole figure in inches.

    One ``Axes``, or an array ``(columns,)``, ``(rows,)`` or ``(rows, columns)`` of them.
    """
    return plt.subplots(rows, columns, figsize=(width, height), layout="constrained")[1]


@plt.rc_context(STYLE)
def curves(axes, x, series, bands=None):
    """Draw lines over a common x ``(n,)``, with a legend where there are several.

    ``series`` is ``{label: (n,)}``, at most as many as :data:`PALETTE` has colours; ``bands``
    are ``{label: (low, high)}``, two rows ``(n,)`` shaded behind the line of that label.
    """
    if len(series) > len(PALETTE):
        raise ValueError(f"series must be at most {len(PALETTE)}, got {len(series)}")
    if extra := sorted(set(bands or {}) - set(series)):
        raise ValueError(f"bands must have labels of series {list(series)}, got {extra}")
    every = max(1, len(x) // 8)
    looks = zip(series.items(), PALETTE, LINES, MARKERS, strict=False)
    for (label, y), color, line, marker in looks:
        look = {"color": color, "linestyle": line, "marker": marker, "markevery": every}
        axes.plot(x, y, label=label, **look)
        if bands and label in bands:
            axes.fill_between(x, *bands[label], color=color, alpha=0.2, linewidth=0)
    if len(series) > 1:
        axes.legend()
    return axes


@plt.rc_context(STYLE)
def intervals(axes, comparisons):
    """Draw a forest plot: mean differences with their intervals, and a line at zero.

    ``comparisons`` is ``{label: distill_lib.evaluate.Comparison}``, the first on top. A filled
    mark has a verdict, a hollow one "cannot tell".
    """
    colors = {"better": PALETTE[0], "worse": PALETTE[1]}
    axes.axvline(0, color=INK, linewidth=1)
    for row, one in enumerate(comparisons.values()):
        color, face = colors.get(one.verdict, INK), colors.get(one.verdict, "none")
        axes.plot([one.low, one.high], [row, row], color=color, linestyle="-")
        axes.plot(one.difference, row, "o", color=color, markerfacecolor=face, markersize=8)
    axes.set_yticks(range(len(comparisons)), list(comparisons))
    axes.xaxis.set_major_locator(plt.MaxNLocator(5))
    axes.set_ylim(len(comparisons) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    return axes


@plt.rc_context(STYLE)
def bars(axes, values):
    """Draw ``{label: number}`` as horizontal bars, the first on top, with their numbers."""
    drawn = axes.barh(list(values), list(values.values()), color=PALETTE[0], height=0.6)
    numbers = [f"{v:.3g}" if abs(v) < 1000 else f"{v:,.0f}" for v in values.values()]
    axes.bar_label(drawn, numbers, padding=4)
    axes.margins(x=0.3)
    axes.xaxis.set_major_locator(plt.MaxNLocator(4))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    return axes


@plt.rc_context(STYLE)
def images(axes_array, arrays, titles):
    """Draw a grey image in each of an array of axes; what is left over stays empty.

    ``arrays`` are ``(rows, columns)`` or ``(rows, columns, 1)``, brightness 0 to 1; each has
    one of the ``titles``.
    """
    places, counts = np.ravel(axes_array), (len(arrays), len(titles))
    if counts[0] != counts[1] or counts[0] > len(places):
        rule = f"equally many and at most the {len(places)} axes"
        raise ValueError(f"arrays and titles must be {rule}, got {counts[0]} and {counts[1]}")
    for axes in places:
        axes.set_axis_off()
    for axes, array, title in zip(places, arrays, titles, strict=False):
        axes.imshow(np.squeeze(array), cmap="gray", vmin=0, vmax=1)
        axes.set_title(title)
    return axes_array


@plt.rc_context(STYLE)
def heatmap(axes, values, rows, columns):
    """Draw cells ``(len(rows), len(columns))``, with their numbers unless they are NaN."""
    values, shape = np.asarray(values, float), (len(rows), len(columns))
    if values.shape != shape:
        raise ValueError(f"values must have the shape {shape}, got {values.shape}")
    drawn = axes.imshow(values, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.grid(visible=False)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):  # Dark text on the light end of the colours, and vice versa.
            color = "black" if drawn.norm(value) > 0.5 else "white"
            axes.text(column, row, f"{value:.3g}", ha="center", va="center", color=color)
    return axes
