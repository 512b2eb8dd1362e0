"""When ranks may change: ``t_i`` steps of warm-up, then every ``delta_t`` steps, none in the last ``t_f``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt

from rankadapt.errors import ConfigError, Problem

Steps = Annotated[int, Ge(0)] | Annotated[float, Ge(0)]


@dataclass(kw_only=True)
class Schedule:
    """Optimizer steps, counted from 1; or shares of the whole run, where a value is a fraction below 1.

    Attributes:
        t_i: ranks are fixed for this long at the start.
        delta_t: steps between two events.
        t_f: ranks are fixed for this long at the end.
    """

    t_i: Steps
    delta_t: Annotated[int, Gt(0)] | Annotated[float, Gt(0)]
    t_f: Steps

    def over(self, total: int) -> Timetable:
        """The schedule of a run of ``total`` optimizer steps.

        Raises:
            ConfigError: it would never fire.
        """
        table = Timetable(
            t_i=_steps(self.t_i, total),
            delta_t=max(_steps(self.delta_t, total), 1),
            t_f=_steps(self.t_f, total),
            total=total,
        )
        if not table.events():
            raise ConfigError(_never(table))
        return table


@dataclass(frozen=True)
class Timetable:
    """A schedule in steps, laid over a run of ``total`` optimizer steps."""

    t_i: int
    delta_t: int
    t_f: int
    total: int

    def events(self) -> range:
        """The steps after which ranks change: ``t_i < t <= total - t_f``, every ``delta_t`` from ``t_i``."""
        return range(self.t_i + self.delta_t, self.total - self.t_f + 1, self.delta_t)

    def fires(self, step: int) -> bool:
        """Whether ranks change after optimizer step ``step``."""
        return step in self.events()


def _steps(value: int | float, total: int) -> int:
    return round(value * total) if isinstance(value, float) and value < 1 else int(value)


def _never(table: Timetable) -> Problem:
    first, last = table.t_i, table.total - table.t_f
    if last <= first:
        reason = f"t_i + t_f = {table.t_i + table.t_f} leaves no step of {table.total} for ranks to change"
        remedy = (
            "lower schedule.t_i and schedule.t_f, or train longer (trainer.max_steps, trainer.max_epochs)"
        )
        return Problem("schedule", {"t_i": table.t_i, "t_f": table.t_f}, reason, remedy)
    reason = f"no event falls into the {last - first} steps between {first} (t_i) and {last} (total - t_f)"
    return Problem("schedule.delta_t", table.delta_t, reason, f"choose schedule.delta_t <= {last - first}")
