"""Train at a high rank, then cut to the budget: the plain two-stage baseline. From no paper.

The scores are meant to be the singular values of each module's update, so that what is left is its best
approximation of that rank (Eckart-Young); with ``by: global`` the sum of all squared errors is the least for
the budget, if no module is at its minimum. Any other scorer will do too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rankadapt.boards import Change, Event, Limits, lowest, removable, standings
from rankadapt.policies.shrinking import Shrinking


def cut(scores: Tensor, live: Tensor, limits: Limits, budget: int) -> Tensor:
    """(M, R) bool: the lowest directions of all modules that must go for ``budget`` to remain."""
    return lowest(scores, removable(scores, live, limits.minimum), max(int(live.sum()) - budget, 0))


def cut_evenly(scores: Tensor, live: Tensor, shares: Tensor) -> Tensor:
    """(M, R) bool: the lowest directions of each module above its share (M,)."""
    return live & (standings(scores, live) < (live.sum(1) - shares)[:, None])


@dataclass(kw_only=True)
class Truncate(Shrinking):
    """Cuts to the budget at the last event, right after step ``total - t_f``; does nothing before.

    Attributes:
        init_rank: of every module until then; None for twice the reference rank.
        by: ``global``, the lowest of all modules go; ``module``, every module comes down to its even share.
    """

    closes: ClassVar[bool] = True
    rotates: ClassVar[bool] = True
    factor: ClassVar[float] = 2.0
    by: Literal["global", "module"] = "global"

    def __call__(self, scores: Tensor, live: Tensor, limits: Limits, event: Event) -> Change:
        if event.index < event.count - 1:
            return Change.none(live)
        if self.by == "global":
            pruned = cut(scores, live, limits, event.budget)
        else:
            even = self.allocate(event.budget, range(len(live)))
            shares = torch.tensor(even, device=live.device)
            pruned = cut_evenly(scores, live, torch.maximum(shares, limits.minimum))
        return Change(pruned, torch.zeros_like(limits.minimum))
