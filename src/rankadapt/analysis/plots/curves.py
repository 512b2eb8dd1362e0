"""Numbers over time, and a metric over a setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rankadapt.analysis.names import layer_and_role
from rankadapt.analysis.plots.style import COLORS, DASHES, MARKERS, label, legend, look, new_figure, short

STEP = "optimizer step"


def curves(
    series: Mapping[str, pd.Series], y: str, title: str, log: bool = False, zero: bool = False
) -> Figure:
    """One line per entry of ``series``, each a value by optimizer step: the variance of an allocation of
    several runs, gradient norms, a loss, a correlation.

    Args:
        y: what the values are, with their unit. log: a logarithmic axis; values of 0 or below are left out.
        zero: draw the line of zero.
    """
    figure, (axes,) = new_figure()
    for number, (name, values) in enumerate(series.items()):
        shown = values.where(values > 0).dropna() if log else values.dropna()
        lines = look(number, len(series))
        if len(shown) <= 15:
            lines |= {"marker": MARKERS[number % len(MARKERS)], "markersize": 4}
        axes.plot(shown.index, shown, label=name, linewidth=1.6, **lines)
    if log:
        axes.set_yscale("log")
    if zero:
        axes.axhline(0, color="0.4", linewidth=0.8)
    label(axes, STEP, y, title)
    legend(axes, list(series))
    return figure


def group_curves(wide: pd.DataFrame, y: str, title: str, inverted: bool = False) -> Figure:
    """Ranks or rankings over time, one line per column of ``wide``: kinds, blocks, or the modules of one
    block (HeBiRA Fig. 5, PE-DyRA Fig. 3). A rank holds until the next step, so lines are stairs.

    Args:
        wide: by optimizer step, of :func:`courses.grouped_ranks` or :func:`importance.rankings`.
        inverted: for rankings: 1 is on top, and lines go from one event to the next.
    """
    figure, (axes,) = new_figure(width=7)
    names = _names(list(wide.columns))
    for number, (name, column) in enumerate(zip(names, wide.columns, strict=True)):
        kind = {"marker": "o", "markersize": 3} if inverted else {"drawstyle": "steps-post"}
        lines = look(number, len(names)) | kind
        axes.plot(wide.index, wide[column], label=name, linewidth=1.6, **lines)
    if inverted:
        axes.invert_yaxis()
    axes.yaxis.set_major_locator(MaxNLocator(integer=inverted))
    label(axes, STEP, y, title)
    legend(axes, names)
    return figure


def _names(columns: list[Any]) -> list[str]:
    """Blocks by number; kinds, and modules of one block, by their kind; other modules by both."""
    if all(isinstance(column, int) for column in columns):
        return [f"block {column}" for column in columns]
    places = [layer_and_role(str(column)) for column in columns]
    if len({block for block, _ in places}) == 1:
        return [short(role) for _, role in places]
    return [f"{block} {short(role)}" for block, role in places]


def sensitivity_curves(table: pd.DataFrame, key: str, metric: str, title: str) -> Figure:
    """A metric over the values of one setting (HeBiRA Tables 10 and 15, La-LoRA Fig. 3): the mean over seeds,
    with one standard deviation to either side where there is more than one seed.

    Args:
        table: of :func:`sweeps.sensitivity`. key, metric: what the axes are called. Values stand evenly
            spaced, in their order.
    """
    values = sorted(dict.fromkeys(table["value"]), key=lambda v: (isinstance(v, str), v))
    figure, (axes,) = new_figure(width=5.5)
    names = list(dict.fromkeys(table["series"]))
    for number, name in enumerate(names):
        rows = table[table["series"] == name]
        at = np.array([values.index(value) for value in rows["value"]]) + 0.06 * (
            number - (len(names) - 1) / 2
        )
        look_of = number % len(COLORS)
        axes.errorbar(
            at,
            rows["mean"],
            yerr=rows["sd"].fillna(0),
            label=name,
            color=COLORS[look_of],
            linestyle=DASHES[look_of],
            marker=MARKERS[look_of],
            capsize=3,
            markersize=5,
        )
    axes.set_xticks(range(len(values)), [str(value) for value in values])
    fewest, most = int(table["seeds"].min()), int(table["seeds"].max())
    seeds = f"{most} seed{'s' * (most > 1)}" if fewest == most else f"{fewest} to {most} seeds"
    label(axes, key, f"{metric}, mean ± sd of {seeds}" if most > 1 else f"{metric}, one seed", title)
    legend(axes, names)
    return figure
