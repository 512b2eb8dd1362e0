"""Questions with options, in the format of LLM-Adapters (Hu et al. 2023), answered in words.

The eight sets (BoolQ, PIQA, SIQA, HellaSwag, WinoGrande, ARC-e, ARC-c, OBQA) are trained on jointly and
tested apart; the tables' last column is the mean of the eight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import MinLen

from rankadapt.evaluation.choices import OPTIONS, choice_verdicts
from rankadapt.evaluation.verdicts import Verdict, accuracy
from rankadapt.tasks.generation import Exchange, TextSplit
from rankadapt.tasks.instruction import Instruction


@dataclass(kw_only=True)
class Choices(TextSplit):
    """Questions with options.

    Attributes:
        options: which names the options have: a key of :data:`rankadapt.evaluation.choices.OPTIONS`.
        answer: the column with the right option's name.
    """

    options: str
    answer: str = "answer"

    def __post_init__(self) -> None:
        if self.options not in OPTIONS:
            raise ValueError(f"options = {self.options!r}: known are {', '.join(OPTIONS)}")


@dataclass(kw_only=True)
class Commonsense(Instruction):
    """Commonsense: ``accuracy`` in percent."""

    evaluation: Annotated[Mapping[str, Choices], MinLen(1)]

    def scored_columns(self, split: str) -> list[str]:
        return [] if split == "train" else [self.evaluation[split].answer]

    def reference(self, split: str, asked: Exchange) -> str:
        return str(asked.row[self.evaluation[split].answer])

    def verdicts(
        self, split: str, answers: Sequence[Sequence[str]], asked: Sequence[Exchange]
    ) -> list[dict[str, Any]]:
        """The ``answer`` that each names, and whether it is ``right``."""
        right = [self.reference(split, exchange) for exchange in asked]
        found = choice_verdicts([a[0] for a in answers], right, self.evaluation[split].options)
        return [verdict._asdict() for verdict in found]

    def metrics(self, verdicts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """``accuracy``, and ``unanswered``: how many named no option."""
        return accuracy([Verdict(**verdict) for verdict in verdicts])
