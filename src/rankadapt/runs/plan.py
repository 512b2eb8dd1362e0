"""A run's arithmetic, before anything is trained: steps, events, ranks, slots. Wrong sums stop here."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rankadapt.adapters import spread
from rankadapt.control import Timetable
from rankadapt.errors import ConfigError, Problem
from rankadapt.training.config import RunConfig


@dataclass(frozen=True)
class Horizon:
    """``steps`` optimizer steps, ``steps_per_epoch`` of them per epoch; ``timetable`` of the rank events,
    None if ranks never move."""

    steps: int
    steps_per_epoch: int
    timetable: Timetable | None

    @property
    def events(self) -> int:
        """How many rank events there are."""
        return 0 if self.timetable is None else len(self.timetable.events())


def plan_horizon(config: RunConfig, train_examples: int) -> Horizon:
    """How long the run is, and when its ranks move.

    Raises:
        ConfigError: the schedule would never fire.
    """
    per_epoch = math.ceil(train_examples / config.task.batch_size)
    steps = config.trainer.max_steps or math.ceil((config.trainer.max_epochs or 0) * per_epoch)
    moves = config.policy.moves_ranks and config.schedule is not None
    return Horizon(steps, per_epoch, config.schedule.over(steps) if moves and config.schedule else None)


@dataclass(frozen=True)
class RankPlan:
    """``initial`` ranks of the modules in model order, and ``slots``, the room R in each of them."""

    initial: list[int]
    slots: int

    @property
    def budget(self) -> int:
        """Live directions at the start."""
        return sum(self.initial)


def plan_ranks(config: RunConfig, modules: int, horizon: Horizon) -> RankPlan:
    """Where ranks start and how far they can go.

    Raises:
        ConfigError: the budget does not fit the policy or the bounds.
    """
    budget, policy = config.budget, config.policy
    growth = policy.growth(horizon.events)
    start = budget.rank * modules - (growth if budget.match == "final" else 0)
    floor = budget.min_rank * modules
    problems = policy.problems(start) if start >= floor else []
    for when, directions in (("starts", start), ("ends", start + growth)):
        if directions < floor:
            reason = (
                f"with {horizon.events} events the run {when} with {directions} directions, below {floor}"
            )
            problems.append(Problem("budget", f"rank {budget.rank}", f"{reason} (min_rank x modules)"))
    if problems:
        raise ConfigError(problems)
    initial = spread(start, modules)
    slots = budget.max_rank or policy.reach(max(initial), horizon.events, modules)
    if max(initial) > slots:
        raise ConfigError(Problem("budget.max_rank", slots, f"modules start with rank {max(initial)}"))
    return RankPlan(initial, slots)
