"""AdaLoRA's budget: from ``init_rank`` down to the reference rank along a cubic (Zhang et al. 2023).

| symbol | here |
|---|---|
| S_i, of every triplet, masked ones too | ``scores`` (M, R) |
| b(t) | ``cubic_budget`` |
| b^(0), b^(T) | ``init_rank`` times the modules, ``event.budget`` |
| t_i, T - t_f | ``event.first``, ``event.last`` |
| Λ <- Λ where S_i is among the b(t) highest, else 0 | ``best``; ``pruned``, ``revived`` |

Where this differs from the official code: that cuts all triplets that tie with the highest score to go, and
may end below b(t); here exactly b(t) live, and of equals the first go, by module, then slot. No module has a
floor there; here none falls below ``limits.minimum`` (``budget.min_rank: 0`` for AdaLoRA's own). That code
fails if b^(0) = b^(T); here nothing is cut then. In the last ``t_f`` steps it ranks anew at every step, by
scores that no longer change; here the event after step ``T - t_f`` (``closes``) settles it. Where the budget
counts parameters (not in the paper), b(t) is one of parameters, filled with the best triplets that fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rankadapt.boards import Change, Event, Limits, Storage, affordable, spent, standings
from rankadapt.policies.shrinking import Shrinking


def cubic_budget(start: int, end: int, event: Event) -> int:
    """b(t) after step ``event.step``: ``start`` up to step t_i, ``end`` from step T - t_f, between them
    ``floor(end + (start - end) (1 - (t - t_i) / (T - t_f - t_i))^3)``."""
    if event.step >= event.last:
        return end
    if event.step <= event.first:
        return start
    left = 1 - (event.step - event.first) / (event.last - event.first)
    return int((start - end) * (left**3) + end)  # in the official order, which rounds alike


def best(scores: Tensor, limits: Limits, budget: int) -> Tensor:
    """The slots that live within ``budget``: each module's ``minimum`` best, then the best of all that fit.

    Args:
        scores: (M, R) float, finite on every slot, live or dead.

    Returns:
        (M, R) bool.
    """
    M, R = scores.shape
    above = R - 1 - standings(scores, torch.ones_like(scores, dtype=torch.bool))  # 0 is a module's best
    safe, allowed = above < limits.minimum[:, None], above < limits.maximum[:, None]
    order = scores.flatten().argsort(stable=True).flip(0)
    order = order[(allowed & ~safe).flatten()[order]]
    cost = limits.costs()
    bought = affordable(cost[order // R], budget - spent(safe, cost))
    kept = safe.flatten()
    kept[order[bought]] = True
    return kept.view(M, R)


@dataclass(kw_only=True)
class CubicBudget(Shrinking):
    """Keeps the b(t) best of all directions, dead ones included: these may live again until the last event.

    Attributes:
        init_rank: of every module at the start; None for 1.5 times the reference rank, as AdaLoRA's paper.
    """

    storage: ClassVar[Storage] = "in_place"
    closes: ClassVar[bool] = True
    counts_parameters: ClassVar[bool] = True
    factor: ClassVar[float] = 1.5

    def __call__(self, scores: Tensor, live: Tensor, limits: Limits, event: Event) -> Change:
        every = int(limits.costs().sum())  # what one direction in every module takes
        start = self.starting_rank(event.budget / every) * every
        kept = best(scores, limits, cubic_budget(start, event.budget, event))
        return Change(live & ~kept, torch.zeros_like(limits.minimum), kept & ~live)
