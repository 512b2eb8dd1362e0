"""Ranks that never move: plain LoRA and every static baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rankadapt.boards import Change, Event, Limits
from rankadapt.policies.base import Policy


@dataclass(kw_only=True)
class Static(Policy):
    """Never changes a rank."""

    moves_ranks: ClassVar[bool] = False

    def __call__(self, scores: Tensor, live: Tensor, limits: Limits, event: Event) -> Change:
        return Change.none(live)
