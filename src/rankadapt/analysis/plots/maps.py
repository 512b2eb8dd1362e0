"""Heat maps of one number per module: kinds of projection by transformer block."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rankadapt.analysis.names import layer_and_role
from rankadapt.analysis.plots.style import ORDERED, SIGNED, new_figure, padded, short

MOST_WRITTEN = 20
"""Blocks up to which every cell has its number written in it."""


def grid(values: pd.Series) -> pd.DataFrame:
    """One value per module path as a table of kinds (rows) and blocks (columns), in the model's order."""
    cells = [(*layer_and_role(str(name)), value) for name, value in values.items()]
    roles = list(dict.fromkeys(role for _, role, _ in cells))
    table = pd.DataFrame(cells, columns=["block", "role", "value"])
    return table.pivot_table(index="role", columns="block", values="value", dropna=False).reindex(roles)


def draw_map(
    axes: Axes,
    values: pd.Series,
    unit: str,
    form: str = ".0f",
    signed: bool = False,
    span: tuple[float, float] | None = None,
) -> None:
    """Draw one value per module. Cells of modules that are not there, or have none, stay empty.

    Args:
        unit: what the colour means. form: of the numbers in the cells.
        signed: differences, with zero in the middle of the colours. span: of the colours; None for that of
            the values.
    """
    table = grid(values)
    cells = table.to_numpy(dtype=float)
    low, high = padded(*(span or (float(np.nanmin(cells)), float(np.nanmax(cells)))))
    if signed:
        high = max(abs(low), abs(high))
        low = -high
    image = axes.imshow(cells, cmap=SIGNED if signed else ORDERED, aspect="auto", vmin=low, vmax=high)
    if table.shape[1] <= MOST_WRITTEN:
        _write(axes, cells, (low, high), form, signed)
    places = range(0, table.shape[1], 1 + table.shape[1] // 24)
    axes.set_xticks(places, [table.columns[place] for place in places])
    axes.set_yticks(range(table.shape[0]), [short(role) for role in table.index])
    axes.set_xlabel("transformer block")
    axes.figure.colorbar(image, ax=axes, label=unit)


def _write(axes: Axes, cells: np.ndarray, span: tuple[float, float], form: str, signed: bool) -> None:
    for (row, column), value in np.ndenumerate(cells):
        share = (value - span[0]) / (span[1] - span[0])
        dark = abs(share - 0.5) > 0.35 if signed else share <= 0.5
        if not np.isnan(value):
            color = "white" if dark else "black"
            text = format(value, form)
            text = text if text.strip("+-0.") else text.strip("+-")  # no minus zero
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)


def heat_map(values: pd.Series, unit: str, title: str, form: str = ".0f", signed: bool = False) -> Figure:
    """One value per module path as a heat map, see :func:`draw_map`."""
    figure, (axes,) = new_figure(height=0.9 + 0.4 * max(len(grid(values)), 4), width=7.5)
    draw_map(axes, values, unit, form, signed)
    axes.set_title(title, fontsize=10, loc="left")
    return figure


def utilisation_map(difference: pd.Series, title: str) -> Figure:
    """``Δu = u_dynamic - u_fixed`` by module (HeBiRA Fig. 4): green where dynamic ranks are used better."""
    return heat_map(difference, "difference in utilisation (share of rank)", title, form="+.2f", signed=True)
