"""An experiment and what its runs left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rankadapt.papers.cells import Planned, Run
from rankadapt.papers.experiments import Experiment
from rankadapt.papers.progress import Progress, all_runs, looking, reported


@dataclass
class Found:
    """An experiment and what its runs left: ``planned`` cells, the ``final`` ones among them (of tuned arms),
    the ``seeds`` to report, which ``stage`` counts (``best`` or ``last``), and the progress of every run."""

    experiment: Experiment
    planned: list[Planned]
    final: list[Planned]
    seeds: tuple[int, ...]
    stage: str
    runs: dict[Run, Progress]

    def values(self, cell: Planned, stage: str | None = None) -> dict[int, float]:
        """Seed -> the cell's figure at ``stage``, for the runs that are complete."""
        found = {}
        for seed in self.seeds:
            state = self.runs.get(Run(cell.overrides, seed))
            value = cell.figure.read(state.record, stage or self.stage) if state and state.record else None
            if value is not None:
                found[seed] = value
        return found


def find(
    experiment: Experiment,
    planned: list[Planned],
    output: Path,
    seeds: Sequence[int] | None = None,
    stage: str = "best",
) -> Found:
    """Look for every run of ``experiment`` below ``output``."""
    look = looking(output)
    final = reported(experiment, planned, look)
    runs = {run: look(run) for run in all_runs(experiment, planned, final, seeds)}
    return Found(experiment, planned, final, tuple(seeds or experiment.seeds), stage, runs)
