"""How far the ranks are from the optimal allocation (HeBiRA Eq. 11, 15-20, Fig. 7; PE-DyRA Eq. 9-14, Fig. 5).

| symbol | here |
|---|---|
| I_l (PE-DyRA: G_l), total importance of layer l | ``module_scores(trace, importance)`` |
| r_l | the rank that the module had when it was scored |
| α | ``alpha``, 1/2 in both papers, hence the exponent 1/(α + 1) = 2/3 |

If the loss falls like ``Σ I_l r_l^(-α)`` under a fixed total, the best ranks are proportional to
``I_l^(1/(α+1))``: the ratio ``I_l^(2/3) / r_l`` is then the same in all layers, and its variance is 0.

Scores shrink with the gradients as training goes on, and the variance with them, whatever the ranks do. Hence
``relative`` besides the papers' ``variance``: that of the ratio divided by its mean over layers, which has no
unit. Look at it before saying that an allocation improves.
"""

from __future__ import annotations

import pandas as pd

from rankadapt.analysis.courses import rank_course
from rankadapt.analysis.importance import Importance, module_scores


def allocation_ratios(
    trace: pd.DataFrame, importance: Importance = "sum", alpha: float = 0.5
) -> pd.DataFrame:
    """``I_l^(1/(α+1)) / r_l`` by event (rows) and module (columns); NaN where a module has rank 0."""
    scores, ranks = module_scores(trace, importance), rank_course(trace)
    before = ranks.shift().fillna(ranks.iloc[0]).reindex(scores.index)
    return scores ** (1 / (alpha + 1)) / before.where(before > 0)


def cross_layer_variance(
    trace: pd.DataFrame, importance: Importance = "sum", alpha: float = 0.5
) -> pd.DataFrame:
    """By event: ``variance`` of the ratios over modules (over all of them, not an estimate: by M, not M - 1),
    and ``relative``, the same over their squared mean."""
    ratios = allocation_ratios(trace, importance, alpha)
    variance, mean = ratios.var(axis=1, ddof=0), ratios.mean(axis=1)
    return pd.DataFrame({"variance": variance, "relative": variance / mean.where(mean > 0) ** 2})
