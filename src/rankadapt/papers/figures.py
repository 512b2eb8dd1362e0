"""Reading one figure of a run's record, in the unit in which a paper prints it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Record = Mapping[str, Any]
"""The content of a ``results.json``."""


@dataclass(frozen=True)
class Figure:
    """``name`` of a metric or of one of :data:`COSTS`, and how many ``times`` it the printed one is."""

    name: str
    times: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Figure:
        """``accuracy x 100``."""
        name, _, times = text.partition(" x ")
        return cls(name, float(times or 1))

    def read(self, record: Record, stage: str) -> float | None:
        """Its value in ``record``; None where it has none.

        Args:
            stage: which evaluation: ``best`` (the step with the best primary metric) or ``last``.
        """
        if self.name in COSTS:
            value = COSTS[self.name](record)
        else:
            value = (record["metrics"].get(stage) or {}).get(self.name)
        return None if value is None else self.times * value


def _seconds_per_epoch(record: Record) -> float | None:
    epochs = record["config"]["trainer"]["max_epochs"]
    seconds = record["cost"]["train_seconds"]
    return seconds / epochs if epochs and record["config"]["trainer"]["max_steps"] is None else None


def _peak_memory(record: Record) -> float | None:
    peak = record["cost"]["peak_memory"]
    return peak["device_bytes"] or peak["host_bytes"]


COSTS: dict[str, Callable[[Record], float | None]] = {
    "train_seconds": lambda record: record["cost"]["train_seconds"],
    "seconds_per_epoch": _seconds_per_epoch,
    "peak_memory": _peak_memory,
}
"""Name -> reader: seconds, and bytes on the device (of the host, where there is none)."""
