"""Logged numbers over time, from the rows of ``metrics.csv``.

| metric | what | paper |
|---|---|---|
| ``grad/A``, ``grad/B``, ``grad/e``, ... | L2 norm of a kind of parameter's gradient | PE-DyRA Fig. 11 |
| ``train/penalty`` | the orthogonality term, its weight included | PE-DyRA Fig. 10b |
| ``train/loss`` | the task's loss, no penalty in it | PE-DyRA Fig. 9 |
"""

from __future__ import annotations

import pandas as pd


def course(metrics: pd.DataFrame, name: str) -> pd.Series:
    """The values of one metric by step; empty where it was never logged."""
    found = metrics[metrics["metric"] == name]
    return found.set_index("step")["value"].rename(name)


def courses(metrics: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """The values by step (rows) of every metric that starts with ``prefix`` (columns, without it)."""
    found = metrics[metrics["metric"].str.startswith(prefix)]
    wide = found.pivot(index="step", columns="metric", values="value")
    return wide.rename(columns=lambda name: name.removeprefix(prefix)).rename_axis(columns=None)


def gradient_norms(metrics: pd.DataFrame) -> pd.DataFrame:
    """``||dLoss/dA||_2`` and so on by step (rows) and kind of parameter (columns): of the whole optimizer
    step's gradient, all modules together, the penalty's share included, not clipped."""
    return courses(metrics, "grad/")
