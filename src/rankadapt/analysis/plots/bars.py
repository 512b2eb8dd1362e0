"""Bars by kind of projection or by block: effective rank and utilisation, sparsity and rank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rankadapt.analysis.names import layer_and_role
from rankadapt.analysis.plots.style import COLORS, label, legend, new_figure, short

HATCHES = ("", "//", "..", "xx")


def utilisation_bars(
    runs: Mapping[str, pd.DataFrame], title: str, by: Literal["kind", "block"] = "kind"
) -> Figure:
    """Effective rank (HeBiRA Eq. 21) and utilisation of several runs side by side, the means over the modules
    of each kind or block. A line over a bar is the nominal rank.

    Args:
        runs: label -> table of :func:`effective_rank.effective_ranks`, the baseline last.
    """
    place = 1 if by == "kind" else 0
    tables = {name: _grouped(frame, place) for name, frame in runs.items()}
    figure, (top, bottom) = new_figure(2, 7.5, 5, sharex=True)
    _draw_bars(top, {name: table["effective"] for name, table in tables.items()})
    _draw_caps(top, [table["nominal"] for table in tables.values()])
    _draw_bars(bottom, {name: table["utilisation"] for name, table in tables.items()})
    label(top, None, "effective rank\n(directions)", title)
    label(bottom, None if by == "kind" else "transformer block", "utilisation\n(effective / nominal)")
    groups = next(iter(tables.values())).index
    bottom.set_xticks(range(len(groups)), [short(str(group)).replace(".", "\n") for group in groups])
    legend(top, list(tables), above=True)
    return figure


def sparsity_and_rank(sparsity: pd.DataFrame, ranks: Mapping[str, int], title: str) -> Figure:
    """Sparsity of the update (La-LoRA Eq. 1) above, mean final rank below, by block (La-LoRA Fig. 4).

    Args:
        sparsity: of :func:`sparsity.sparsity_by_block`. ranks: module path -> final rank.
    """
    blocks = [layer_and_role(name)[0] for name in ranks]
    means = pd.Series(list(ranks.values()), dtype=float).groupby(blocks).mean()
    figure, (top, bottom) = new_figure(2, 6.5, 4.2, sharex=True)
    shown = sparsity["sparsity"].replace(-np.inf, np.nan)
    top.plot(shown.index, shown, color=COLORS[1], marker="o", markersize=5)
    bottom.bar(means.index, means, color=COLORS[0], width=0.7)
    bottom.set_xticks(means.index[:: 1 + len(means) // 24])
    label(top, None, "sparsity\n(log, La-LoRA Eq. 1)", title)
    label(bottom, "transformer block", "mean rank\n(directions)")
    return figure


def _grouped(frame: pd.DataFrame, place: int) -> pd.DataFrame:
    keys = [layer_and_role(str(name))[place] for name in frame.index]
    return frame.groupby(keys, sort=False).mean()


def _draw_bars(axes: Axes, columns: Mapping[str, pd.Series]) -> None:
    width = 0.8 / len(columns)
    for number, (name, values) in enumerate(columns.items()):
        axes.bar(
            _places(len(values), number, len(columns)),
            values,
            width * 0.92,
            label=name,
            color=COLORS[number % len(COLORS)],
            hatch=HATCHES[number % len(HATCHES)],
            edgecolor="white",
            linewidth=0,
        )


def _draw_caps(axes: Axes, columns: list[pd.Series]) -> None:
    half = 0.36 / len(columns)
    for number, values in enumerate(columns):
        at = _places(len(values), number, len(columns))
        name = "nominal rank" if number == len(columns) - 1 else "_"
        axes.hlines(values, at - half, at + half, color="black", linewidth=1.4, label=name)


def _places(groups: int, number: int, of: int) -> np.ndarray:
    return np.arange(groups) + 0.8 * (number - (of - 1) / 2) / of
