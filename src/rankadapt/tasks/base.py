"""What a task is: data, head, per-example loss, metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from annotated_types import Gt
from torch import Tensor

from rankadapt.sources import Sources
from rankadapt.tasks.metrics import MetricSet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NOT_FOR_THE_MODEL = ("labels", "index")


class Examples:
    """One tokenised split in memory: token fields end to end in flat arrays, and the labels.

    Args:
        fields: name (``input_ids``, perhaps ``token_type_ids``) -> one list of ints per example.
        labels: (n,) class numbers, or float targets.
        index: (n,) the examples' row numbers in the split that they come from.
        truncated: how many examples were cut to the maximum length.

    Attributes:
        lengths: (n,) tokens per example, for grouping by length and for padding.
    """

    def __init__(
        self,
        fields: dict[str, Sequence[Sequence[int]]],
        labels: np.ndarray,
        index: np.ndarray,
        truncated: int = 0,
    ):
        self.lengths = np.array([len(row) for row in fields["input_ids"]], dtype=np.int64)
        self._ends = np.cumsum(self.lengths)
        self._fields = {name: _flat(rows, self.lengths) for name, rows in fields.items()}
        self.labels = labels
        self.index = index
        self.truncated = truncated

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> dict[str, Any]:
        """Example ``i``: the token fields (each (lengths[i],)), ``labels`` and ``index``."""
        end = self._ends[i]
        start = end - self.lengths[i]
        tokens = {name: values[start:end] for name, values in self._fields.items()}
        return {**tokens, "labels": self.labels[i], "index": self.index[i]}


@dataclass
class TaskData:
    """The tokenised splits, the hash of what each was made from, and how many rows were cut."""

    train: Examples
    evaluation: dict[str, Examples]
    fingerprint: dict[str, str]
    truncated: dict[str, int] = field(default_factory=dict)


@dataclass(kw_only=True)
class Task(ABC):
    """Data, head, loss and metrics of one task.

    Args:
        name: how results are filed, e.g. ``glue/rte``.
        primary: the metric by which the best step is chosen; larger is better.
        batch_size: training examples per optimizer step.
        eval_batch_size: examples per evaluation batch; changes no result.
        max_length: tokens per example; what is longer is cut.
        max_train_examples: take this many, chosen by the run's seed; ``None`` for all.
        max_eval_examples: take this many of each evaluation set, the same for every seed.
    """

    auto_model: ClassVar[str] = "AutoModelForSequenceClassification"

    name: str
    primary: str
    batch_size: Annotated[int, Gt(0)]
    eval_batch_size: Annotated[int, Gt(0)] = 64
    max_length: Annotated[int, Gt(3)]
    max_train_examples: Annotated[int, Gt(0)] | None = None
    max_eval_examples: Annotated[int, Gt(0)] | None = None

    @abstractmethod
    def head_kwargs(self) -> dict[str, Any]:
        """Keyword arguments for ``from_pretrained`` of the class named by :attr:`auto_model`."""

    @abstractmethod
    def load(self, tokenizer: PreTrainedTokenizerBase, sources: Sources, seed: int = 0) -> TaskData:
        """Reads, checks and tokenises all splits; the same arguments give the same data.

        Raises:
            DataError: a split is missing or damaged, or holds what the task cannot read.
        """

    @abstractmethod
    def collate(
        self, examples: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, pad_to: int
    ) -> dict[str, Tensor]:
        """A batch: token fields and ``attention_mask`` (n, pad_to), ``labels`` and ``index`` (n,).

        ``pad_to`` is at least the longest example's length.
        """

    @abstractmethod
    def losses(self, outputs: Any, batch: dict[str, Tensor]) -> Tensor:
        """(n,) the loss of each example, not reduced, in float32."""

    @abstractmethod
    def new_metrics(self) -> MetricSet:
        """An empty metric set; one is needed for each evaluation set."""

    def model_inputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The part of a batch that the model's ``forward`` takes."""
        return {name: value for name, value in batch.items() if name not in NOT_FOR_THE_MODEL}


def _flat(rows: Sequence[Sequence[int]], lengths: np.ndarray) -> np.ndarray:
    values = (value for row in rows for value in row)
    return np.fromiter(values, dtype=np.int32, count=int(lengths.sum()))
