"""What the policies share that start above the budget and come down to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Gt

from rankadapt.errors import Problem
from rankadapt.policies.base import Match, Policy


@dataclass(kw_only=True)
class Shrinking(Policy):
    """Base of the policies that start above the budget and come down to it.

    Attributes:
        init_rank: of every module at the start; None for ``factor`` times the reference rank, a half rounded
            up.
    """

    factor: ClassVar[float]
    """Of the reference rank, to start with."""
    init_rank: Annotated[int, Gt(0)] | None = None

    def starting_rank(self, reference: float) -> int:
        """The rank of every module at the start, for the ``reference`` rank of the budget."""
        return self.init_rank or int(self.factor * reference + 0.5)

    def span(self, budget: int, modules: int, events: int, match: Match) -> tuple[int, int]:
        return self.starting_rank(budget / modules) * modules, budget

    def problems(self, budget: int, modules: int | None = None) -> list[Problem]:
        if modules is None or self.init_rank is None or self.init_rank * modules >= budget:
            return []
        reason = f"starts below the budget of {budget} directions in {modules} modules, and only shrinks"
        return [Problem("policy.init_rank", self.init_rank, reason, f"at least {-(-budget // modules)}")]
