"""The nine GLUE tasks, through one class (Wang et al. 2019, https://gluebenchmark.com).

Columns, splits and label order are those of ``nyu-mll/glue`` on the hub. The test splits have no
public labels: results are of the validation splits, as in the papers that this library follows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Len, MinLen

from rankadapt.errors import DataError, Problem
from rankadapt.rows import Rows
from rankadapt.sources import Sources
from rankadapt.tasks.text import Labelled, TextTask
from rankadapt.tasks.tokens import SKIP, text_of

Score = Annotated[list[float], Len(2, 2)]


@dataclass(kw_only=True)
class Glue(TextTask):
    """A task of GLUE, or any other data set on the hub with the same shape.

    Args:
        dataset: the hub's repository.
        config: its configuration, e.g. ``rte``.
        text: the columns with the text, or with the first and the second text.
        label: the column with the class number, or with the target.
        train_split: the split that is trained on.
        evaluation: name in the results -> split; the first one chooses the best step.
        target_range: the least and the largest target of a regression; ``None`` for any.
    """

    dataset: str = "nyu-mll/glue"
    config: str
    text: Annotated[list[str], Len(1, 2)]
    label: str = "label"
    train_split: str = "train"
    evaluation: Annotated[dict[str, str], MinLen(1)] = field(
        default_factory=lambda: {"validation": "validation"}
    )
    target_range: Score | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if "train" in self.evaluation:
            raise ValueError("evaluation: the name 'train' is taken by the training split")

    def train_rows(self, sources: Sources) -> Rows:
        return sources.dataset(self.dataset, self.config, self.train_split)

    def evaluation_rows(self, sources: Sources) -> dict[str, Rows]:
        return {
            name: sources.dataset(self.dataset, self.config, split) for name, split in self.evaluation.items()
        }

    def check(self, rows: Rows, split: str) -> None:
        rows.refuse_unusable([*self.text, self.label], "correct task.text or task.label")
        names = rows.class_names(self.label)
        if names is not None and names != self.labels:
            reason = f"the data's classes are {names}, in this order"
            raise DataError(Problem(f"task.labels ({rows.where})", self.labels, reason))

    def parse(self, row: Mapping[str, Any], place: str, split: str) -> Labelled:
        texts = tuple(text_of(row, column, place) for column in self.text)
        return Labelled(texts, self._target(row[self.label], f"{place}, column {self.label}"))

    def _target(self, value: Any, where: str) -> float:
        """A class number (int), or the target of a regression (float)."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DataError(Problem(where, value, "is not a number", SKIP))
        low, high = self._allowed()
        whole = self.labels is None or value == round(value) if math.isfinite(value) else False
        if not (whole and low <= value <= high):
            kind = "classes" if self.labels is not None else "targets"
            remedy = "GLUE's test splits have no labels (-1)" if value == -1 else SKIP
            raise DataError(Problem(where, value, f"{kind} are {low:g} to {high:g}", remedy))
        return int(value) if self.labels is not None else float(value)

    def _allowed(self) -> tuple[float, float]:
        if self.labels is not None:
            return 0, len(self.labels) - 1
        low, high = self.target_range or (-math.inf, math.inf)
        return low, high
