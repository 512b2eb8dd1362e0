"""Half of HeBiRA's adjustment: the ``k`` lowest directions go (Tables 8 and 14, "+Prune")."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rankadapt.boards import Change, Event, Limits, lowest, removable
from rankadapt.policies.fixed_size import FixedSize


@dataclass(kw_only=True)
class PruneOnly(FixedSize):
    """Removes ``k`` directions per event. From the same initial rank as the others (Table 8) it ends with
    fewer; ``budget.match=final`` starts it with more, so that it ends with the budget (Table 14)."""

    def __call__(self, scores: Tensor, live: Tensor, limits: Limits, event: Event) -> Change:
        pruned = lowest(scores, removable(scores, live, limits.minimum), self.k)
        return Change(pruned, torch.zeros_like(limits.minimum))

    def growth(self, events: int) -> int:
        return -self.k * events
