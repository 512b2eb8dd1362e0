"""Importance against rank, one point per module (HeBiRA Fig. 8, PE-DyRA Fig. 4b)."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from rankadapt.analysis.importance import spearman
from rankadapt.analysis.names import layer_and_role
from rankadapt.analysis.plots.style import COLORS, MARKERS, label, legend, new_figure, short


def importance_scatter(table: pd.DataFrame, title: str) -> Figure:
    """``mean_rank`` over ``mean_ranking`` of :func:`importance.ranks_and_rankings`, by kind of projection.
    The most important module is on the left. Spearman's correlation of importance and rank stands in the
    figure: positive where what matters has rank."""
    table = table.dropna()
    figure, (axes,) = new_figure(width=6.5)
    kinds = [layer_and_role(str(name))[1] for name in table.index]
    known = list(dict.fromkeys(kinds))
    for number, kind in enumerate(known):
        rows = table[[k == kind for k in kinds]]
        axes.scatter(
            rows["mean_ranking"],
            rows["mean_rank"],
            label=short(kind),
            color=COLORS[number % len(COLORS)],
            marker=MARKERS[number % len(MARKERS)],
            s=28,
            linewidths=0,
            alpha=0.85,
        )
    rho = spearman(-table["mean_ranking"], table["mean_rank"])
    told = f"Spearman's ρ = {rho:+.2f}, {len(table)} modules" if len(table) else "the run has no scores"
    label(axes, "mean importance ranking (1 = most important)", "mean rank (directions)", f"{title}\n{told}")
    legend(axes, known)
    return figure
