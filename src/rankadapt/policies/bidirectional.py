"""HeBiRA's rank adjustment: take from the weakest, give to the short of rank (Eq. 8-10, Algorithm 1).

| symbol | here |
|---|---|
| S_i | ``scores`` (M, R) |
| P, the k lowest of all (Eq. 8) | ``pruned`` |
| S_layer (Eq. 9; PE-DyRA Eq. 7 with ``aggregator: mean``) | ``module_worth`` |
| E, the k highest layers (Eq. 10) | ``turns``, ``deal`` |

What the papers leave open: no module falls below its minimum rank (1); ``k`` larger than the number of
modules goes round again from the top; a module that is full is passed over; equal scores go by module, then
slot. The number of directions is conserved strictly: what cannot be taken is not given. Where the budget
counts parameters (not in the papers), what is free of it is dealt the same way, and a module whose direction
no longer fits is passed over.

``k: auto`` is ours; PE-DyRA's section 5 names it as future work. See :func:`paying`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Gt
from torch import Tensor

from rankadapt.boards import Change, Event, Limits, deal, lowest, removable, spent, turns
from rankadapt.errors import Problem
from rankadapt.policies.base import Policy
from rankadapt.policies.fixed_size import Aggregator, module_worth, most_dealt, too_many


def bidirectional(
    scores: Tensor, live: Tensor, limits: Limits, k: int, aggregator: Aggregator, budget: int = 0
) -> Change:
    """Algorithm 1 on boards.

    Args:
        scores: (M, R) float. live: (M, R) bool. k: directions to take.
        budget: of parameters; read only if ``limits`` has costs.

    Returns:
        A change with as many births as prunings; with costs, as many births as the budget has room for.
    """
    pruned = lowest(scores, removable(scores, live, limits.minimum), k)
    kept = live & ~pruned
    purse = int(pruned.sum()) if limits.cost is None else budget - spent(kept, limits.cost)
    worth, room = module_worth(scores, kept, aggregator), limits.maximum - kept.sum(1)
    return Change(pruned, deal(worth, room, purse, limits.cost))


def paying(
    scores: Tensor, live: Tensor, limits: Limits, aggregator: Aggregator, margin: float, most: int
) -> int:
    """How many moves pay: the largest ``k`` up to which, for every number of moves, each one pays.

    The j-th of ``k`` moves pays if ``margin`` times the score of the j-th weakest removable direction is
    below the worth, once the ``k`` weakest are gone, of the j-th module that is dealt one. A direction that
    has gone from module a to module b goes back only if b's score and a's worth have changed places with
    the same margin: their ratio must have turned by ``margin`` squared, which keeps ranks from swinging.

    Args:
        scores: (M, R) float, not negative. live: (M, R) bool. margin: above 1. most: upper bound.
    """
    candidates, kept = removable(scores, live, limits.minimum).flatten(), live.flatten().clone()
    order = torch.where(candidates, scores.flatten(), torch.inf).argsort(stable=True)
    order = order[: min(most, int(candidates.sum()))]
    for k in range(1, len(order) + 1):
        kept[order[k - 1]] = False
        remains = kept.view_as(live)
        worth = module_worth(scores, remains, aggregator)
        dealt = turns(worth, limits.maximum - remains.sum(1), k)
        if len(dealt) < k or not bool((scores.flatten()[order[:k]] * margin < worth[dealt]).all()):
            return k - 1
    return len(order)


@dataclass(kw_only=True)
class Bidirectional(Policy):
    """Moves directions from where they matter least to where rank is short.

    Attributes:
        k: directions moved per event (HeBiRA Table 19: 12); ``auto`` for as many moves as pay, maybe none.
        aggregator: a module's worth is the ``min`` (HeBiRA Eq. 9) or the ``mean`` (Table 18; PE-DyRA) of the
            scores of its remaining directions.
        margin: with ``auto``, how many times the score it gives up a move must gain.
        k_max: with ``auto``, the most moves per event; None for a tenth of the live directions.
    """

    counts_parameters: ClassVar[bool] = True
    k: Annotated[int, Gt(0)] | Literal["auto"] = 12
    aggregator: Aggregator = "min"
    margin: Annotated[float, Gt(1)] = 2.0
    k_max: Annotated[int, Gt(0)] | None = None

    def __call__(self, scores: Tensor, live: Tensor, limits: Limits, event: Event) -> Change:
        k = self.k
        if k == "auto":
            k = paying(scores, live, limits, self.aggregator, self.margin, self.most(int(live.sum())))
        return bidirectional(scores, live, limits, k, self.aggregator, event.budget)

    def most(self, directions: int) -> int:
        """The most moves per event when that many directions live."""
        if self.k == "auto":
            return self.k_max or max(directions // 10, 1)
        return self.k

    def reach(self, rank: int, events: int, modules: int, budget: int = 0) -> int:
        return min(rank + events * most_dealt(self.most(rank * modules), modules), rank * modules)

    def problems(self, budget: int, modules: int | None = None) -> list[Problem]:
        if self.k != "auto":
            return too_many(self.k, budget)
        if self.k_max is None or self.k_max < budget:
            return []
        reason = f"moves as many directions per event as there are ({budget})"
        return [Problem("policy.k_max", self.k_max, reason, f"choose policy.k_max well below {budget}")]
