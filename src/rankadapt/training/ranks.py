"""The controller's host in Lightning: calls it at the two right moments of every step."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch.optim import Optimizer

from rankadapt.control import Controller
from rankadapt.training.steps import OptimizerStepCallback


class RankCallback(OptimizerStepCallback):
    """Runs ``controller`` over a fit of ``total_steps`` optimizer steps.

    It observes in ``on_before_optimizer_step``, where gradients are accumulated over micro-batches and
    processes, unscaled, and not yet clipped, and adjusts once the optimizer has stepped.
    """

    def __init__(self, controller: Controller, total_steps: int):
        self.controller, self.total_steps = controller, total_steps

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.controller.start(self.total_steps)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        if overflowed(trainer, optimizer):
            self.controller.skip()
        else:
            self.controller.observe()

    def on_optimizer_step_end(self, trainer: pl.Trainer, pl_module: Any, batch_idx: int) -> None:
        change = self.controller.adjust(trainer.global_step, trainer.optimizers[0])
        if change is not None:
            adapters = self.controller.adapters
            ranks = dict(zip(adapters.names, adapters.ranks(), strict=True))
            for logger in trainer.loggers:
                logger.log_metrics({f"rank/{n}": r for n, r in ranks.items()}, trainer.global_step)

    def on_train_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.controller.finish(trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        return self.controller.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.controller.load_state_dict(state_dict)


def overflowed(trainer: pl.Trainer, optimizer: Optimizer) -> bool:
    """Whether fp16 gradients overflowed, so that the loss scaler will skip the step. Where there is no
    scaler this is False at no cost; where there is one, it waits for the device at every step itself."""
    if getattr(trainer.precision_plugin, "scaler", None) is None:
        return False
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return not bool(torch.stack(torch._foreach_norm(gradients)).isfinite().all())
