"""What the policies share that start small and grow up to the budget, ``delta_r`` directions at a time."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from torch import Tensor

from rankadapt.boards import Change, Event, Limits, affordable, spent
from rankadapt.errors import Problem
from rankadapt.policies.base import Ends, Match, Policy
from rankadapt.policies.fixed_size import module_worth


def grow(worth: Tensor, room: Tensor, cost: Tensor, k: int, delta_r: int, left: int, cap: bool) -> Tensor:
    """The ``k`` modules worth most grow by ``delta_r`` each, best first; one that is full, or whose next
    direction no longer fits, is passed over.

    Args:
        worth: (M,) float, ties by module. room: (M,) int, free places. cost: (M,) int64.
        left: of the budget. cap: never spend more; the last to grow gets what is left.

    Returns:
        (M,) int64, directions born in each module.
    """
    order = worth.argsort(descending=True, stable=True)
    fits = room > 0 if not cap else (room > 0) & (cost <= left)
    chosen = order[fits[order]][:k]
    born = chosen.repeat_interleave(room[chosen].clamp(max=delta_r))
    if cap:
        born = born[affordable(cost[born], left)]
    return torch.bincount(born, minlength=len(worth))


@dataclass(kw_only=True)
class Growth(Policy):
    """Base of the policies that grow up to the budget.

    They end with at most the budget: what is left when the events run out is not spent, as in the papers.

    Attributes:
        delta_r: by how much a module grows; None for half the reference rank (8 -> 4, 6 -> 3, 4 -> 2, 2 -> 1,
            as IncreLoRA's code).
        start_rank: of every module.
        cap: never above the budget: the last module to grow gets what is left. False as in the official codes
            of both papers, which may end above it by up to ``delta_r`` for each module grown last.
    """

    prunes: ClassVar[bool] = False
    counts_parameters: ClassVar[bool] = True
    delta_r: Annotated[int, Gt(0)] | None = None
    start_rank: Annotated[int, Gt(0)] = 1
    cap: bool = True

    @abstractmethod
    def choose(self, left: int, event: Event) -> int:
        """How many modules grow when ``left`` directions (at least 1) of the budget are left."""

    def __call__(self, scores: Tensor, live: Tensor, limits: Limits, event: Event) -> Change:
        cost = limits.costs()
        M, every = len(cost), int(cost.sum())
        left = event.budget - spent(live, cost)
        if left <= 0:
            return Change.none(live)
        k = min(max(self.choose(max(left * M // every, 1), event), 1), M)
        # In double a mean of equal scores is that score, so that modules tie whatever their ranks.
        worth = module_worth(scores.double(), live, "mean")
        room, delta_r = limits.maximum - live.sum(1), self.step(event.budget / every)
        return Change(torch.zeros_like(live), grow(worth, room, cost, k, delta_r, left, self.cap))

    def step(self, reference: float) -> int:
        """By how much a module grows, for the ``reference`` rank of the budget."""
        return self.delta_r or max(int(reference) // 2, 1)

    def span(self, budget: int, modules: int, events: int, match: Match) -> tuple[int, int]:
        return self.start_rank * modules, budget

    def ends(self) -> Ends:
        return "at_most" if self.cap else "anywhere"

    def reach(self, rank: int, events: int, modules: int, budget: int = 0) -> int:
        """All that can be spent on one module; less if ``delta_r`` at every event comes to less."""
        delta_r = self.step(budget / modules)
        spare = max(budget - self.start_rank * modules, 0)
        return rank + min(events * delta_r, spare if self.cap else spare + delta_r - 1)

    def problems(self, budget: int, modules: int | None = None) -> list[Problem]:
        if modules is None or self.start_rank * modules <= budget:
            return []
        reason = f"starts above the budget of {budget} directions in {modules} modules, and only grows"
        return [Problem("policy.start_rank", self.start_rank, reason, f"at most {budget // modules}")]
