"""The runs of an experiment as the jobs of a sweep, in stages: what is tuned is tuned before it is
reported."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rankadapt.errors import ConfigError, Problem
from rankadapt.papers.cells import Planned, Run, cells
from rankadapt.papers.experiments import Experiment, Overrides, experiment
from rankadapt.papers.progress import Look, all_runs, due, looking, reported

OF_THE_SWEEP = ("experiment", "seed", "resume")


@dataclass
class Sweep:
    """``python train.py -m experiment=<name> [seed=1,2,3] [any other override for all runs]``.

    Attributes:
        planned: its cells, with the overrides ``extra`` for all runs.
        output: where runs are.
        seeds: others than the experiment's own; None for those.
    """

    experiment: Experiment
    planned: list[Planned]
    output: Path
    seeds: tuple[int, ...] | None = None
    extra: Overrides = ()
    _started: set[Run] = field(default_factory=set)

    @classmethod
    def parse(cls, name: str, arguments: list[str], folder: Path, output: Path) -> Sweep:
        """Of the experiment ``name``, with what else stands on the command line.

        Raises:
            ConfigError: there is no such experiment, or an argument would itself sweep.
        """
        given = dict(a.partition("=")[::2] for a in arguments)
        extra = tuple(a for a in arguments if a.partition("=")[0] not in OF_THE_SWEEP)
        found = experiment(folder, name)
        return cls(found, cells(found, extra), output.absolute(), _seeds(given.get("seed")), extra)

    def runs(self, look: Look) -> list[Run]:
        """Every run that is known now."""
        final = reported(self.experiment, self.planned, look)
        return all_runs(self.experiment, self.planned, final, self.seeds)

    def jobs(self) -> list[list[str]]:
        """The jobs to start now, none twice; empty at the end. A stage follows when the one before it is
        complete, and never if a run of it failed."""
        look = looking(self.output)
        new = [run for run in due(self.runs(look), look) if run not in self._started]
        self._started.update(new)
        return [[*run.arguments, "resume=true"] for run in new]


def _seeds(text: str | None) -> tuple[int, ...] | None:
    """``1,2,3`` as numbers; None for None.

    Raises:
        ConfigError: it is something else.
    """
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(Problem("seed", text, "is not a list of whole numbers", "seed=1,2,3")) from None
