"""Metrics of text classification and regression, exact over any number of processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional import pearson_corrcoef, spearman_corrcoef
from torchmetrics.functional.classification import (
    binary_f1_score,
    multiclass_accuracy,
    multiclass_matthews_corrcoef,
)

MetricName = Literal["accuracy", "f1", "matthews_correlation", "pearson", "spearman"]
REGRESSION: frozenset[str] = frozenset({"pearson", "spearman"})


class MetricSet(Metric):
    """Several metrics of one set of predictions.

    It keeps one row (prediction, label, index) per example and computes on all of them at the end,
    so that shards of unequal size (none included) give what a single process gives. An example that
    a sampler repeated to make the shards equal counts once: rows are told apart by their index.

    Args:
        names: what :meth:`compute` returns, as the GLUE benchmark defines them.
        num_labels: number of classes; 1 for regression.
    """

    full_state_update = False
    rows: list[Tensor]

    def __init__(self, names: list[MetricName], num_labels: int):
        super().__init__()
        self.names = names
        self.num_labels = num_labels
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self._keep_shape()

    def update(self, outputs: Any, batch: dict[str, Tensor]) -> None:
        """Adds a batch: ``outputs.logits`` (n, num_labels), ``labels`` (n,) and ``index`` (n,)."""
        logits = outputs.logits.detach()
        predictions = logits.squeeze(-1) if self.num_labels == 1 else logits.argmax(-1)
        columns = (predictions, batch["labels"], batch["index"])
        self.rows.append(torch.stack([column.double() for column in columns], dim=1))

    def compute(self) -> dict[str, float]:
        """Metric name -> value, over the examples of all processes. NaN without any example."""
        rows = torch.cat(list(self.rows)) if isinstance(self.rows, list) else self.rows
        predictions, labels = _once(rows.cpu())
        if len(labels) == 0:
            return {name: float("nan") for name in self.names}
        return {name: float(METRICS[name](predictions, labels, self.num_labels)) for name in self.names}

    def reset(self) -> None:
        """Forgets all examples."""
        super().reset()
        self._keep_shape()

    def _keep_shape(self) -> None:
        # A process without examples must still gather rows of this shape and type.
        self.rows.append(torch.zeros(0, 3, dtype=torch.float64, device=self.device))


def _once(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(n, 3) -> predictions and labels (m,) with each index once, in the order of the index."""
    order = torch.argsort(rows[:, 2], stable=True)
    rows = rows[order]
    first = torch.ones(len(rows), dtype=torch.bool)
    first[1:] = rows[1:, 2] != rows[:-1, 2]
    return rows[first, 0], rows[first, 1]


def _accuracy(predictions: Tensor, labels: Tensor, num_labels: int) -> Tensor:
    return multiclass_accuracy(predictions.long(), labels.long(), num_labels, average="micro")


def _f1(predictions: Tensor, labels: Tensor, num_labels: int) -> Tensor:
    """F1 of class 1, as GLUE reports it for MRPC and QQP."""
    return binary_f1_score(predictions.long(), labels.long())


def _matthews(predictions: Tensor, labels: Tensor, num_labels: int) -> Tensor:
    """0 where it is undefined, i.e. where all predictions or all labels are one class."""
    if len(predictions.unique()) == 1 or len(labels.unique()) == 1:
        return torch.zeros(())
    return multiclass_matthews_corrcoef(predictions.long(), labels.long(), num_labels)


def _correlation(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def correlate(predictions: Tensor, labels: Tensor, num_labels: int) -> Tensor:
        """0 where it is undefined, i.e. where all predictions are equal; NaN for NaN."""
        if not predictions.isfinite().all():
            return torch.tensor(float("nan"))
        if len(predictions.unique()) == 1 or len(labels.unique()) == 1:
            return torch.zeros(())
        return function(predictions, labels)

    return correlate


METRICS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews_correlation": _matthews,
    "pearson": _correlation(pearson_corrcoef),
    "spearman": _correlation(spearman_corrcoef),
}
