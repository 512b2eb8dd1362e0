"""Metrics of classification and regression: equal to scikit-learn's and SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk

from rankadapt.evaluation.classification import classification


def measure(names: list[str], logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    values = torch.tensor(logits)
    found = values.squeeze(-1) if values.shape[1] == 1 else values.argmax(1)
    return classification(names, found.double(), torch.tensor(labels).double(), values.shape[1])


class TestMetrics:
    rng = np.random.default_rng(0)

    @pytest.mark.parametrize("classes", [2, 3])
    def test_classification_as_scikit_learn_has_it(self, classes: int) -> None:
        logits = self.rng.normal(size=(101, classes)).astype(np.float32)
        labels = self.rng.integers(classes, size=101)
        names = ["accuracy", "matthews_correlation"] + ["f1"] * (classes == 2)
        found = measure(names, logits, labels)
        guess = logits.argmax(1)
        assert found["accuracy"] == pytest.approx(sk.accuracy_score(labels, guess), abs=1e-6)
        assert found["matthews_correlation"] == pytest.approx(sk.matthews_corrcoef(labels, guess), abs=1e-6)
        if classes == 2:
            assert found["f1"] == pytest.approx(sk.f1_score(labels, guess), abs=1e-6)

    def test_regression_as_scipy_has_it(self) -> None:
        labels = (self.rng.integers(0, 26, size=101) / 5).astype(np.float32)  # with ties
        logits = (labels + self.rng.normal(size=101)).astype(np.float32)[:, None]
        found = measure(["pearson", "spearman"], logits, labels)
        assert found["pearson"] == pytest.approx(stats.pearsonr(logits[:, 0], labels)[0], abs=1e-6)
        assert found["spearman"] == pytest.approx(stats.spearmanr(logits[:, 0], labels)[0], abs=1e-6)

    def test_undefined_values_are_zero_and_lost_ones_nan(self) -> None:
        labels = np.array([0, 1, 1])
        same = np.ones((3, 2), dtype=np.float32)
        assert measure(["matthews_correlation", "f1"], same, labels) == {"matthews_correlation": 0, "f1": 0}
        targets = labels.astype(np.float32)
        assert measure(["pearson", "spearman"], same[:, :1], targets) == {"pearson": 0, "spearman": 0}
        assert np.isnan(measure(["pearson"], np.full((3, 1), np.nan), targets)["pearson"])

    def test_without_any_example(self) -> None:
        assert np.isnan(classification(["accuracy"], torch.zeros(0), torch.zeros(0), 2)["accuracy"])
