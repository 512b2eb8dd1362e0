"""What the loggers hear of every few steps: loss and learning rate."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from rankadapt.training.steps import OptimizerStepCallback


class StepMetrics(OptimizerStepCallback):
    """Logs ``train/loss`` (the whole optimizer step's, on this process) and ``train/lr``.

    Args:
        every: optimizer steps between two entries. Only then is the device waited for.
    """

    def __init__(self, every: int):
        self.every = every

    def on_optimizer_step_end(self, trainer: pl.Trainer, pl_module: Any, batch_idx: int) -> None:
        step = trainer.global_step
        if step % self.every == 0:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            values = {"train/loss": float(pl_module.step_loss), "train/lr": rate}
            for logger in trainer.loggers:
                logger.log_metrics(values, step)
        pl_module.step_loss.zero_()
