"""What the loggers hear of every few steps: loss, learning rate, and how large the gradients are."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from rankadapt.adapters import Adapters
from rankadapt.adapters.linear import AdaptedLinear
from rankadapt.control import Controller
from rankadapt.training.steps import OptimizerStepCallback


class StepMetrics(OptimizerStepCallback):
    """Logs ``train/loss`` (the whole optimizer step's, on this process) and ``train/lr``; ``train/penalty``
    apart from the loss; ``grad/A``, ``grad_rms/A`` and so on, see :func:`gradient_sizes`.

    Args:
        every: optimizer steps between two entries. Only then is anything computed, or the device waited for.
        controller: whose penalty and adapters' gradients to log, if there is one.
    """

    def __init__(self, every: int, controller: Controller | None = None):
        self.every, self.controller = every, controller
        self._gradients: dict[str, Tensor] = {}

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        if self.controller is not None and trainer.loggers and (trainer.global_step + 1) % self.every == 0:
            self._gradients = gradient_sizes(self.controller.adapters)

    def on_optimizer_step_end(self, trainer: pl.Trainer, pl_module: Any, batch_idx: int) -> None:
        step = trainer.global_step
        if step % self.every == 0:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            values = {"train/loss": float(pl_module.step_loss), "train/lr": rate}
            if self.controller is not None and self.controller.penalty_value is not None:
                values["train/penalty"] = float(self.controller.penalty_value)
            values |= {name: float(size) for name, size in self._gradients.items()}
            for logger in trainer.loggers:
                logger.log_metrics(values, step)
        pl_module.step_loss.zero_()


@torch.no_grad()
def gradient_sizes(adapters: Adapters) -> dict[str, Tensor]:
    """How large the gradient of each kind of parameter (``A``, ``B``, ``e``, ...) is over all modules: core
    and factors apart (PE-DyRA section 3.2.1, Fig. 11).

    The gradients are taken as they are. After :meth:`Controller.observe` they are whole, unscaled, not yet
    clipped, and have the penalty's share in them.

    Returns:
        ``grad/<kind>``, the L2 norm, and ``grad_rms/<kind>``, the root mean square of an entry: a core has
        fewer entries than a factor by orders of magnitude. Dead slots do not count. Scalars on the adapters'
        device, which is not waited for; none for what receives no gradient.
    """
    kinds: dict[str, list[Tensor]] = {}
    entries: dict[str, int] = {}
    for layer in adapters.layers:
        for name, parameter in (layer.slot_parameters() | layer.extra_parameters()).items():
            if parameter.grad is not None:
                kinds.setdefault(name, []).append(parameter.grad)
                entries[name] = entries.get(name, 0) + _entries(layer, name)
    sizes: dict[str, Tensor] = {}
    for name, gradients in kinds.items():
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        sizes |= {f"grad/{name}": norm, f"grad_rms/{name}": norm / max(entries[name], 1) ** 0.5}
    return sizes


def _entries(layer: AdaptedLinear, name: str) -> int:
    """How many entries of parameter ``name`` take part."""
    parameter, width = getattr(layer, name), layer.width
    if name in layer.extra_names:
        return parameter.numel()
    if name in layer.form.square:
        return width * (width + 1) // 2
    return width * parameter[0].numel()
