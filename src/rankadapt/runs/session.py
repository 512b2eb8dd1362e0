"""Everything that a run needs, built from its configuration in the order in which it can fail fastest."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch

from rankadapt.adapters import Adapters
from rankadapt.adapters.collection import block_numbers
from rankadapt.adapters.inject import linear_targets
from rankadapt.control import Controller, ControlOptions
from rankadapt.runs.adapt import adapt
from rankadapt.runs.build import build_model, count_parameters, load_processor
from rankadapt.runs.plan import Horizon, RankPlan, plan_horizon, plan_ranks
from rankadapt.sources import Sources
from rankadapt.tasks.examples import TaskData
from rankadapt.training.config import RunConfig
from rankadapt.training.loader import EvalLoader, Share, TrainLoader
from rankadapt.training.module import FineTuner
from rankadapt.training.optim import rates


@dataclass
class Session:
    """A run that is ready to start."""

    config: RunConfig
    data: TaskData
    horizon: Horizon
    ranks: RankPlan
    module: FineTuner
    adapters: Adapters
    controller: Controller
    train: TrainLoader
    evaluation: list[EvalLoader]
    parameters: dict[str, int]
    share: Share

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must share with the run that goes on from it."""
        config = self.config
        return {
            "model": config.model.source,
            "task": config.task.name,
            "form": type(config.form).__name__,
            "policy": type(config.policy).__name__,
            "scorer": type(config.scorer).__name__,
            "init": type(config.init).__name__,
            "combine": type(config.combine).__name__,
            "quantization": config.quantization.kind,
            "modules": len(self.adapters),
            "slots": self.adapters.slots,
            "steps": self.horizon.steps,
            "batch_size": config.task.batch_size,
            "train_examples": len(self.data.train),
            "processes": self.share.world,
            "accumulate": self.share.accumulate,
            "seed": config.seed,
        }


def build_session(config: RunConfig) -> Session:
    """Weights are looked for first (it takes no time to miss them), then data, then sums, then the model.

    Raises:
        RankAdaptError: whatever is missing or does not fit.
    """
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    share = Share(
        rank=int(os.environ.get("RANK", 0)),
        world=int(os.environ.get("WORLD_SIZE", 1)),
        accumulate=config.trainer.accumulate_grad_batches,
    )
    sources = Sources(config.paths.mirror, config.paths.cache)
    processor = load_processor(config.model, config.task, sources)
    data = config.task.load(processor, sources, config.seed)
    horizon = plan_horizon(config, len(data.train))
    pl.seed_everything(config.seed, verbose=False)
    base = build_model(config.model, config.task, sources)
    config.task.join(base, processor)
    targets = linear_targets(base, config.model.targets)
    sizes = [(layer.in_features, layer.out_features) for layer in targets.values()]
    ranks = plan_ranks(config, block_numbers(targets), horizon, sizes)
    collate = partial(_collate, config.task, processor)
    survey = TrainLoader(
        data.train, collate, config.task.batch_size, horizon.steps, Share(0, 1, 1), config.seed
    )
    model, head = adapt(config, base, ranks, survey)
    adapters = Adapters(model, may_be_empty=True)
    module = FineTuner(
        model,
        config.task,
        config.optimizer,
        horizon.steps,
        data.evaluation,
        processor,
        adapters,
        config.control.count_padding,
        head,
    )
    torch.manual_seed(config.seed * 1009 + share.rank)  # dropout differs between processes
    return Session(
        config=config,
        data=data,
        horizon=horizon,
        ranks=ranks,
        module=module,
        adapters=adapters,
        controller=_controller(config, adapters, horizon.steps),
        train=TrainLoader(data.train, collate, config.task.batch_size, horizon.steps, share, config.seed),
        evaluation=[
            EvalLoader(found.examples, collate, config.task.eval_batch_size, share)
            for found in data.evaluation.values()
        ],
        parameters=count_parameters(model, head),
        share=share,
    )


def _controller(config: RunConfig, adapters: Adapters, steps: int) -> Controller:
    budget, unit = config.budget, config.budget.unit
    costs = adapters.parameter_costs() if unit == "parameters" else [1] * len(adapters)
    options = ControlOptions(
        min_rank=budget.min_rank,
        max_rank=budget.max_rank,
        optimizer_reset=config.control.optimizer_reset,
        count_padding=config.control.count_padding,
        seed=config.seed,
        budget=budget.rank * sum(costs) or None,
        unit=unit,
        restarted=rates(config.optimizer, steps) if config.control.restart_warmup else None,
    )
    return Controller(
        adapters, config.policy, config.scorer, config.schedule, options, config.penalty, config.sparsity
    )


def _collate(
    task: Any, processor: Any, examples: list[dict[str, Any]], pad_to: int
) -> dict[str, torch.Tensor]:
    return task.collate(examples, processor, pad_to)
