"""The LightningModule: loss of the task, its metrics, the optimizer. It knows nothing of ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from rankadapt.adapters import Adapters, adapted_layers
from rankadapt.errors import CheckpointError, Problem, TrainingError
from rankadapt.tasks.base import Task
from rankadapt.tasks.examples import EvaluationSet
from rankadapt.training.config import OptimizerConfig
from rankadapt.training.gather import on_first, united
from rankadapt.training.optim import build_lr_schedule, build_optimizer
from rankadapt.training.scoreboard import Scoreboard


class FineTuner(pl.LightningModule):
    """Fine-tunes ``model`` on ``task``.

    Args:
        model: with its adapters injected; what requires gradients is trained.
        task: loss and metrics.
        optimizer: learning rate and the like.
        total_steps: optimizer steps of the run, for the learning-rate schedule.
        evaluation: the evaluation sets, in the order of the loaders.
        processor: the model's tokenizer, or what stands for it.
        head: what is trained outside the adapters, for a learning rate of its own.
        adapters: whose activation energies leave padding out, if ``count_padding`` is False.

    Its state dict holds what is trained and the adapters' live masks: never the frozen base.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        optimizer: OptimizerConfig,
        total_steps: int,
        evaluation: Mapping[str, EvaluationSet],
        processor: Any = None,
        adapters: Adapters | None = None,
        count_padding: bool = True,
        head: Sequence[nn.Parameter] = (),
    ):
        super().__init__()
        self._head = tuple(head)
        self.model, self.task, self.adapters = model, task, adapters
        self.optimizer_config, self.total_steps, self.count_padding = optimizer, total_steps, count_padding
        self.evaluation, self.processor = dict(evaluation), processor
        self.names = list(evaluation)
        self.scoreboard = Scoreboard(self.metric_name(self.names[0], task.primary))
        self._predictions: list[dict[int, Any]] = [{} for _ in self.names]
        self.generations = {}
        self.strict_loading = False
        self.train()  # transformers hands models out without dropout, and Lightning leaves that as it is
        self.register_buffer("bad_step", torch.tensor(-1), persistent=False)
        self.register_buffer("step_loss", torch.zeros(()), persistent=False)

    bad_step: Tensor
    """The first step whose loss was not finite, -1 for none: kept on the device, so that no step waits."""
    step_loss: Tensor
    """The loss of the optimizer step so far; whoever logs it sets it back to zero."""

    generations: dict[str, Mapping[int, dict[str, Any]]]
    """Of the latest evaluation, what is kept of each example whose answer is a text, by evaluation set; only
    on the first process."""

    def head_names(self) -> list[str]:
        """The names in ``model`` of what is trained outside the adapters."""
        heads = {id(p) for p in self._head}
        return [name for name, p in self.model.named_parameters() if id(p) in heads]

    def metric_name(self, split: str, metric: str) -> str:
        """``accuracy``, or ``matched/accuracy`` where a task has several evaluation sets; a name with a set's
        already stays."""
        return metric if len(self.names) == 1 or "/" in metric else f"{split}/{metric}"

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        share, weights = batch.pop("share"), batch.pop("weight", None)
        self._weigh_tokens(batch, share)
        losses = self.task.losses(self.model(**self.task.model_inputs(batch)), batch)
        mean = losses.mean() if weights is None else (losses * weights).sum() / weights.sum()
        loss = mean * share
        bad = ~loss.detach().isfinite() & (self.bad_step < 0)
        self.bad_step = torch.where(bad, torch.full_like(self.bad_step, self.global_step + 1), self.bad_step)
        self.step_loss += loss.detach() / self.trainer.accumulate_grad_batches
        self.log("loss", mean.detach(), prog_bar=True, logger=False)
        return loss

    def refuse_bad_loss(self) -> None:
        """Raise a TrainingError if a loss was not finite. Syncs the device: call it now and then."""
        step = int(self.bad_step)
        if step >= 0:
            raise TrainingError(_overflow(step, "the training loss is not finite"))

    def refuse_bad_weights(self) -> None:
        """Raise a TrainingError if a loss was not finite, or if what is trained no longer is: nothing may go
        on from there. Syncs the device."""
        self.refuse_bad_loss()
        trained = [p.detach() for p in self.parameters() if p.requires_grad]
        if not torch.stack(torch._foreach_norm(trained, torch.inf)).isfinite().all():
            raise TrainingError(_overflow(self.global_step, "the step left weights that are not finite"))

    def _weigh_tokens(self, batch: dict[str, Tensor], share: float) -> None:
        if self.adapters is not None:
            tokens = self.adapters.tokens
            tokens.values = () if self.count_padding else self.task.token_masks(batch)
            tokens.void = share == 0  # a stand-in, where the global batch has no example for this process

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        found = self.task.predict(self.model, batch, self.processor)
        self._predictions[dataloader_idx].update(zip(batch["index"].tolist(), found, strict=True))

    def on_validation_epoch_start(self) -> None:
        self._predictions = [{} for _ in self.names]

    def on_validation_epoch_end(self) -> None:
        predictions = [united(mine) for mine in self._predictions]
        self._predictions = [{} for _ in self.names]
        values = on_first(lambda: self._scores(predictions))
        self.scoreboard.add(self.global_step, values)
        named = {f"eval/{k}": v for k, v in values.items()}
        self.log_dict(named, logger=False, rank_zero_only=True)  # for other callbacks
        for logger in self.trainer.loggers:  # Lightning would file them one step early
            logger.log_metrics(named, self.global_step)

    def _scores(self, predictions: list[dict[int, Any]]) -> dict[str, float]:
        """Every metric of every evaluation set, by the name under which it is filed."""
        given: dict[str, Mapping[int, Any]] = dict(zip(self.names, predictions, strict=True))
        self.generations = {
            name: found.judge(given[name])
            for name, found in self.evaluation.items()
            if found.judge is not None
        }
        given |= self.generations
        scores = {name: found.score(given[name]) for name, found in self.evaluation.items()}
        named = {self.metric_name(name, k): v for name, metrics in scores.items() for k, v in metrics.items()}
        return named | self.task.overall(scores)

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self.model, self.optimizer_config, self._head)
        schedule = build_lr_schedule(optimizer, self.optimizer_config, self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """What is trained, and what else the adapted layers hold of their own: live masks, what is set aside,
        factors that are frozen."""
        wanted = {name for name, p in self.named_parameters() if p.requires_grad}
        for path, layer in adapted_layers(self.model):
            wanted |= {f"model.{path}.{name}" for name in layer.own_names()}
        everything = super().state_dict(*args, **kwargs)
        return {k: v for k, v in everything.items() if k in wanted}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load what :meth:`state_dict` gave.

        Raises:
            CheckpointError: it is of another model: names or shapes differ.
        """
        mine = self.state_dict()
        problems = [Problem(k, None, "is missing in the checkpoint") for k in mine.keys() - state_dict.keys()]
        problems += [Problem(k, None, "is not in this model") for k in state_dict.keys() - mine.keys()]
        problems += [
            Problem(k, list(state_dict[k].shape), f"has the shape {list(mine[k].shape)} in this model")
            for k in mine.keys() & state_dict.keys()
            if mine[k].shape != state_dict[k].shape
        ]
        if problems:
            more = len(problems) - 5
            shown = sorted(problems, key=str)[:5] + (
                [Problem("...", None, f"{more} more")] if more > 0 else []
            )
            raise CheckpointError(shown)
        return super().load_state_dict(state_dict, strict=False, assign=assign)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["scoreboard"] = [dict(entry) for entry in self.scoreboard.entries]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.scoreboard.entries = [dict(entry) for entry in checkpoint["scoreboard"]]


def _overflow(step: int, reason: str) -> Problem:
    remedy = (
        "lower optimizer.lr, or raise optimizer.warmup_steps; checkpoints/ holds the last good one, if any"
    )
    return Problem(f"step {step}", None, reason, remedy)
