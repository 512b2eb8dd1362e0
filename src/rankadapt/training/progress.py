"""What the loggers hear of every few steps: loss and learning rate."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl


class StepMetrics(pl.Callback):
    """Logs ``train/loss`` (the whole optimizer step's, on this process) and ``train/lr``.

    Args:
        every: optimizer steps between two entries. Only then is the device waited for.
    """

    def __init__(self, every: int):
        self.every = every
        self._step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == self._step:
            return  # a micro-batch
        self._step = trainer.global_step
        if self._step % self.every == 0:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            values = {"train/loss": float(pl_module.step_loss), "train/lr": rate}
            for logger in trainer.loggers:
                logger.log_metrics(values, self._step)
        pl_module.step_loss.zero_()
