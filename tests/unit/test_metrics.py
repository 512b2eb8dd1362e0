"""Metrics: equal to scikit-learn's and SciPy's, on any number of processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk

from rankadapt.tasks.metrics import MetricSet


def measure(names: list[str], logits: np.ndarray, labels: np.ndarray, batch: int = 7) -> dict[str, float]:
    task = MetricSet(names, logits.shape[1])  # type: ignore[arg-type]
    for start in range(0, len(labels), batch):
        rows = slice(start, start + batch)
        index = torch.arange(len(labels))[rows]
        outputs = SimpleNamespace(logits=torch.tensor(logits[rows]))
        task.update(outputs, {"labels": torch.tensor(labels[rows]), "index": index})
    return task.compute()


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

    def test_a_repeated_example_counts_once(self) -> None:
        task = MetricSet(["accuracy"], 2)
        logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        batch = {"labels": torch.tensor([0, 0, 0]), "index": torch.tensor([5, 8, 8])}
        task.update(SimpleNamespace(logits=logits), batch)
        assert task.compute() == {"accuracy": 0.5}

    @pytest.mark.filterwarnings("ignore:The ``compute`` method")
    def test_reset_and_empty(self) -> None:
        task = MetricSet(["accuracy"], 2)
        batch = {"labels": torch.tensor([0]), "index": torch.tensor([0])}
        task.update(SimpleNamespace(logits=torch.tensor([[1.0, 0.0]])), batch)
        task.reset()
        assert np.isnan(task.compute()["accuracy"])
        assert not task.state_dict()

    @pytest.mark.slow
    def test_unequal_shards_give_what_one_process_gives(self, tmp_path: Path) -> None:
        code = """
import sys, torch, torch.distributed as dist
from types import SimpleNamespace
from rankadapt.tasks.metrics import MetricSet
rank, store, counts = int(sys.argv[1]), sys.argv[2], eval(sys.argv[3])
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
torch.manual_seed(0)
logits, labels = torch.randn(8, 1), torch.randn(8)
def measure(rows):
    metric = MetricSet(["pearson", "spearman"], 1)
    if len(rows):
        metric.update(SimpleNamespace(logits=logits[rows]), {"labels": labels[rows], "index": rows})
    return metric
rows = torch.arange(8)
mine = rows[:counts] if rank == 0 else rows[counts:]
alone = measure(rows); alone.distributed_available_fn = lambda: False
assert measure(mine).compute() == alone.compute(), (measure(mine).compute(), alone.compute())
"""
        for count in (5, 8):
            processes = [
                subprocess.Popen(
                    [sys.executable, "-c", code, str(rank), str(tmp_path / f"s{count}"), str(count)],
                    env={"PYTHONPATH": ":".join(sys.path)},
                )
                for rank in range(2)
            ]
            assert [process.wait(timeout=120) for process in processes] == [0, 0]
