"""La-LoRA's budget that grows with the adapters' value, shared out by contribution (Gu et al., Eq. 5-10).

| symbol | here |
|---|---|
| i, L | a transformer block (``limits.blocks()``); all of its modules share one rank |
| r | the reference rank: ``event.budget`` over the modules, at most the blocks' ``limits.maximum`` |
| s_i (Eq. 7) | mean over the block of ``event.sizes`` (M, R) at its rank, which the scorer computes |
| IR_i (Eq. 6) | ``growth_rate`` |
| DCDPB (Eq. 5), in ranks of blocks | ``self.total``, a real number |
| c_i (Eq. 9, 10) | mean over the block of the live ``scores`` (M, R), all of which the scorer sets to c_i |
| r_i (Eq. 8) | ``block_ranks`` |

What the paper leaves open: ranks are made whole by largest remainder, ties to the lower block, and sum to the
whole part of DCDPB; a block that would fall below rank 1 is raised to it, at the cost of the others in
proportion; what a block cannot take above r is not given to others. The last is what makes its Table 10 an
ablation: a total of r L from the start, shared out to the last unit, would be plain LoRA. At the first event
there is no growth yet, so the total is L. If the scorer tells no sizes, c_i serves for s_i.

Eq. 6 as printed compares s_i over two steps, and with Eq. 7 each at the rank of its own step: a block's value
falls because its rank rose, and the budget with it. Of Eq. 6 the text says that it is the change of a norm by
the increment; ``compare: same_rank`` takes it so, both values at the rank that the step was taken with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import floor
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Gt
from torch import Tensor

from rankadapt.boards import Change, Event, Limits, Storage
from rankadapt.policies.apportion import raised, whole
from rankadapt.policies.base import Ends, Match, Policy
from rankadapt.policies.blocks import at_rank, by_block, resize
from rankadapt.policies.fixed_size import module_worth


def growth_rate(values: list[float], before: list[float]) -> float:
    """Mean of ``IR_i = (s_i - s_i') / s_i'`` (Eq. 5, 6); a block without value does not grow."""
    rates = [(s - old) / old if old > 0 else 0.0 for s, old in zip(values, before, strict=True)]
    return sum(rates) / len(rates)


def block_ranks(contributions: list[float], total: float, least: int, most: list[int]) -> list[int]:
    """``softmax(c) DCDPB`` (Eq. 8) in whole numbers, each between ``least`` and the block's ``most``.

    Args:
        total: DCDPB, at least ``least`` for each block; the ranks never sum to more.
    """
    top = max(contributions)
    shares = [max(math.exp(c - top), 1e-300) for c in contributions]
    ranks = whole(raised(shares, total, least), floor(total))
    return [min(rank, bound) for rank, bound in zip(ranks, most, strict=True)]


@dataclass(kw_only=True)
class ContributionBudget(Policy):
    """Shares a growing number of ranks out to the blocks, at every event anew.

    Attributes:
        gamma: γ, amplifies the growth of the budget (Fig. 3, which gives no value for the other runs).
        growing: False for a budget of r L from the first event on (Table 10, "w/o CAR").
        compare: a block's value with that of the event before ``as_written``, or at the ``same_rank``.
    """

    storage: ClassVar[Storage] = "aside"
    gamma: Annotated[float, Gt(0)] = 1.0
    growing: bool = True
    compare: Literal["as_written", "same_rank"] = "as_written"

    def __post_init__(self) -> None:
        self.total: float | None = None
        self.values: list[float] | None = None

    def __call__(self, scores: Tensor, live: Tensor, limits: Limits, event: Event) -> Change:
        numbers, block = limits.blocks().unique(return_inverse=True)
        L, least = len(numbers), max(int(limits.minimum.max()), 1)
        c = by_block(module_worth(scores.double(), live, "mean"), block, L)
        values = c if event.sizes is None else by_block(at_rank(event.sizes, live.sum(1)), block, L)
        bound = limits.maximum.clamp(max=max(event.budget // len(live), least))
        most = bound.new_zeros(L).scatter_reduce(0, block, bound, "amin", include_self=False).tolist()
        total = self._grown(values, least * L, sum(most))
        ranks = torch.tensor(block_ranks(c, total, least, most), device=live.device)[block]
        if self.compare == "same_rank" and event.sizes is not None:
            values = by_block(at_rank(event.sizes, ranks), block, L)
        self.values = values
        return resize(live, ranks)

    def _grown(self, values: list[float], least: int, most: int) -> float:
        """DCDPB of this event (Eq. 5), between ``least`` and ``most``."""
        if not self.growing:
            self.total = float(most)
        elif self.total is None or self.values is None:
            self.total = float(least)
        else:
            grown = self.total * (1 + self.gamma * growth_rate(values, self.values))
            self.total = min(max(grown, float(least)), float(most))
        return self.total

    def span(self, budget: int, modules: int, events: int, match: Match) -> tuple[int, int]:
        return modules, budget

    def ends(self) -> Ends:
        return "at_most"

    def reach(self, rank: int, events: int, modules: int, budget: int = 0) -> int:
        return max(budget // modules, rank)

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total, "values": self.values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.total, self.values = state["total"], state["values"]
