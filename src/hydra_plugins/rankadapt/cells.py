"""``python train.py -m experiment=hebira/table03``: a Hydra sweep over the runs of an experiment.

Each job is one run with ``resume=true``, started by whichever launcher is chosen. What is complete, or being
run by another process, is not started; what was interrupted goes on. Without ``experiment=`` this is Hydra's
own sweeper. Hydra imports this file at every start, so its own imports wait until there is a sweep.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore


class Cells(BasicSweeper):
    """Hydra's sweeper, which knows experiments too."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run every job of ``arguments``: of an experiment, or of their product."""
        name = next((a.partition("=")[2] for a in arguments if a.startswith("experiment=")), None)
        if name is None:
            return super().sweep(arguments)
        from rankadapt.papers.sweeps import Sweep

        assert self.config is not None
        assert self.launcher is not None
        conf = next(s.path for s in self.config.hydra.runtime.config_sources if s.provider == "main")
        sweep = Sweep.parse(name, arguments, Path(conf) / "experiment", Path(self.config.paths.output))
        Path(self.config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        returns: list[Any] = []
        while jobs := sweep.jobs():
            for batch in self.split_overrides_to_chunks(jobs, self.max_batch_size):
                returns.append(self.launcher.launch(batch, initial_job_idx=sum(map(len, returns))))
        return returns


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="cells",
    node={"_target_": "hydra_plugins.rankadapt.cells.Cells", "max_batch_size": None, "params": None},
    provider="rankadapt",
)
