"""How much of the ranks is used while training: HeBiRA Eq. 21 and Fig. 1, PE-DyRA Fig. 1a."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from rankadapt.adapters import Adapters
from rankadapt.analysis.effective_rank import effective_ranks
from rankadapt.errors import ConfigError, Problem
from rankadapt.export.peft import folded_factors
from rankadapt.training.steps import OptimizerStepCallback


class Spectrum(OptimizerStepCallback):
    """Logs ``spectrum/effective_rank`` and ``spectrum/utilisation``, means over the modules that have a rank.

    A singular value decomposition of an r x r matrix for each module, on the host: some tenths of a second
    for a base model, so every hundred steps rather than every ten.

    Args:
        every: optimizer steps between two entries.
        adapters: of the model.
    """

    def __init__(self, every: int, adapters: Adapters):
        self.every, self.adapters = every, adapters

    def on_optimizer_step_end(self, trainer: pl.Trainer, pl_module: Any, batch_idx: int) -> None:
        step = trainer.global_step
        if step % self.every or not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            logger.log_metrics(spectrum(pl_module.model, self.adapters), step)


def spectrum(model: Any, adapters: Adapters) -> dict[str, float]:
    """The entries for the update as it stands."""
    ranks = dict(zip(adapters.names, adapters.ranks(), strict=True))
    found = effective_ranks(folded_factors(model) or {}, ranks)
    means = found[found["nominal"] > 0].mean()
    return {f"spectrum/{name}": float(means[of]) for name, of in NAMES.items()}


NAMES = {"effective_rank": "effective", "utilisation": "utilisation"}


def refuse_unfolded(model: Any, every: int) -> None:
    """Raise a ConfigError if a spectrum is asked for of an update that has none."""
    if not folded_factors(model):
        reason = "this update is not a product of low-rank factors (DoRA, HiRA, bottlenecks, full)"
        raise ConfigError(Problem("evaluation.spectrum_every_n_steps", every, reason, "set it to null"))
