"""What a policy is: a pure function from scores and live slots to a change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor

from rankadapt.boards import Change, Event, Limits
from rankadapt.errors import Problem

Match = Literal["initial", "final"]
Storage = Literal["fresh", "aside", "in_place"]
"""What becomes of a slot that dies, and where a direction that is born comes from.

- ``fresh``: a dead slot is zero, optimizer state too; a new direction is drawn anew.
- ``aside``: all R slots are drawn at injection; the live ones are a prefix; what is cut off is set aside with
  its weights and comes back with them (La-LoRA). The ``pruned`` slots of a change are then the last live ones.
- ``in_place``: every slot goes on training where it stands; at an event the cores of the dead ones are set
  to zero, from where they may regrow until the next (AdaLoRA).
"""


class Policy(ABC):
    """Decides rank changes. Equal inputs give equal changes; ties go by module, then slot."""

    moves_ranks: ClassVar[bool] = True
    """False for a policy that never changes a rank: it needs no scorer and no schedule."""
    storage: ClassVar[Storage] = "fresh"
    closes: ClassVar[bool] = False
    """Whether there is a last event right after step ``total - t_f``, whatever ``delta_t`` (AdaLoRA)."""
    counts_parameters: ClassVar[bool] = False
    """Whether it can keep a budget of parameters (:attr:`Limits.cost` other than 1)."""

    @abstractmethod
    def __call__(self, scores: Tensor, live: Tensor, limits: Limits, event: Event) -> Change:
        """The change at ``event``.

        Args:
            scores: (M, R) float32, finite on live slots. live: (M, R) bool.
        """

    def growth(self, events: int) -> int:
        """By how many directions the budget grows over ``events`` events (negative: shrinks)."""
        return 0

    def span(self, budget: int, modules: int, events: int, match: Match) -> tuple[int, int]:
        """The directions at the start and at the end of a run.

        Args:
            budget: the reference rank times the number of modules.
            match: whether a policy that only grows or only shrinks has the budget at the start or the end.
        """
        growth = self.growth(events)
        return (budget - growth, budget) if match == "final" else (budget, budget + growth)

    def allocate(self, total: int, blocks: Sequence[int]) -> list[int]:
        """The initial ranks of modules in these transformer ``blocks``, ``total`` in all: by default as even
        as whole numbers allow, the first modules get what is left."""
        each, left = divmod(total, len(blocks))
        return [each + (index < left) for index in range(len(blocks))]

    def window(self, step: int, slots: int, seed: int) -> int | None:
        """How many leading slots take part in training step ``step`` (from 1), in every module; None for all
        that live. A function of its arguments alone, so that every process does the same."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What decides later changes besides scores and ranks: tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""

    def reach(self, rank: int, events: int, modules: int) -> int:
        """The highest rank that a module of ``rank`` can come to over ``events`` events."""
        return rank

    def problems(self, budget: int) -> list[Problem]:
        """What is wrong with the options for a budget of that many directions."""
        return []
