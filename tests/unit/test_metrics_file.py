"""metrics.csv: what is logged is there, once."""

from __future__ import annotations

import csv
from pathlib import Path

from rankadapt.training.metrics_file import MetricsFile


def rows(path: Path) -> list[tuple[str, ...]]:
    with path.open(newline="") as file:
        return [tuple(row) for row in csv.reader(file)]


def test_rows_are_appended_as_they_come(tmp_path: Path) -> None:
    log = MetricsFile(tmp_path / "metrics.csv")
    log.log_metrics({"loss": 0.5}, 1)
    log.save()
    assert rows(log.path) == [("step", "metric", "value"), ("1", "loss", "0.5")]
    log.log_metrics({"loss": 0.25, "lr": 1e-20}, 2)
    log.finalize("success")
    assert rows(log.path)[2:] == [("2", "loss", "0.25"), ("2", "lr", "1e-20")]


def test_a_resumed_run_drops_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    first = MetricsFile(tmp_path / "metrics.csv")
    for step in range(1, 6):
        first.log_metrics({"loss": step / 7}, step)
    first.save()
    second = MetricsFile(tmp_path / "metrics.csv")
    second.resume_from(3)
    second.log_metrics({"loss": 9.0}, 4)
    second.save()
    found = rows(second.path)
    assert [row[0] for row in found[1:]] == ["1", "2", "3", "4"]
    assert float(found[3][2]) == 3 / 7  # to the last bit
    assert found[4][2] == "9.0"


def test_to_resume_without_a_file_is_to_begin(tmp_path: Path) -> None:
    log = MetricsFile(tmp_path / "metrics.csv")
    log.resume_from(3)
    log.log_metrics({"loss": 1.0}, 4)
    log.save()
    assert len(rows(log.path)) == 2
