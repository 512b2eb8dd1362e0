"""The embedded demonstration task: textual entailment on generated sentences, without a download.

Like GLUE's RTE in form, but small and clean: a minute of training shows whether a method learns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, Any

from annotated_types import Gt, MinLen

from rankadapt.evaluation.classification import MetricName
from rankadapt.rows import Rows, TableRows
from rankadapt.sources import Sources
from rankadapt.tasks.pairs import Pair, pairs
from rankadapt.tasks.text import Labelled, TextTask

LABELS = ("entailment", "not_entailment")


@dataclass(kw_only=True)
class Entailment(TextTask):
    """Does the second sentence follow from the first? Both labels are equally frequent.

    Args:
        train_size: pairs to train on.
        eval_size: pairs to evaluate on, none of which is among the training pairs.
        data_seed: draws the pairs; not the run's seed, so that runs share one data set.
    """

    labels: Annotated[list[str], MinLen(2)] | None = field(default_factory=lambda: list(LABELS))
    metrics: Annotated[list[MetricName], MinLen(1)] = field(default_factory=lambda: ["accuracy"])
    train_size: Annotated[int, Gt(0)] = 4000
    eval_size: Annotated[int, Gt(0)] = 400
    data_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels != list(LABELS):
            raise ValueError(f"labels = {self.labels}: the generated task has {list(LABELS)}")

    def train_rows(self, sources: Sources) -> Rows:
        return _rows(self._pairs()[self.eval_size :], "training pairs")

    def evaluation_rows(self, sources: Sources) -> dict[str, Rows]:
        return {"validation": _rows(self._pairs()[: self.eval_size], "evaluation pairs")}

    def check(self, rows: Rows, split: str) -> None:
        """What is generated is as it should be."""

    def parse(self, row: Mapping[str, Any], place: str, split: str) -> Labelled:
        return Labelled((row["premise"], row["hypothesis"]), row["label"])

    def _pairs(self) -> list[Pair]:
        return list(islice(pairs(self.data_seed), self.eval_size + self.train_size))


def _rows(chosen: Sequence[Pair], what: str) -> Rows:
    import pyarrow as pa

    labels = [LABELS.index("entailment" if pair.entails else "not_entailment") for pair in chosen]
    columns = {
        "premise": [pair.premise for pair in chosen],
        "hypothesis": [pair.hypothesis for pair in chosen],
    }
    return TableRows(pa.table({**columns, "label": labels}), f"generated {what}")
