"""Word problems (GSM8K) and competition problems (MATH), answered step by step, scored by the last answer.

Sources: Cobbe et al. 2021, Hendrycks et al. 2021; trained on MetaMath's rewritten questions (Yu et al. 2024).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, MinLen

from rankadapt.evaluation.latex import math_accuracy
from rankadapt.evaluation.numbers import number_accuracy
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

    def score(
        self, split: str, answers: Sequence[Sequence[str]], asked: Sequence[Exchange]
    ) -> dict[str, float]:
        """``accuracy``, and ``unanswered``: how many named no answer."""
        problems, texts = self.evaluation[split], [a[0] for a in answers]
        right = [str(exchange.row[problems.answer]) for exchange in asked]
        if problems.compare == "latex":
            return math_accuracy(texts, right)
        return number_accuracy(texts, right, problems.tolerance)
