"""What a sweep shows at its end: every job, how it ended, and where it is."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from rankadapt.errors import ConfigError
from rankadapt.runs.directory import refuse_unwritable

EXIT_JOBS_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 75
"""EX_TEMPFAIL: try again, with ``resume=true``."""


@dataclass(frozen=True)
class Ended:
    """How one run ended: its exit code, and the error if that is not 0."""

    code: int
    error: str = ""


@dataclass(frozen=True)
class _Job:
    overrides: list[str]
    ended: Ended
    directory: Path


class SweepSummary(Callback):
    """A Hydra callback; it has nothing to say after a single run.

    The command's exit code is 0 if every job is complete, else 1.
    """

    def __init__(self) -> None:
        self._jobs: list[_Job] = []

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Refuse an output folder that cannot be written, before Hydra tries to."""
        try:
            refuse_unwritable(Path(config.paths.output).absolute())
        except ConfigError as error:
            print(f"\n{error}", file=sys.stderr)
            sys.exit(EXIT_USER_ERROR)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Note one job."""
        ended = job_return._return_value  # the property raises what the job raised
        if not isinstance(ended, Ended):
            ended = Ended(1, repr(ended))
        directory = Path(job_return.hydra_cfg.hydra.runtime.output_dir)  # type: ignore[union-attr]
        self._jobs.append(_Job(list(job_return.overrides or []), ended, directory))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print the table and what failed; exits with 1 if something did."""
        shared = (
            set.intersection(*(set(job.overrides) for job in self._jobs)) if len(self._jobs) > 1 else set()
        )
        table = Table("", "job", "status", "metric", "best", "last", title="sweep")
        for number, job in enumerate(self._jobs, 1):
            name = " ".join(o for o in job.overrides if o not in shared)
            table.add_row(str(number), name, *_row(job))
        console = Console()
        console.print(table)
        for number, job in enumerate(self._jobs, 1):
            console.print(f"{number}: {job.directory}", soft_wrap=True, highlight=False, markup=False)
            if job.ended.code:
                console.print(f"   {job.ended.error}", soft_wrap=True, highlight=False, markup=False)
        if any(job.ended.code for job in self._jobs):
            sys.exit(EXIT_JOBS_FAILED)


def _row(job: _Job) -> tuple[str, str, str, str]:
    status = {0: "completed", EXIT_INTERRUPTED: "taken"}.get(job.ended.code, "failed")
    try:
        results = json.loads((job.directory / "results.json").read_text())
        metrics = results["metrics"]
    except (OSError, ValueError, KeyError):
        return status, "-", "-", "-"
    name = metrics["primary"]
    best, last = ((metrics[k] or {}).get(name) for k in ("best", "last"))
    shown = ["-" if value is None else f"{value:.4f}" for value in (best, last)]
    return results["status"], name, shown[0], shown[1]
