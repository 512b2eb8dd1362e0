"""Metrics of classification and regression, as the GLUE benchmark defines them (Wang et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torchmetrics.functional import pearson_corrcoef, spearman_corrcoef
from torchmetrics.functional.classification import (
    binary_f1_score,
    multiclass_accuracy,
    multiclass_matthews_corrcoef,
)

MetricName = Literal["accuracy", "f1", "matthews_correlation", "pearson", "spearman"]
REGRESSION: frozenset[str] = frozenset({"pearson", "spearman"})


def classification(
    names: Sequence[str], predictions: Tensor, labels: Tensor, num_labels: int
) -> dict[str, float]:
    """Metric name -> value of n predictions.

    Args:
        names: of :data:`MetricName`.
        predictions, labels: (n,) class numbers, or values of a regression.
        num_labels: number of classes; 1 for regression.

    Returns:
        One value per name; NaN without any prediction.
    """
    if len(labels) == 0:
        return {name: float("nan") for name in names}
    return {name: float(METRICS[name](predictions, labels, num_labels)) for name in names}


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
