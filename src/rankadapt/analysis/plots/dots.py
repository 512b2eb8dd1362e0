"""Every seed of every arm as a dot: how far arms lie apart, next to how far their own seeds do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev

from matplotlib.figure import Figure

from rankadapt.analysis.plots.style import COLORS, label, new_figure

MOST = 40
"""Arms that one figure has room for: of more, the best."""


def arms_plot(title: str, metric: str, values: Mapping[str, Sequence[float]]) -> Figure:
    """The ``values`` of each arm, one dot per seed, their mean as a diamond, and a bar of one standard
    deviation to either side. The best arm is on top."""
    best = sorted(values, key=lambda name: mean(values[name]))[-MOST:]
    figure, (axes,) = new_figure(1, 7.5, 1.1 + 0.32 * max(len(best), 2))
    for row, name in enumerate(best):
        found = values[name]
        spread = stdev(found) if len(found) > 1 else 0.0
        axes.plot(found, [row] * len(found), "o", color=COLORS[0], alpha=0.45, markersize=4.5)
        axes.errorbar(mean(found), row, xerr=spread, fmt="D", color=COLORS[1], capsize=3, markersize=5)
    axes.set_yticks(range(len(best)), best)
    label(axes, f"{metric}, last step: each seed, mean ± sd", None, title)
    axes.grid(axis="x", color="0.9", linewidth=0.8)
    return figure
