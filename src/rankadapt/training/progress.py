"""What the loggers hear of every few steps: loss and learning rate."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from rankadapt.control import Controller
from rankadapt.training.steps import OptimizerStepCallback


class StepMetrics(OptimizerStepCallback):
    """Logs ``train/loss`` (the whole optimizer step's, on this process) and ``train/lr``; ``train/penalty``
    apart from the loss.

    Args:
        every: optimizer steps between two entries. Only then is the device waited for.
        controller: whose penalty to log, if it has one.
    """

    def __init__(self, every: int, controller: Controller | None = None):
        self.every, self.controller = every, controller

    def on_optimizer_step_end(self, trainer: pl.Trainer, pl_module: Any, batch_idx: int) -> None:
        step = trainer.global_step
        if step % self.every == 0:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            values = {"train/loss": float(pl_module.step_loss), "train/lr": rate}
            if self.controller is not None and self.controller.penalty_value is not None:
                values["train/penalty"] = float(self.controller.penalty_value)
            for logger in trainer.loggers:
                logger.log_metrics(values, step)
        pl_module.step_loss.zero_()
