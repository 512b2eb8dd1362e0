"""The nine GLUE tasks, through one class (Wang et al. 2019, https://gluebenchmark.com).

Columns, splits and label order are those of ``nyu-mll/glue`` on the hub. The test splits have no
public labels: results are of the validation splits, as in the papers that this library follows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import numpy as np
from annotated_types import Len, MinLen

from rankadapt.errors import DataError, Problem
from rankadapt.sources import Sources, fingerprint
from rankadapt.tasks.text import RawSplit, TextTask

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

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

    def read_train(self, sources: Sources) -> RawSplit:
        return self._read(sources, self.train_split)

    def read_evaluation(self, sources: Sources) -> dict[str, RawSplit]:
        return {name: self._read(sources, split) for name, split in self.evaluation.items()}

    def _read(self, sources: Sources, split: str) -> RawSplit:
        where = f"{self.dataset}, {self.config}/{split}"
        rows = sources.dataset(self.dataset, self.config, split)
        self._refuse_other_shape(rows, where)
        table = rows.with_format("arrow")[:]
        return RawSplit(
            texts=[_texts(table, column, where) for column in self.text],
            labels=self._targets(table, where),
            index=np.arange(len(rows)),
            fingerprint=fingerprint(rows),
        )

    def _refuse_other_shape(self, rows: Dataset, where: str) -> None:
        if len(rows) == 0:
            raise DataError(Problem(where, None, "the split is empty"))
        missing = [name for name in (*self.text, self.label) if name not in rows.column_names]
        if missing:
            reason = f"has no column {', '.join(missing)}; it has {', '.join(rows.column_names)}"
            raise DataError(Problem(where, None, reason, "correct task.text or task.label"))
        names = getattr(rows.features[self.label], "names", None)
        if names is not None and names != self.labels:
            reason = f"the data's classes are {names}, in this order"
            raise DataError(Problem(f"task.labels ({where})", self.labels, reason))

    def _targets(self, table: pa.Table, where: str) -> np.ndarray:
        """(n,) int64 classes or float32 targets, every one of them checked."""
        column = f"{where}, column {self.label}"
        try:
            found = np.array(table.column(self.label).to_pylist(), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(Problem(column, None, f"holds no numbers ({error})")) from error
        low, high = self._allowed()
        bad = ~((found >= low) & (found <= high)) | ~np.isfinite(found)
        if self.labels is not None:
            bad |= found != np.round(found)
        if bad.any():
            raise DataError(self._bad_label(found, bad, column))
        return found.astype(np.int64 if self.labels is not None else np.float32)

    def _allowed(self) -> tuple[float, float]:
        if self.labels is not None:
            return 0, len(self.labels) - 1
        low, high = self.target_range or (-np.inf, np.inf)
        return low, high

    def _bad_label(self, found: np.ndarray, bad: np.ndarray, column: str) -> Problem:
        row = int(np.flatnonzero(bad)[0])
        low, high = self._allowed()
        kind = "classes" if self.labels is not None else "targets"
        reason = f"{kind} are {low:g} to {high:g}; {int(bad.sum())} of {len(found)} rows are not"
        remedy = "GLUE's test splits have no labels (-1)" if found[row] == -1 else ""
        return Problem(f"{column}, row {row}", float(found[row]), reason, remedy)


def _texts(table: pa.Table, column: str, where: str) -> list[str]:
    texts = table.column(column).to_pylist()
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            path = f"{where}, column {column}, row {row}"
            raise DataError(Problem(path, text, "is not a text"))
    return texts
