"""The picture of the ranks that every run leaves: where they ended (HeBiRA Fig. 9), and how they moved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rankadapt.analysis.courses import rank_course
from rankadapt.analysis.plots.maps import draw_map
from rankadapt.analysis.plots.style import ORDERED, new_figure, save


def plot_ranks(trace: pd.DataFrame, path: Path, title: str) -> None:
    """Write :func:`ranks_figure` to ``path``."""
    save(ranks_figure(trace, title), path)


def ranks_figure(trace: pd.DataFrame, title: str) -> Figure:
    """The heat map of final ranks (rows: kinds of module, columns: blocks), and the course of all ranks.

    Args:
        trace: rows of ``ranks.parquet``.
    """
    wide = rank_course(trace)
    figure, (top, bottom) = new_figure(2, 8.5, 7, height_ratios=(1, 1.15))
    final = wide.iloc[-1]
    span = float(wide.min(axis=None)), float(wide.max(axis=None))
    draw_map(top, final, "rank (directions)", span=span)
    top.set_title(f"final ranks ({int(final.sum())} directions in {len(final)} modules)", fontsize=10)
    _draw_course(bottom, wide)
    figure.suptitle(title)
    return figure


def _draw_course(axes: Axes, wide: pd.DataFrame) -> None:
    """Every module as one row over time, coloured by rank: reads for 36 modules as for 200."""
    steps = wide.index.to_numpy(dtype=float)
    edges = np.append(steps, steps[-1] + max((steps[-1] - steps[0]) / 50, 1))
    mesh = axes.pcolormesh(edges, np.arange(wide.shape[1] + 1), wide.T.to_numpy(), cmap=ORDERED)
    axes.invert_yaxis()
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("module, first to last")
    axes.set_title("ranks while training", fontsize=10)
    axes.figure.colorbar(mesh, ax=axes, label="rank (directions)")
