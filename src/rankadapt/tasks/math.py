"""Word problems (GSM8K) and competition problems (MATH), answered step by step, scored by the last answer.

Sources: Cobbe et al. 2021, Hendrycks et al. 2021; trained on MetaMath's rewritten questions (Yu et al. 2024).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, MinLen

from rankadapt.evaluation.latex import math_verdicts
from rankadapt.evaluation.numbers import number_verdicts
from rankadapt.evaluation.verdicts import Verdict, accuracy
from rankadapt.tasks.generation import Exchange, TextSplit
from rankadapt.tasks.instruction import Instruction


@dataclass(kw_only=True)
class Problems(TextSplit):
    """Problems to be solved.

    Attributes:
        answer: the column with the right answer, bare or at the end of a worked solution.
        compare: as ``number``, by value, or as ``latex``, by normalised text and value.
        tolerance: of numbers.
    """

    answer: str = "answer"
    compare: Literal["number", "latex"] = "number"
    tolerance: Annotated[float, Ge(0)] = 0.0


@dataclass(kw_only=True)
class Mathematics(Instruction):
    """Mathematics: ``accuracy`` in percent."""

    evaluation: Annotated[Mapping[str, Problems], MinLen(1)]

    def scored_columns(self, split: str) -> list[str]:
        return [] if split == "train" else [self.evaluation[split].answer]

    def reference(self, split: str, asked: Exchange) -> str:
        return str(asked.row[self.evaluation[split].answer])

    def verdicts(
        self, split: str, answers: Sequence[Sequence[str]], asked: Sequence[Exchange]
    ) -> list[dict[str, Any]]:
        """The ``answer`` that each names, and whether it is ``right``."""
        problems, texts = self.evaluation[split], [a[0] for a in answers]
        right = [self.reference(split, exchange) for exchange in asked]
        if problems.compare == "latex":
            found = math_verdicts(texts, right)
        else:
            found = number_verdicts(texts, right, problems.tolerance)
        return [verdict._asdict() for verdict in found]

    def metrics(self, verdicts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """``accuracy``, and ``unanswered``: how many named no answer."""
        return accuracy([Verdict(**verdict) for verdict in verdicts])
