"""What tasks on one text or a pair of texts have in common: tokens, padding, head, loss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from annotated_types import MinLen
from torch import Tensor
from torch.nn import functional as F

from rankadapt.errors import ModelError, Problem
from rankadapt.sources import Sources
from rankadapt.tasks.base import NOT_FOR_THE_MODEL, Examples, Task, TaskData
from rankadapt.tasks.metrics import REGRESSION, MetricName, MetricSet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EVALUATION_SUBSET_SEED = 0


@dataclass
class RawSplit:
    """A checked split before its tokenisation: 1 or 2 columns of n texts, and n labels.

    ``index`` (n,) are the row numbers in the whole split, of which ``fingerprint`` is the hash.
    """

    texts: list[list[str]]
    labels: np.ndarray
    index: np.ndarray
    fingerprint: str

    def subset(self, size: int | None, seed: int) -> RawSplit:
        """``size`` rows in an order drawn from ``seed``; all rows as they stand if not more."""
        if size is None or size >= len(self.labels):
            return self
        rows = np.random.default_rng(seed).permutation(len(self.labels))[:size]
        texts = [[column[row] for row in rows] for column in self.texts]
        return replace(self, texts=texts, labels=self.labels[rows], index=self.index[rows])


@dataclass(kw_only=True)
class TextTask(Task):
    """Classification of, or regression on, one text or a pair of texts.

    Args:
        labels: the class names in the order of their numbers; ``None`` for regression.
        metrics: what is reported; ``primary`` is one of them.
    """

    labels: Annotated[list[str], MinLen(2)] | None
    metrics: Annotated[list[MetricName], MinLen(1)]

    def __post_init__(self) -> None:
        wrong = [name for name in self.metrics if (name in REGRESSION) != (self.labels is None)]
        if wrong:
            kind = "regression" if self.labels is None else "classification"
            raise ValueError(f"metrics {wrong} do not measure {kind}")
        if "f1" in self.metrics and len(self.labels or []) != 2:
            raise ValueError("the metric f1 is that of class 1 of two, and needs two labels")
        if self.primary not in self.metrics:
            raise ValueError(f"primary = {self.primary!r} is not among metrics = {self.metrics}")

    @abstractmethod
    def read_train(self, sources: Sources) -> RawSplit:
        """The whole training split, checked."""

    @abstractmethod
    def read_evaluation(self, sources: Sources) -> dict[str, RawSplit]:
        """The whole evaluation splits, checked, by the name of their results."""

    def head_kwargs(self) -> dict[str, Any]:
        if self.labels is None:
            return {"num_labels": 1, "problem_type": "regression"}
        return {
            "num_labels": len(self.labels),
            "problem_type": "single_label_classification",
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: number for number, label in enumerate(self.labels)},
        }

    def load(self, tokenizer: PreTrainedTokenizerBase, sources: Sources, seed: int = 0) -> TaskData:
        raw = {"train": self.read_train(sources), **self.read_evaluation(sources)}
        encoded = {
            name: self._encode(split, tokenizer, seed if name == "train" else None)
            for name, split in raw.items()
        }
        return TaskData(
            train=encoded["train"],
            evaluation={name: split for name, split in encoded.items() if name != "train"},
            fingerprint={name: split.fingerprint for name, split in raw.items()},
            truncated={name: split.truncated for name, split in encoded.items()},
        )

    def _encode(
        self, split: RawSplit, tokenizer: PreTrainedTokenizerBase, train_seed: int | None
    ) -> Examples:
        if train_seed is None:
            chosen = split.subset(self.max_eval_examples, EVALUATION_SUBSET_SEED)
        else:
            chosen = split.subset(self.max_train_examples, train_seed)
        return _tokenise(chosen, tokenizer, self.max_length)

    def collate(
        self, examples: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, pad_to: int
    ) -> dict[str, Tensor]:
        fill = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
        names = [name for name in examples[0] if name not in NOT_FOR_THE_MODEL]
        left = tokenizer.padding_side == "left"
        rows = {name: [example[name] for example in examples] for name in names}
        batch = {name: _pad(rows[name], pad_to, fill[name], left) for name in names}
        ones = [np.ones(len(row), dtype=np.int64) for row in rows["input_ids"]]
        batch["attention_mask"] = _pad(ones, pad_to, 0, left)
        batch["labels"] = torch.as_tensor(np.array([example["labels"] for example in examples]))
        batch["index"] = torch.as_tensor(np.array([example["index"] for example in examples]))
        return batch

    def losses(self, outputs: Any, batch: dict[str, Tensor]) -> Tensor:
        """Cross entropy, or the squared error for regression."""
        logits = outputs.logits.float()
        if self.labels is None:
            return (logits.squeeze(-1) - batch["labels"]).square()
        return F.cross_entropy(logits, batch["labels"], reduction="none")

    def new_metrics(self) -> MetricSet:
        return MetricSet(self.metrics, len(self.labels or [""]))


def _tokenise(split: RawSplit, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Examples:
    if not tokenizer.is_fast:
        reason = "a fast tokenizer (tokenizer.json) is needed, to count what is truncated"
        raise ModelError(Problem("tokenizer", type(tokenizer).__name__, reason))
    batch = tokenizer(*split.texts, truncation=True, max_length=max_length, return_attention_mask=False)
    truncated = sum(
        len(encoding.ids) == max_length and bool(encoding.overflowing) for encoding in batch.encodings or []
    )
    return Examples(dict(batch.data), split.labels, split.index, truncated)


def _pad(rows: Sequence[np.ndarray], pad_to: int, fill: int, left: bool) -> Tensor:
    padded = np.full((len(rows), pad_to), fill, dtype=np.int64)
    for line, row in zip(padded, rows, strict=True):
        line[slice(pad_to - len(row), None) if left else slice(len(row))] = row
    return torch.from_numpy(padded)
