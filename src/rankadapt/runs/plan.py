"""A run's arithmetic, before anything is trained: steps, events, ranks, slots. Wrong sums stop here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rankadapt.control import Timetable
from rankadapt.errors import ConfigError, Problem
from rankadapt.training.config import RunConfig

BYTES_TRAINED = 16
"""Of memory per trained parameter: a float32 weight, its gradient, and AdamW's two moments."""


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


def plan_ranks(
    config: RunConfig,
    blocks: Sequence[int],
    horizon: Horizon,
    sizes: Sequence[tuple[int, int]] = (),
) -> RankPlan:
    """Where ranks start and how far they can go, for modules in these transformer ``blocks``.

    Args:
        sizes: (d_in, d_out) of the modules, where they are known: no module needs more slots than the largest
            has room for, and where the budget counts parameters, what one dear direction leaves may become
            several cheap ones.

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
    slots = budget.max_rank or _reach(config, max(initial), horizon.events, modules, sizes)
    if min(initial) < budget.min_rank:
        reason = f"{type(policy).__name__} starts a module with rank {min(initial)}"
        raise ConfigError(Problem("budget.min_rank", budget.min_rank, reason, "lower it"))
    if max(initial) > slots:
        raise ConfigError(Problem("budget.max_rank", slots, f"modules start with rank {max(initial)}"))
    return RankPlan(initial, slots, end)


def _reach(config: RunConfig, start: int, events: int, modules: int, sizes: Sequence[tuple[int, int]]) -> int:
    slots = config.policy.reach(start, events, modules, config.budget.rank * modules)
    if not sizes:
        return slots
    costs = [sum(size) for size in sizes]
    if config.budget.unit == "parameters":
        slots = start + (slots - start) * math.ceil(max(costs) / min(costs))
    return max(min(slots, max(min(size) for size in sizes)), start)
