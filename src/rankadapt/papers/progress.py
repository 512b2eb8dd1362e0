"""How far an experiment is: which of its runs are complete, and what is to be run next.

A run is found by its command: the directory that :mod:`rankadapt.runs.directory` gives it, without composing
its configuration.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from statistics import mean
from typing import Any

from rankadapt.papers.cells import Planned, Run
from rankadapt.papers.experiments import Experiment, Overrides
from rankadapt.runs.directory import digest, filed, in_use, latest

NOT_IDENTITY = frozenset(
    {"resume", "dry_run", "paths.output", "paths.mirror", "paths.cache", "trainer.max_time"}
    | {"trainer.progress_bar"}
)
"""Overrides that say nothing about a result: ``hydra.job.config.override_dirname`` of conf/config.yaml."""


@dataclass(frozen=True)
class Progress:
    """Where a run is: ``state`` is ``missing``, ``running``, ``interrupted``, ``failed``, ``completed`` or
    ``unreadable``; ``record`` the content of its ``results.json`` if that is complete; ``error`` what it says
    went wrong; ``folder`` of the run."""

    state: str
    folder: Path | None = None
    record: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def identity(overrides: Iterable[str]) -> list[str]:
    """Those of ``overrides`` that say something about a result."""
    return [o for o in overrides if o.partition("=")[0] not in NOT_IDENTITY]


def families(output: Path, run: Run) -> list[Path]:
    """The folders below ``output`` that hold the attempts at ``run``: one, or none."""
    chosen = dict(o.lstrip("+~").partition("=")[::2] for o in run.overrides)
    method, task = chosen.get("method", "hebira"), chosen.get("task", "demo/entailment")
    name = f"*-seed{run.seed}-{digest(','.join(sorted(identity(run.arguments))))}"
    return sorted((output / method / filed(task)).glob(name))


def progress(output: Path, run: Run) -> Progress:
    """How far ``run`` is, by what lies below ``output``."""
    for family in families(output, run):
        attempts = sorted(d for d in family.iterdir() if d.is_dir())
        folder = latest(family) or max(attempts, default=None)
        if in_use(family):
            return Progress("running", folder)
        if folder is not None:
            return _of(folder)
    return Progress("missing")


Look = Callable[[Run], Progress]
"""How a run is looked for."""


def looking(output: Path) -> Look:
    """How far runs are, by what lies below ``output``; each is looked at once, and found the same after."""
    return cache(partial(progress, output))


def _of(folder: Path) -> Progress:
    file = folder / "results.json"
    if not file.exists():
        return Progress("interrupted" if (folder / "checkpoints/last.ckpt").exists() else "missing", folder)
    try:
        record = json.loads(file.read_bytes())
        state, error = record["status"], record.get("error") or ""
    except (OSError, ValueError, KeyError, TypeError) as found:
        return Progress("unreadable", folder, error=f"{file}: {found}")
    return Progress(state, folder, record if state == "completed" else {}, error)


def chosen(planned: Iterable[Planned], seeds: Iterable[int], look: Look) -> dict[tuple[str, str], Overrides]:
    """(arm, task) -> the overrides of its best trial, by the mean of the primary metric over ``seeds``; an
    arm without a complete tuning has no entry. On a tie the earlier trial of the grid wins."""
    seeds = tuple(seeds)
    trials: dict[tuple[str, str], dict[Overrides, None]] = defaultdict(dict)
    for cell in planned:
        trials[cell.arm, cell.task][cell.overrides] = None
    best = {}
    for arm, settings in trials.items():
        scores = {setting: _score(look, setting, seeds) for setting in settings}
        if all(score is not None for score in scores.values()):
            best[arm] = max(scores, key=lambda setting: scores[setting] or 0.0)
    return best


def _score(look: Look, overrides: Overrides, seeds: tuple[int, ...]) -> float | None:
    """The mean of the best primary metric: of the selection split, where the task keeps one apart."""
    values = []
    for seed in seeds:
        record = look(Run(overrides, seed)).record
        if not record:
            return None
        best = record["metrics"]["best"] or {}
        values.append(best.get(record["metrics"]["primary"], float("-inf")))
    return mean(values)


def reported(experiment: Experiment, planned: list[Planned], look: Look) -> list[Planned]:
    """The cells to report: all of them, or where there is a grid those of each arm's best trial."""
    if not any(cell.trial for cell in planned):
        return planned
    best = chosen(planned, experiment.tuning_seeds, look)
    return [cell for cell in planned if best.get((cell.arm, cell.task)) == cell.overrides]


def all_runs(
    experiment: Experiment, planned: list[Planned], final: list[Planned], seeds: Iterable[int] | None = None
) -> list[Run]:
    """Every run of the experiment that is known now, each once: those that choose among the grid first, then
    those of the ``final`` cells, which :func:`reported` gives."""
    tuned = any(cell.trial for cell in planned)
    tuning = experiment.tuning_seeds if tuned else ()
    seeds = tuple(seeds or experiment.seeds)
    trials = [Run(cell.overrides, seed) for seed in tuning for cell in planned]
    return list(dict.fromkeys([*trials, *(Run(cell.overrides, seed) for seed in seeds for cell in final)]))


def due(runs: Iterable[Run], look: Look) -> list[Run]:
    """Those that are neither complete nor being run by another process."""
    return [run for run in runs if look(run).state not in ("completed", "running")]
