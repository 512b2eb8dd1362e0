"""Evaluations of a run: every one of them, the best, and the last, kept apart."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Scoreboard:
    """Evaluations in order.

    Attributes:
        primary: the metric by which the best step is chosen; larger is better. On ties the earlier wins.
        entries: each ``{"step": int, <metric>: float, ...}``; the evaluation before training has step 0.
    """

    primary: str
    entries: list[dict[str, Any]] = field(default_factory=list)

    def add(self, step: int, metrics: dict[str, float]) -> bool:
        """Note an evaluation after optimizer step ``step``; True if it is the best of the trained ones."""
        self.entries = [e for e in self.entries if e["step"] != step]
        self.entries.append({"step": step, **metrics})
        return step > 0 and self.best is self.entries[-1]

    @property
    def before(self) -> dict[str, Any] | None:
        """The evaluation before the first step."""
        return next((e for e in self.entries if e["step"] == 0), None)

    @property
    def last(self) -> dict[str, Any] | None:
        """The latest evaluation after the first step."""
        trained = self._trained()
        return trained[-1] if trained else None

    @property
    def best(self) -> dict[str, Any] | None:
        """The evaluation with the highest primary metric after the first step."""
        trained = [e for e in self._trained() if not math.isnan(e[self.primary])]
        return max(trained, key=lambda e: e[self.primary], default=None)

    def _trained(self) -> list[dict[str, Any]]:
        return [e for e in self.entries if e["step"] > 0]
