"""Errors for people: where, what was found, why it cannot be, and what to do.

Every error that a user can cause derives from :class:`RankAdaptError`; the command line prints its
message without a traceback. Anything else that escapes is a defect of this library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing wrong: ``path`` (a configuration key, a file, a module), the ``value`` found there,
    the ``reason`` it cannot be used, and the ``remedy``."""

    path: str
    value: object
    reason: str
    remedy: str = ""

    def __str__(self) -> str:
        shown = "" if self.value is None else f" = {self.value!r}"
        remedy = f"\n      -> {self.remedy}" if self.remedy else ""
        return f"{self.path}{shown}: {self.reason}{remedy}"


class RankAdaptError(Exception):
    """Base of every error that a user can cause. Carries all problems found, not only the first."""

    title = "rankadapt cannot go on"

    def __init__(self, problems: Problem | Sequence[Problem]):
        self.problems = [problems] if isinstance(problems, Problem) else list(problems)
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"{self.title}:\n{lines}")


class ConfigError(RankAdaptError):
    """The composed configuration cannot be run."""

    title = "The configuration cannot be used"


class DataError(RankAdaptError):
    """A data file is missing, damaged, or holds something that its task cannot read."""

    title = "The data cannot be used"


class ModelError(RankAdaptError):
    """The base model cannot be found, or does not have the modules that were asked for."""

    title = "The model cannot be used"


class CheckpointError(RankAdaptError):
    """A checkpoint is damaged, or belongs to another run."""

    title = "The checkpoint cannot be used"


class TrainingError(RankAdaptError):
    """Training ran into numbers that it must not go on with."""

    title = "Training was stopped"


class EvaluationError(RankAdaptError):
    """What was to be evaluated cannot be, here."""

    title = "The evaluation cannot be made"


class BusyError(RankAdaptError):
    """Another process is at it."""

    title = "This run is taken"
