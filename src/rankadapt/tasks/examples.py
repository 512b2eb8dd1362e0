"""Tokenised splits: what loaders draw from and what predictions are scored against."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


class Examples(ABC):
    """What a loader draws from.

    Attributes:
        lengths: (n,) how long each example is, for grouping and padding; all alike where nothing is padded.
        weights: (n,) how much each counts in the mean loss of a global batch; None for all alike.
        truncated: how many were cut to the maximum length.
        skipped: how many rows of the data were left out, because they could not be used.
    """

    lengths: np.ndarray
    weights: np.ndarray | None = None
    truncated: int = 0
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.lengths)

    @abstractmethod
    def __getitem__(self, i: int) -> dict[str, Any]:
        """Example ``i``, with its number as ``index``."""


class TokenExamples(Examples):
    """Examples of token fields, end to end in flat arrays, in memory or mapped from files.

    Args:
        fields: name -> (values of all examples end to end, (n,) the end of each example's values).
            ``input_ids`` is one of them and gives the lengths.
        rows: (n,) the row that each example was made from; a row may give several examples, or none.
        labels: (n,) class numbers or targets; None where the labels are tokens, and so a field.
        weights, truncated, skipped: see :class:`Examples`.
    """

    def __init__(
        self,
        fields: Mapping[str, tuple[np.ndarray, np.ndarray]],
        rows: np.ndarray,
        labels: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        truncated: int = 0,
        skipped: int = 0,
    ):
        self._fields = dict(fields)
        self.lengths = np.diff(self._fields["input_ids"][1], prepend=0)
        self.rows, self.labels, self.weights = rows, labels, weights
        self.truncated, self.skipped = truncated, skipped

    @classmethod
    def of(
        cls, fields: Mapping[str, Sequence[Sequence[int]]], labels: np.ndarray | None = None, **rest: Any
    ) -> TokenExamples:
        """From one list of ints per example and field."""
        flat = {name: _flat(rows) for name, rows in fields.items()}
        return cls(flat, np.arange(len(fields["input_ids"])), labels, **rest)

    def __getitem__(self, i: int) -> dict[str, Any]:
        """The token fields of example ``i`` (each one-dimensional), ``index``, and ``labels`` if any."""
        example: dict[str, Any] = {"index": i}
        for name, (values, ends) in self._fields.items():
            example[name] = values[ends[i - 1] if i else 0 : ends[i]]
        if self.labels is not None:
            example["labels"] = self.labels[i]
        return example


@dataclass(frozen=True)
class EvaluationSet:
    """What is evaluated under one name.

    Attributes:
        examples: what the model sees.
        score: from a prediction for each example, by its number, to metrics. Called once per evaluation, with
            the predictions of all processes.
        size: how many things are scored, where it is not the number of examples.
        judge: where answers are texts, from the predictions to what is kept of each example (plain values);
            ``score`` then takes this in their place.
    """

    examples: Examples
    score: Callable[[Mapping[int, Any]], dict[str, float]]
    size: int | None = None
    judge: Callable[[Mapping[int, Any]], Mapping[int, dict[str, Any]]] | None = None

    def __len__(self) -> int:
        return len(self.examples) if self.size is None else self.size


@dataclass
class TaskData:
    """The splits, and the hash of what each was made from."""

    train: Examples
    evaluation: dict[str, EvaluationSet]
    fingerprint: dict[str, str] = field(default_factory=dict)

    @property
    def splits(self) -> dict[str, Examples]:
        """The examples of all splits by name."""
        return {"train": self.train, **{name: found.examples for name, found in self.evaluation.items()}}


def _flat(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
    values = np.fromiter(
        (v for row in rows for v in row), dtype=np.int32, count=int(ends[-1]) if len(ends) else 0
    )
    return values, ends
