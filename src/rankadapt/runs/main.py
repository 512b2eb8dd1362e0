"""The command line: compose, check, run, report. ``train.py`` is a few lines around this."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from rankadapt.errors import BusyError, ConfigError, Problem, RankAdaptError
from rankadapt.runs.directory import latest, only_one, status
from rankadapt.runs.dry_run import dry_run
from rankadapt.runs.launch import launch, needs_launch
from rankadapt.runs.records import write_json
from rankadapt.runs.run import Results, run
from rankadapt.runs.summary import print_summary
from rankadapt.runs.sweep import EXIT_INTERRUPTED, EXIT_USER_ERROR, Ended
from rankadapt.training.config import RunConfig
from rankadapt.training.validation import parse


class ProcessFailed(Exception):
    """A process of a run has ended with the exit code ``code``; it has said why."""

    def __init__(self, code: int):
        super().__init__(f"a process of the run ended with exit code {code}")
        self.code = code


def main(cfg: DictConfig) -> Ended:
    """Run one composed configuration. Exits with 0 if it completed, 1 at a defect, 2 if it could not be run,
    75 if it was interrupted, or another process is at it. A job of a sweep does not exit (unless a signal
    asks for it): the next begins.
    """
    hydra = HydraConfig.get()
    swept = hydra.mode == RunMode.MULTIRUN
    results, ended = guarded(lambda: start(cfg, Path(hydra.runtime.output_dir)), every_error=swept)
    if results is not None and ended.code == EXIT_INTERRUPTED:
        print(f"\ninterrupted: {ended.error}. The same command with resume=true goes on.")
    if ended.code and not (swept and not ended.error.startswith("received")):
        sys.exit(ended.code)
    return ended


def start(cfg: DictConfig, directory: Path) -> Results | None:
    """Check ``cfg`` and run it, in as many processes as it asks for; None after a dry run."""
    _refuse_experiment(cfg)
    config = parse(cfg)
    resolved = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    if config.dry_run:
        dry_run(config, directory)
        return None
    leads = int(os.environ.get("RANK", 0)) == 0
    with only_one(directory.parent) if config.resume and leads else nullcontext():
        if config.resume and leads:  # another process may have ended since this directory was chosen
            directory = latest(directory.parent) or directory
        results = (
            _in_processes(config, directory, resolved)
            if needs_launch(config)
            else run(config, directory, resolved)
        )
    if leads:
        print_summary(results, directory)
    return results


def _refuse_experiment(cfg: DictConfig) -> None:
    name = HydraConfig.get().runtime.choices.get("experiment")
    if name is not None:
        remedy = f"python train.py -m experiment={name} (or scripts/reproduce.py)"
        raise ConfigError(Problem("experiment", name, "is many runs, this command would be one", remedy))


def _in_processes(config: RunConfig, directory: Path, resolved: dict[str, Any]) -> Results:
    code = launch(config, directory, resolved)
    if code not in (0, EXIT_INTERRUPTED):
        failure = ProcessFailed(code)
        _record_failure(directory / "results.json", failure)
        raise failure
    return cast(Results, json.loads((directory / "results.json").read_text()))


def _record_failure(path: Path, failure: ProcessFailed) -> None:
    """Process 0, if it was ended because another one had failed, says that it was interrupted."""
    if status(path.parent) == "interrupted":
        record = json.loads(path.read_text())
        write_json(path, record | {"status": "failed", "error": str(failure)})


def guarded(work: Callable[[], Results | None], every_error: bool = False) -> tuple[Results | None, Ended]:
    """Do ``work``. An error that a user can mend shows without traceback; any other is raised, or shown with
    its traceback if ``every_error`` is to be caught."""
    try:
        results = work()
    except RankAdaptError as error:
        print(f"\n{error}", file=sys.stderr)
        return None, Ended(EXIT_INTERRUPTED if isinstance(error, BusyError) else EXIT_USER_ERROR, str(error))
    except ProcessFailed as error:
        return None, Ended(error.code if error.code > 0 else 1, str(error))
    except Exception as error:
        if not every_error:
            raise
        traceback.print_exc()
        return None, Ended(1, repr(error))
    if results is not None and results["status"] == "interrupted":
        return results, Ended(EXIT_INTERRUPTED, results["error"])
    return results, Ended(0)
