"""Ranks over time, from the rows of ``ranks.parquet``. A rank holds from its row's step to the next row's."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from rankadapt.analysis.names import layer_and_role

Group = Literal["module", "block", "kind"]


def rank_course(trace: pd.DataFrame) -> pd.DataFrame:
    """Ranks by step (rows) and module (columns, in the order of the model)."""
    return trace.pivot_table(index="step", columns="module", values="rank", sort=False)


def grouped_ranks(trace: pd.DataFrame, by: Group) -> pd.DataFrame:
    """Mean rank by step (rows) of each module, transformer block or kind of projection (columns)."""
    wide = rank_course(trace)
    if by == "module":
        return wide
    place = 0 if by == "block" else 1
    keys = [layer_and_role(name)[place] for name in wide.columns]
    return wide.T.groupby(keys, sort=False).mean().T


def of_block(trace: pd.DataFrame, block: int) -> pd.DataFrame:
    """The rows of the modules of one transformer ``block``."""
    return trace[[layer_and_role(name)[0] == block for name in trace["module"]]]


def mean_over_time(trace: pd.DataFrame) -> pd.Series:
    """The mean rank of every module over the steps that were taken: what ``results.json`` has as ``mean``.

    A run of no step has its initial ranks.
    """
    wide = rank_course(trace)
    lasts = np.diff(wide.index.to_numpy())
    if not lasts.sum():
        return wide.iloc[0].astype(float)
    return (wide.iloc[:-1].mul(lasts, axis=0)).sum() / lasts.sum()


def mean_budget(trace: pd.DataFrame) -> float:
    """Live directions over all modules, averaged over the steps: ``rank.total.mean`` of ``results.json``."""
    return float(mean_over_time(trace).sum())
