"""Plots that read well on paper and on screen."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rankadapt.analysis.names import layer_and_role

MAP = "viridis"


def plot_ranks(trace: pd.DataFrame, path: Path, title: str) -> None:
    """The heat map of final ranks (rows: kinds of module, columns: blocks), and the course of all ranks.

    Args:
        trace: rows of ``ranks.parquet``.
    """
    wide = trace.pivot_table(index="step", columns="module", values="rank", sort=False)
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(8.5, 7), height_ratios=(1, 1.15), layout="constrained"
    )
    _heat_map(top, wide.iloc[-1])
    _course(bottom, wide)
    figure.suptitle(title)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _heat_map(axes: Axes, final: pd.Series) -> None:
    table = _grid(final)
    image = axes.imshow(table.to_numpy(), cmap=MAP, aspect="auto")
    bright = (np.nanmin(table.to_numpy()) + np.nanmax(table.to_numpy())) / 2
    for (row, column), value in np.ndenumerate(table.to_numpy()):
        if not np.isnan(value):
            color = "black" if value > bright else "white"
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=color, fontsize=8)
    axes.set_xticks(range(table.shape[1]), table.columns)
    axes.set_yticks(range(table.shape[0]), table.index)
    axes.set_xlabel("block")
    axes.set_title(f"final ranks ({int(final.sum())} directions in {len(final)} modules)", fontsize=10)
    axes.figure.colorbar(image, ax=axes, label="rank")


def _grid(final: pd.Series) -> pd.DataFrame:
    """Ranks by role and block, in the order of the model."""
    cells = [(*layer_and_role(name), rank) for name, rank in final.items()]
    roles = list(dict.fromkeys(role for _, role, _ in cells))
    table = pd.DataFrame(cells, columns=["block", "role", "rank"])
    return table.pivot_table(index="role", columns="block", values="rank").reindex(roles)


def _course(axes: Axes, wide: pd.DataFrame) -> None:
    """Every module as one row over time, coloured by rank: reads for 36 modules as for 200."""
    steps = wide.index.to_numpy(dtype=float)
    edges = np.append(steps, steps[-1] + max((steps[-1] - steps[0]) / 50, 1))
    mesh = axes.pcolormesh(edges, np.arange(wide.shape[1] + 1), wide.T.to_numpy(), cmap=MAP)
    axes.invert_yaxis()
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("module, first to last")
    axes.set_title("ranks while training", fontsize=10)
    axes.figure.colorbar(mesh, ax=axes, label="rank")
