"""Births, deaths, and how long directions live."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rankadapt.analysis.life import births_and_deaths, life_spans
from rankadapt.analysis.plots.maps import draw_map
from rankadapt.analysis.plots.style import COLORS, label, legend, new_figure


def births_and_deaths_figure(trace: pd.DataFrame, title: str) -> Figure:
    """Directions that came (up) and went (down) at each event, the running totals of both, and the mean life
    of each module's directions, in optimizer steps until their death or the end of the run."""
    counted, spans = births_and_deaths(trace), life_spans(trace)
    figure, (top, middle, bottom) = new_figure(3, 7.5, 7, height_ratios=(1, 1, 1.2))
    middle.sharex(top)
    _draw_events(top, counted)
    middle.step(counted.index, counted["came_so_far"], where="post", color=COLORS[0], label="came")
    middle.step(
        counted.index, counted["pruned_so_far"], where="post", color=COLORS[1], label="went", linestyle="--"
    )
    label(top, None, "directions\nper event", title)
    label(middle, "optimizer step", "directions\nso far")
    legend(top, ["came", "went"], above=True)
    draw_map(bottom, spans["mean_life"], "mean life (optimizer steps)")
    return figure


def _draw_events(axes: Axes, counted: pd.DataFrame) -> None:
    steps = counted.index.to_numpy(dtype=float)
    width = 0.8 * float(np.diff(steps).min(initial=np.inf)) if len(steps) > 1 else 1.0
    axes.bar(steps, counted["came"], width, color=COLORS[0], label="came")
    axes.bar(
        steps,
        -counted["pruned"],
        width,
        color=COLORS[1],
        label="went",
        hatch="//",
        edgecolor="white",
        linewidth=0,
    )
    axes.axhline(0, color="0.4", linewidth=0.8)
    most = max(1, 1.1 * counted[["came", "pruned"]].max(axis=None))
    axes.set_ylim(-most, most)
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
