"""The embedded demonstration task: textual entailment on generated sentences, without a download.

Like GLUE's RTE in form, but small and clean: a minute of training shows whether a method learns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated

import numpy as np
from annotated_types import Gt, MinLen

from rankadapt.sources import Sources, fingerprint_columns
from rankadapt.tasks.metrics import MetricName
from rankadapt.tasks.pairs import Pair, pairs
from rankadapt.tasks.text import RawSplit, TextTask

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

    def read_train(self, sources: Sources) -> RawSplit:
        return _split(self._pairs()[self.eval_size :])

    def read_evaluation(self, sources: Sources) -> dict[str, RawSplit]:
        return {"validation": _split(self._pairs()[: self.eval_size])}

    def _pairs(self) -> list[Pair]:
        return list(islice(pairs(self.data_seed), self.eval_size + self.train_size))


def _split(chosen: Sequence[Pair]) -> RawSplit:
    texts = [[pair.premise for pair in chosen], [pair.hypothesis for pair in chosen]]
    labels = [LABELS.index("entailment" if pair.entails else "not_entailment") for pair in chosen]
    columns: dict[str, list] = {"premise": texts[0], "hypothesis": texts[1], "label": labels}
    return RawSplit(
        texts=texts,
        labels=np.array(labels, dtype=np.int64),
        index=np.arange(len(chosen)),
        fingerprint=fingerprint_columns(columns),
    )
