"""From records to arms: what was compared with what, over which seeds, after how much tuning.

Two runs belong to one *study* if they have the same task and model; to one *arm* of it if their
configurations are equal but for the seed and the optimizer; to one *trial* of the arm if the optimizer's
settings are equal too. So the number of trials is how much an arm was tuned, and seeds are what its figures
are a mean over.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from rankadapt.analysis.reading import Record
from rankadapt.analysis.settings import flat

IGNORED = {"seed", "resume", "dry_run", "paths", "logger", "compile", "recipe", "experiment"}
IGNORED_BELOW = {"trainer.progress_bar", "trainer.threads", "trainer.max_time", "trainer.devices"} | {
    "trainer.log_every_n_steps",
    "checkpoint.every_n_steps",
    "task.eval_batch_size",
}
TUNED = "optimizer."
"""Keys below it are what is tuned: they make trials, not arms."""

Settings = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """Runs that differ only in their seed: seed -> record."""

    runs: Mapping[int, Record]

    def values(self, metric: str, stage: str) -> dict[int, float]:
        """Seed -> the metric at ``stage`` (``best`` or ``last``), where a run has it."""
        found = {s: (r.content["metrics"].get(stage) or {}).get(metric) for s, r in self.runs.items()}
        return {seed: float(value) for seed, value in found.items() if value is not None}


@dataclass
class Arm:
    """One way of training, in a study.

    Attributes:
        name: its method, and what sets it apart from the study's other arms of that method.
        settings: the configuration, flat, without seed and optimizer.
        trials: every setting of the optimizer that was run.
    """

    name: str
    method: str
    settings: Settings
    trials: list[Trial] = field(default_factory=list)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of any trial."""
        return tuple(sorted({seed for trial in self.trials for seed in trial.runs}))

    def best(self, metric: str) -> Trial:
        """The trial to report: of those with the most seeds, which were run to be reported, the one with the
        highest mean of ``metric`` at its best step; of equal ones the first."""
        return max(self.trials, key=lambda trial: (len(trial.runs), _mean(trial.values(metric, "best"))))


def _mean(values: Mapping[int, float]) -> float:
    return mean(values.values()) if values else float("-inf")


@dataclass
class Study:
    """All arms on one task with one model; ``primary`` is the metric of its choices."""

    task: str
    model: str
    primary: str
    arms: list[Arm]

    @property
    def name(self) -> str:
        """``glue/rte, minilm``."""
        return f"{self.task}, {self.model}"


def studies(records: Iterable[Record]) -> list[Study]:
    """The complete runs among ``records``, sorted into studies, arms and trials, by name. Of two runs of
    equal settings and seed the one that ended later counts."""
    parts: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        if record.content["status"] == "completed" and record.content["metrics"]:
            parts[record.content["task"], record.content["model"]].append(record)
    return [_study(task, model, found) for (task, model), found in sorted(parts.items())]


def _study(task: str, model: str, records: list[Record]) -> Study:
    arms: dict[str, Arm] = {}
    trials: dict[tuple[str, str], dict[int, Record]] = defaultdict(dict)
    for record in sorted(records, key=lambda r: r.content.get("finished", {}).get("unix", 0)):
        found = flattened(record.content["config"])
        settings = {k: v for k, v in found.items() if not k.startswith(TUNED)}
        optimizer = {k: v for k, v in found.items() if k.startswith(TUNED)}
        key, tuned = _key(settings), _key(optimizer)
        method = record.content["method"]
        arms.setdefault(key, Arm(method, method, settings))
        trials[key, tuned][record.content["seed"]] = record
    for (key, _), runs in trials.items():
        arms[key].trials.append(Trial(runs))
    named = _named(list(arms.values()))
    return Study(task, model, records[0].content["metrics"]["primary"], named)


def flattened(config: Mapping[str, Any]) -> Settings:
    """Dotted keys of all that can change a result. What is null counts as not there: an older record may lack
    the key."""
    return {
        key: value
        for key, value in flat(config)
        if value is not None and key.partition(".")[0] not in IGNORED and key not in IGNORED_BELOW
    }


def _key(settings: Settings) -> str:
    return json.dumps(settings, sort_keys=True, default=str)


def _named(arms: list[Arm]) -> list[Arm]:
    """Arms sorted by name; those of one method are told apart by the settings in which they differ."""
    by_method: dict[str, list[Arm]] = defaultdict(list)
    for arm in arms:
        by_method[arm.method].append(arm)
    for method, alike in by_method.items():
        keys = sorted(set().union(*(arm.settings for arm in alike)))
        apart = [k for k in keys if len({str(arm.settings.get(k)) for arm in alike}) > 1]
        for arm in alike:
            arm.name = " ".join([method, *(f"{_short(k)}={_shown(arm.settings.get(k))}" for k in apart)])
    return sorted(arms, key=lambda arm: arm.name)


def _short(key: str) -> str:
    return key.removesuffix("._target_")


def _shown(value: Any) -> str:
    text = str(value)
    return text.rpartition(".")[2] if text.startswith("rankadapt.") else text
