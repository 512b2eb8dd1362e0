"""What the policies that move ``k`` directions per event share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Gt
from torch import Tensor

from rankadapt.errors import Problem
from rankadapt.policies.base import Policy

Aggregator = Literal["min", "mean"]


@dataclass(kw_only=True)
class FixedSize(Policy):
    """Base of the policies that move ``k`` directions per event.

    Attributes:
        k: directions moved per event (HeBiRA Table 19: 12).
        aggregator: a module's worth is the ``min`` (HeBiRA Eq. 9) or the ``mean`` (Table 18) of the scores of
            its remaining directions.
    """

    k: Annotated[int, Gt(0)] = 12
    aggregator: Aggregator = "min"

    def problems(self, budget: int, modules: int | None = None) -> list[Problem]:
        return too_many(self.k, budget)


def too_many(k: int, budget: int) -> list[Problem]:
    """The problem of moving all ``budget`` directions at once, if ``k`` is that large."""
    if k < budget:
        return []
    reason = f"moves as many directions per event as there are ({budget})"
    return [Problem("policy.k", k, reason, f"choose policy.k well below {budget}")]


def most_dealt(k: int, modules: int) -> int:
    """The most of ``k`` directions that one of ``modules`` modules can be dealt while none is full."""
    return -(-k // modules)


def module_worth(scores: Tensor, kept: Tensor, aggregator: Aggregator) -> Tensor:
    """(M,) float: the worth of each module from the scores (M, R) of the directions that it keeps (HeBiRA
    Eq. 9). A module that keeps none is worth least."""
    if aggregator == "min":
        worth = torch.where(kept, scores, torch.inf).amin(1)
    else:
        worth = torch.where(kept, scores, 0).sum(1) / kept.sum(1)
    return torch.where(kept.any(1), worth, -torch.inf)
