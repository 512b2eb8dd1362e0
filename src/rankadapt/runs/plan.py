"""A run's arithmetic, before anything is trained: steps, events, ranks, slots. Wrong sums stop here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
    if not config.policy.moves_ranks or config.schedule is None:
        return Horizon(steps, per_epoch, None)
    return Horizon(steps, per_epoch, config.schedule.over(steps, config.policy.closes))


@dataclass(frozen=True)
class RankPlan:
    """``initial`` ranks of the modules in model order, ``slots``, the room R in each of them, and ``final``,
    the directions that the run ends with (the most, where a policy may stop short)."""

    initial: list[int]
    slots: int
    final: int

    @property
    def budget(self) -> int:
        """Live directions at the start."""
        return sum(self.initial)


def plan_ranks(config: RunConfig, blocks: Sequence[int], horizon: Horizon) -> RankPlan:
    """Where ranks start and how far they can go, for modules in these transformer ``blocks``.

    Raises:
        ConfigError: the budget does not fit the policy or the bounds.
    """
    budget, policy, modules = config.budget, config.policy, len(blocks)
    reference = budget.rank * modules
    start, end = policy.span(reference, modules, horizon.events, budget.match)
    floor = budget.min_rank * modules
    problems = policy.problems(reference, modules) if start >= floor else []
    for when, directions in (("starts", start), ("ends", end)):
        if directions < floor:
            reason = (
                f"with {horizon.events} events the run {when} with {directions} directions, below {floor}"
            )
            problems.append(Problem("budget", f"rank {budget.rank}", f"{reason} (min_rank x modules)"))
    if problems:
        raise ConfigError(problems)
    initial = policy.allocate(start, blocks)
    slots = budget.max_rank or policy.reach(max(initial), horizon.events, modules, reference)
    if max(initial) > slots:
        raise ConfigError(Problem("budget.max_rank", slots, f"modules start with rank {max(initial)}"))
    return RankPlan(initial, slots, end)
