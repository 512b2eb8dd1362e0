"""The command line: compose, check, run, report. ``train.py`` is a few lines around this."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from rankadapt.errors import RankAdaptError
from rankadapt.runs.dry_run import dry_run
from rankadapt.runs.launch import launch, needs_launch
from rankadapt.runs.run import Results, run
from rankadapt.runs.summary import print_summary
from rankadapt.training.config import RunConfig
from rankadapt.training.validation import parse

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL: try again, with resume=true


class JobFailed(Exception):
    """A job of a sweep failed; its error has been shown. Hydra goes on with the next."""


def main(cfg: DictConfig) -> None:
    """Run one composed configuration. Exits with 0 if it completed, 2 if it could not be run, 75 if it was
    interrupted; in a sweep a failure is noted and the next job begins."""
    hydra = HydraConfig.get()
    directory = Path(hydra.runtime.output_dir)
    results, code = guarded(lambda: start(cfg, directory))
    interrupted = results is not None and results.get("status") == "interrupted"
    if interrupted:
        code = EXIT_INTERRUPTED
        print(f"\ninterrupted: {results['error']}. The same command with resume=true goes on.")  # type: ignore[index]
    if code and hydra.mode == RunMode.MULTIRUN:
        if interrupted and "received" in str(results):
            raise KeyboardInterrupt
        raise JobFailed(f"exit code {code}, see {directory}")
    if code:
        sys.exit(code)


def start(cfg: DictConfig, directory: Path) -> Results | None:
    """Check ``cfg`` and run it, in as many processes as it asks for; None after a dry run."""
    config = parse(cfg)
    resolved = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    if config.dry_run:
        dry_run(config, directory)
        return None
    results = (
        _in_processes(config, directory, resolved)
        if needs_launch(config)
        else run(config, directory, resolved)
    )
    if int(os.environ.get("RANK", 0)) == 0:
        print_summary(results, directory)
    return results


def _in_processes(config: RunConfig, directory: Path, resolved: dict[str, Any]) -> Results:
    code = launch(config, directory, resolved)
    if code not in (0, EXIT_INTERRUPTED):
        raise SystemExit(code if code > 0 else 1)  # the process has said why
    return cast(Results, json.loads((directory / "results.json").read_text()))


def guarded(work: Callable[[], Results | None]) -> tuple[Results | None, int]:
    """Do ``work`` and return (results, exit code). An error that a user can mend shows without traceback."""
    try:
        return work(), 0
    except RankAdaptError as error:
        print(f"\n{error}", file=sys.stderr)
        return None, EXIT_USER_ERROR
