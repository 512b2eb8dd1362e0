"""The data that scorers and policies exchange: boards, changes and limits.

A *board* is an ``(M, R)`` tensor: ``M`` adapted modules in model order, ``R`` slots each. Scores are a
float32 board, the live mask is a boolean board. Nothing here knows what a model is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Storage = Literal["fresh", "aside", "in_place"]
"""What becomes of a slot that dies, and where a direction that is born comes from.

- ``fresh``: a dead slot is zero, optimizer state too; a new direction is drawn anew.
- ``aside``: all R slots are drawn at injection; the live ones are a prefix; what is cut off is set aside
  with its weights and comes back with them (La-LoRA). A change then prunes the last live slots.
- ``in_place``: every slot goes on training where it stands; at an event the cores of the dead ones are set
  to zero, from where they may regrow until the next (AdaLoRA).
"""


@dataclass(frozen=True)
class Limits:
    """What a policy must know of the modules besides their scores.

    Attributes:
        minimum: (M,) int64, no module falls below it.
        maximum: (M,) int64, no module rises above it; at most R, and at most min(d_in, d_out).
        cost: (M,) int64, what a direction of each module takes from the budget: 1 where the budget counts
            directions, ``d_in + d_out + 1`` or the like where it counts parameters. None for 1.
        block: (M,) int64, the transformer block of each module, from 0. None for a block of its own each.
    """

    minimum: Tensor
    maximum: Tensor
    cost: Tensor | None = None
    block: Tensor | None = None

    def costs(self) -> Tensor:
        """(M,) int64: ``cost``, 1 where it is not given."""
        return torch.ones_like(self.minimum) if self.cost is None else self.cost

    def blocks(self) -> Tensor:
        """(M,) int64: ``block``, each module its own where it is not given."""
        if self.block is None:
            return torch.arange(len(self.minimum), device=self.minimum.device)
        return self.block


@dataclass(frozen=True)
class Event:
    """Where in training a rank change happens, and what there is to spend.

    Attributes:
        index: from 0. count: of all events. step: the optimizer step that was just taken, from 1.
        total: optimizer steps of the run.
        first, last: ranks may change after steps ``first < step <= last`` (``t_i`` and ``total - t_f``).
        budget: what the run is to end with, in the unit of :attr:`Limits.cost`.
        sizes: (M, R) float, what the scorer tells of each module besides its directions' scores, at every
            rank from 1 that it may come to (:meth:`Scorer.sizes`), or None.
    """

    index: int
    count: int
    step: int
    total: int
    first: int = 0
    last: int = 0
    budget: int = 0
    sizes: Tensor | None = None


@dataclass(frozen=True)
class Change:
    """What a policy decides at one event.

    Attributes:
        pruned: (M, R) bool, the live directions to remove.
        born: (M,) int64, how many new directions each module receives.
        revived: (M, R) bool, dead directions that live again where they are; only for a policy whose
            ``storage`` is ``in_place``.
    """

    pruned: Tensor
    born: Tensor
    revived: Tensor | None = None

    @classmethod
    def none(cls, live: Tensor) -> Change:
        """The change that changes nothing, for a live board (M, R)."""
        return cls(torch.zeros_like(live), torch.zeros(len(live), dtype=torch.long, device=live.device))

    def ranks_after(self, live: Tensor) -> Tensor:
        """(M,) int64: the rank of every module once the change is applied to ``live`` (M, R)."""
        ranks = (live & ~self.pruned).sum(1) + self.born
        return ranks if self.revived is None else ranks + self.revived.sum(1)
