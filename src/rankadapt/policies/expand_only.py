"""Half of HeBiRA's adjustment: the ``k`` modules worth most receive a direction (Tables 8, 14, "+Expand")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rankadapt.boards import Change, Event, Limits, deal
from rankadapt.policies.fixed_size import FixedSize, module_worth, most_dealt


@dataclass(kw_only=True)
class ExpandOnly(FixedSize):
    """Adds ``k`` directions per event. From the same initial rank as the others (Table 8) it ends with more;
    ``budget.match=final`` starts it with fewer, so that it ends with the budget (Table 14)."""

    prunes: ClassVar[bool] = False

    def __call__(self, scores: Tensor, live: Tensor, limits: Limits, event: Event) -> Change:
        worth = module_worth(scores, live, self.aggregator)
        return Change(torch.zeros_like(live), deal(worth, limits.maximum - live.sum(1), self.k))

    def growth(self, events: int) -> int:
        return self.k * events

    def reach(self, rank: int, events: int, modules: int, budget: int = 0) -> int:
        return rank + events * most_dealt(self.k, modules)
