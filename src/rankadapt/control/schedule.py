"""When ranks may change: ``t_i`` steps of warm-up, then every ``delta_t`` steps, none in the last ``t_f``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

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
        origin: ``delta_t`` counts from ``t_i`` (HeBiRA), or from ``zero``: events are at its multiples
            (AdaLoRA, IncreLoRA, TriAdaptLoRA). No difference where ``delta_t`` divides ``t_i``.
    """

    t_i: Steps
    delta_t: Annotated[int, Gt(0)] | Annotated[float, Gt(0)]
    t_f: Steps
    origin: Literal["t_i", "zero"] = "t_i"

    def over(self, total: int, closes: bool = False) -> Timetable:
        """The schedule of a run of ``total`` optimizer steps.

        Args:
            closes: whether there is an event after step ``total - t_f`` in any case.

        Raises:
            ConfigError: it would never fire.
        """
        table = Timetable(
            t_i=_steps(self.t_i, total),
            delta_t=max(_steps(self.delta_t, total), 1),
            t_f=_steps(self.t_f, total),
            total=total,
            origin=self.origin,
            closes=closes,
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
    origin: Literal["t_i", "zero"] = "t_i"
    closes: bool = False

    def events(self) -> Sequence[int]:
        """The steps after which ranks change: ``t_i < t <= total - t_f``."""
        return self._events

    @cached_property
    def _events(self) -> Sequence[int]:
        start = self.t_i if self.origin == "t_i" else self.t_i // self.delta_t * self.delta_t
        last = self.total - self.t_f
        regular = range(start + self.delta_t, last + 1, self.delta_t)
        if self.closes and last > self.t_i and last not in regular:
            return (*regular, last)
        return regular

    @property
    def last(self) -> int:
        """The step of the last event."""
        return self._events[-1]

    def fires(self, step: int) -> bool:
        """Whether ranks change after optimizer step ``step``."""
        return step in self._events


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
