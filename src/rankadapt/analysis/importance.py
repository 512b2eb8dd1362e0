"""Importance of modules against their ranks (HeBiRA appendix C.5, Fig. 8; PE-DyRA section 4.5.6, Fig. 4b).

| in the papers | here |
|---|---|
| a layer's importance: ``min`` over its directions | HeBiRA Eq. 9 |
| ``mean`` | PE-DyRA Eq. 7 |
| ``sum``, "the aggregate importance of all ranks within that layer" | HeBiRA Theorem 4.1 |
| importance ranking, smaller values for higher importance | PE-DyRA Fig. 3b: :func:`rankings` |
| mean allocated rank against mean importance ranking | Fig. 8 and 4b: :func:`ranks_and_rankings` |

The scores are those that an event was decided on, over the directions alive until then (Eq. 9 leaves out the
``k`` that go in the same event; the file does not say which those are). A run of fixed ranks has scores if it
has a scorer and nowhere to go: ``method=hebira budget.min_rank=8 budget.max_rank=8``.

Correlations here are with importance, so that a positive one says that what matters has rank. Against the
ranking, where 1 is the most important, the papers' would be negative.
"""

from __future__ import annotations

from typing import Literal

import pandas as pd

from rankadapt.analysis.courses import mean_over_time, rank_course
from rankadapt.analysis.life import changes

Importance = Literal["mean", "min", "sum"]


def module_scores(trace: pd.DataFrame, importance: Importance = "mean") -> pd.DataFrame:
    """The score of every module (columns, in the order of the model) at every event that has scores (rows).

    A module without directions has NaN, except in a ``sum``.
    """
    frame = changes(trace).dropna(subset="score_mean")
    if importance == "sum":
        values = frame["score_mean"] * frame["before"]
    else:
        values = frame[f"score_{importance}"].where(frame["before"] > 0)
    wide = frame.assign(value=values).pivot(index="step", columns="module", values="value")
    return wide.reindex(columns=list(dict.fromkeys(trace["module"])))


def rankings(scores: pd.DataFrame) -> pd.DataFrame:
    """Each event's modules by score: 1 is the most important, equal scores share their mean place."""
    return scores.rank(axis=1, ascending=False)


def spearman(x: pd.Series, y: pd.Series) -> float:
    """Spearman's correlation of two series by their common index: Pearson's of the places, equal values
    sharing theirs. NaN where there are fewer than two pairs or one side is constant."""
    pairs = pd.concat([x, y], axis=1, join="inner").dropna().rank()
    if len(pairs) < 2 or (pairs.nunique() == 1).any():
        return float("nan")
    return float(pairs.iloc[:, 0].corr(pairs.iloc[:, 1]))


def correlation_by_event(trace: pd.DataFrame, importance: Importance = "mean") -> pd.DataFrame:
    """Spearman's correlation over modules of the score at each event (rows) with the ranks ``before`` it,
    ``after`` it, and at the end of the run (``final``)."""
    scores, ranks = module_scores(trace, importance), rank_course(trace)
    before = ranks.shift().fillna(ranks.iloc[0])
    rows = {
        step: {
            "before": spearman(score, before.loc[step]),
            "after": spearman(score, ranks.loc[step]),
            "final": spearman(score, ranks.iloc[-1]),
        }
        for step, score in scores.iterrows()
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["before", "after", "final"]).rename_axis(
        "step"
    )


def ranks_and_rankings(trace: pd.DataFrame, importance: Importance = "mean") -> pd.DataFrame:
    """By module: ``mean_rank`` over the run's steps and ``mean_ranking`` over its events, 1 for the most
    important (HeBiRA Fig. 8 has the modules of block 5 alone: pass :func:`courses.of_block`)."""
    means = rankings(module_scores(trace, importance)).mean()
    return pd.DataFrame({"mean_rank": mean_over_time(trace), "mean_ranking": means}).rename_axis("module")
