"""What a sweep shows at its end: every job, how it ended, and where it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table


class SweepSummary(Callback):
    """A Hydra callback; it has nothing to say after a single run."""

    def __init__(self) -> None:
        self._jobs: list[tuple[str, str, Path]] = []

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Note one job."""
        directory = Path(job_return.hydra_cfg.hydra.runtime.output_dir)  # type: ignore[union-attr]
        ended = "completed" if job_return.status == JobStatus.COMPLETED else "failed"
        overrides = " ".join(job_return.overrides or [])
        self._jobs.append((overrides, ended, directory))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print the table."""
        table = Table("job", "status", "metric", "best", "last", "directory", title="sweep")
        for overrides, ended, directory in self._jobs:
            table.add_row(overrides, *_row(directory, ended), str(directory))
        Console().print(table)


def _row(directory: Path, ended: str) -> tuple[str, str, str, str]:
    try:
        results = json.loads((directory / "results.json").read_text())
        metrics = results["metrics"]
    except (OSError, ValueError, KeyError):
        return ended, "-", "-", "-"
    name = metrics["primary"]
    best, last = ((metrics[k] or {}).get(name) for k in ("best", "last"))
    shown = ["-" if value is None else f"{value:.4f}" for value in (best, last)]
    return results["status"], name, shown[0], shown[1]
