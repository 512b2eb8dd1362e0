"""What a policy is: a pure function from scores and live slots to a change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor

from rankadapt.boards import Change, Event, Limits, Storage
from rankadapt.errors import Problem

Match = Literal["initial", "final"]
Ends = Literal["exactly", "at_most", "anywhere"]


class Policy(ABC):
    """Decides rank changes. Equal inputs (and state, where it has one) give equal changes; ties go by module,
    then slot."""

    moves_ranks: ClassVar[bool] = True
    """False for a policy that never changes a rank: it needs no scorer and no schedule."""
    storage: ClassVar[Storage] = "fresh"
    closes: ClassVar[bool] = False
    """Whether there is a last event right after step ``total - t_f``, whatever ``delta_t`` (AdaLoRA)."""
    prunes: ClassVar[bool] = True
    """Whether it may take directions away."""
    uses_windows: ClassVar[bool] = False
    """Whether :meth:`window` is ever not None."""
    rotates: ClassVar[bool] = False
    """Whether updates are written as their singular triplets before an event (truncation by SVD)."""
    counts_parameters: ClassVar[bool] = False
    """Whether it can keep a budget of parameters (:attr:`Limits.cost` other than 1)."""
    frozen: bool = False
    """Whether only the last direction of a step's :meth:`window` learns, and those before it only take part
    (DyLoRA)."""

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
                No difference to one with a start of its own: it has the budget at the end.
        """
        growth = self.growth(events)
        return (budget - growth, budget) if match == "final" else (budget, budget + growth)

    def ends(self) -> Ends:
        """How many directions a run ends with, measured by the end of :meth:`span`."""
        return "exactly"

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

    def reach(self, rank: int, events: int, modules: int, budget: int = 0) -> int:
        """The highest rank that a module can come to.

        Args:
            rank: the highest at the start. events: of the run.
            budget: the reference rank times ``modules``, for policies whose start does not tell it.
        """
        return rank

    def problems(self, budget: int, modules: int | None = None) -> list[Problem]:
        """What is wrong with the options for a budget of that many directions, in that many modules (None:
        leave out what takes the number of modules to tell)."""
        return []
