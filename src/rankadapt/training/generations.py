"""``generations/*.jsonl``: what was generated for each example, beside what was asked and what was right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from rankadapt.training.files import replacing


class GenerationsWriter(pl.Callback):
    """Writes the texts of an evaluation after the first step, on the first process.

    ``<set>-last.jsonl`` is of the latest evaluation, ``<set>-best.jsonl`` of the best one. Every line says
    the step, and a file is whole or not there. A task whose answers are no texts leaves nothing.

    Args:
        folder: of the files.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        board = pl_module.scoreboard
        if not trainer.is_global_zero or board.last is None:
            return
        stages = ("last", "best") if board.best is board.last else ("last",)
        for name, examples in pl_module.generations.items():
            self.folder.mkdir(exist_ok=True)
            for stage in stages:
                self._write(self.folder / f"{name}-{stage}.jsonl", trainer.global_step, examples)

    def _write(self, path: Path, step: int, examples: dict[int, dict[str, Any]]) -> None:
        with replacing(path) as beside, beside.open("w", encoding="ascii") as file:
            for number, line in examples.items():
                # Escaped to ASCII: what a model writes may hold characters at which readers break lines.
                file.write(json.dumps({"step": step, "example": number, **line}) + "\n")
