"""Logged numbers over time, from the rows of ``metrics.csv``.

| metric | what | paper |
|---|---|---|
| ``grad/A``, ``grad/B``, ``grad/e``, ... | L2 norm of a kind of parameter's gradient | |
| ``grad_rms/A``, ... | root mean square of its entries | PE-DyRA Fig. 11 |
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


def gradients(metrics: pd.DataFrame, per_entry: bool = True) -> pd.DataFrame:
    """How large the gradients of core and factors are, by step (rows) and kind of parameter (columns: ``A``,
    ``B``, ``e``, ...), all modules together: the root mean square of an entry, or the L2 norm.

    Of the whole optimizer step's gradient, not clipped, the penalty's share included: with ``penalty=none``
    it is the loss's alone.
    """
    return courses(metrics, "grad_rms/" if per_entry else "grad/")
