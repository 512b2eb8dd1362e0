"""From an experiment to its cells: what is printed, which run gives it, and where in its record it stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from rankadapt.papers.experiments import Experiment, Overrides, merged, names
from rankadapt.papers.figures import Figure
from rankadapt.papers.published import Cell, tables

Task = dict[str, Any]
"""How a task is run, what its metrics are, how many rows it has: an entry of ``data/names.yaml``."""


@dataclass(frozen=True)
class Planned(Cell):
    """A printed figure that runs can give, or one of a study of our own, which has no ``value``.

    Attributes:
        overrides: of the run that gives it, without the seed.
        figure: where the value stands in the run's record.
        examples: rows of its training set, where they are known.
        trial: the values of the grid's keys in this run; empty where nothing is tuned.
    """

    overrides: Overrides
    figure: Figure
    examples: int | None = None
    trial: Overrides = ()

    @property
    def published(self) -> float | None:
        """The printed figure; None in a study of our own."""
        return self.number if self.value else None

    @property
    def arm(self) -> str:
        """``HeBiRA, k=4``: the row of the table."""
        return ", ".join(part for part in (self.method, self.variant) if part)


@dataclass(frozen=True)
class Run:
    """One command: ``overrides`` without the seed, and the ``seed``."""

    overrides: Overrides
    seed: int

    @property
    def arguments(self) -> Overrides:
        """What stands after ``python train.py``."""
        return (*self.overrides, f"seed={self.seed}")

    @property
    def command(self) -> str:
        """What to type."""
        return " ".join(["python train.py", *self.arguments])


def cells(experiment: Experiment, extra: Overrides = ()) -> list[Planned]:
    """Every cell of ``experiment`` that a run gives, in the order of the table; averages are none.

    Args:
        extra: overrides for all runs, over those of the experiment.
    """
    found = _published(experiment) if experiment.published else _studied(experiment)
    planned = (_planned(cell, task, [*parts, *extra]) for cell, task, parts in found)
    return [trial for cell in planned for trial in _trials(experiment, cell, extra)]


def left_out(experiment: Experiment) -> dict[str, str]:
    """Printed figures that no run gives, as ``<method> <metric>``, and why."""
    if experiment.published is None:
        return {}
    found = {}
    for cell in tables()[experiment.published].cells:
        if why := _excuse(experiment, cell):
            found[f"{cell.model} {cell.method} {cell.variant} {cell.metric}".replace("  ", " ")] = why
    return found


def _published(experiment: Experiment) -> Iterator[tuple[Cell, Task, list[str]]]:
    """Each printed figure that a run gives, its task, and the overrides of the run in parts."""
    for cell in tables()[experiment.published or ""].cells:
        if cell.is_average or _excuse(experiment, cell):
            continue
        task = _task(experiment, cell.task)
        parts = [
            _named(experiment, "models", cell.model),
            task["run"],
            _named(experiment, "methods", cell.method),
            f"budget=r{cell.rank}" if cell.rank else "",
            experiment.common,
            experiment.variants.get(cell.variant, ""),
        ]
        yield cell, task, parts


def _studied(experiment: Experiment) -> Iterator[tuple[Cell, Task, list[str]]]:
    """The same of a study: every arm on every task."""
    variants = experiment.variants or {"": ""}
    for name, method, variant in product(experiment.tasks, experiment.methods, variants):
        task = _task(experiment, name)
        parts = [experiment.common, task["run"], experiment.methods[method], variants[variant]]
        for metric in task["metrics"]:
            yield Cell("", method, variant, None, name, metric, "", "", None, "percent"), task, parts


def _planned(cell: Cell, task: Task, parts: list[str]) -> Planned:
    figure = _figure(task, cell.metric, cell.unit)
    return Planned(**vars(cell), overrides=merged(parts), figure=figure, examples=task.get("examples"))


def _trials(experiment: Experiment, cell: Planned, extra: Overrides) -> Iterator[Planned]:
    """``cell`` at every point of the grid; what stands in ``extra`` is not swept."""
    fixed = {o.partition("=")[0] for o in extra}
    keys = [key for key in experiment.grid if key not in fixed]
    if not keys:
        yield cell
        return
    for values in product(*(experiment.grid[key] for key in keys)):
        trial = tuple(f"{key}={value}" for key, value in zip(keys, values, strict=True))
        yield replace(cell, overrides=merged([*cell.overrides, *trial]), trial=trial)


def _excuse(experiment: Experiment, cell: Cell) -> str | None:
    reasons = (experiment.leave_out.get(name) for name in (cell.model, cell.method, cell.metric))
    return next((why for why in reasons if why), None)


def _named(experiment: Experiment, kind: str, name: str) -> str:
    own: dict[str, str] = getattr(experiment, kind)
    return own[name] if name in own else names()[kind][name]


def _task(experiment: Experiment, name: str) -> Task:
    general = names()["tasks"].get(name, {})
    own = experiment.tasks.get(name, {})
    own = {"run": own} if isinstance(own, str) else own
    if "run" in own and "run" in general:
        own = {**own, "run": f"{general['run']} {own['run']}"}
    return {**general, **own}


def _figure(task: Task, metric: str, unit: str) -> Figure:
    costs = names()["costs"]
    return Figure.parse(costs[metric][unit] if metric in costs else task["metrics"][metric])
