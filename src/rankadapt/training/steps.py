"""The moment after an optimizer step, for callbacks: Lightning only tells when a micro-batch has ended."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl


class OptimizerStepCallback(pl.Callback):
    """Calls :meth:`on_optimizer_step_end` once per optimizer step, whatever the number of micro-batches."""

    _stepped = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._stepped = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step != self._stepped:
            self._stepped = trainer.global_step
            self.on_optimizer_step_end(trainer, pl_module, batch_idx)

    def on_optimizer_step_end(self, trainer: pl.Trainer, pl_module: Any, batch_idx: int) -> None:
        """``trainer.global_step`` steps are taken; ``batch_idx`` is the last micro-batch of this one."""
