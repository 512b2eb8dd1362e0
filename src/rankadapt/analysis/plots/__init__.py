"""Figures that read well on paper and on screen: each function takes a frame of :mod:`rankadapt.analysis` and
returns a matplotlib Figure, which :func:`save` writes as PNG or PDF."""

from rankadapt.analysis.plots.bars import sparsity_and_rank, utilisation_bars
from rankadapt.analysis.plots.curves import curves, group_curves, sensitivity_curves
from rankadapt.analysis.plots.dots import arms_plot
from rankadapt.analysis.plots.life import births_and_deaths_figure
from rankadapt.analysis.plots.maps import heat_map, utilisation_map
from rankadapt.analysis.plots.ranks import plot_ranks, ranks_figure
from rankadapt.analysis.plots.scatter import importance_scatter
from rankadapt.analysis.plots.style import png, save

__all__ = [
    "arms_plot",
    "births_and_deaths_figure",
    "curves",
    "group_curves",
    "heat_map",
    "importance_scatter",
    "plot_ranks",
    "png",
    "ranks_figure",
    "save",
    "sensitivity_curves",
    "sparsity_and_rank",
    "utilisation_bars",
    "utilisation_map",
]
