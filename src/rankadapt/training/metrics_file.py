"""``metrics.csv``: every logged number as a row ``step,metric,value``, appended as it comes."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from rankadapt.training.files import replacing


class MetricsFile(Logger):
    """A Lightning logger. A resumed run goes on in the same file: what was logged after the checkpoint that
    it goes on from is dropped when it is logged again.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> int:
        return 0

    @rank_zero_only
    def resume_from(self, step: int, evaluated: bool = True) -> None:
        """Keep only the rows up to ``step`` of an earlier part of the run; of an evaluation at that step only
        if the checkpoint has it (``evaluated``): else it is made again."""
        if not self.path.exists():
            return

        def stays(row: list[str]) -> bool:
            if not row[0].isdigit() or int(row[0]) < step:
                return True
            return int(row[0]) == step and (evaluated or not row[1].startswith("eval/"))

        with self.path.open(newline="") as file:
            kept = [row for row in csv.reader(file) if stays(row)]
        with replacing(self.path) as beside, beside.open("w", newline="") as file:
            csv.writer(file).writerows(kept)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        fresh = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(("step", "metric", "value"))
            writer.writerows((step or 0, name, float(value)) for name, value in metrics.items())

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The configuration is in ``results.json``."""
