"""What a run would be, from its configuration alone: modules, parameters, events, memory. No weight and no
row of data is read; the model is built on the meta device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import transformers
import yaml
from torch import nn
from transformers import AutoConfig, PretrainedConfig

from rankadapt.adapters import Form, Whole, adapted_layers, inject, spread
from rankadapt.adapters.collection import block_numbers
from rankadapt.adapters.inject import linear_targets
from rankadapt.papers.published import DATA
from rankadapt.runs.adapt import head_parameters, install
from rankadapt.runs.plan import BYTES_TRAINED, Horizon, RankPlan, plan_horizon, plan_ranks
from rankadapt.sources import Sources
from rankadapt.training.config import RunConfig

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Outline:
    """A run in figures.

    Attributes:
        modules: adapted linear layers.
        steps: optimizer steps; events: rank events among them.
        directions: live ones at the start and at the end (the most, where a policy may stop short); (0, 0)
            for an adaptation without slots.
        parameters: trained at the start and at the end, the head left out; ranks spread evenly.
        head: parameters of the task's head. total: of everything, at the end.
        memory: bytes of weights, gradients and optimizer, before activations.
    """

    modules: int
    steps: int
    events: int
    directions: tuple[int, int]
    parameters: tuple[int, int]
    head: int
    total: int
    memory: int


def outline(config: RunConfig, train_examples: int) -> Outline:
    """The run of ``config`` over so many training examples.

    Raises:
        ConfigError: its sums do not come out: no event fits the horizon, or the budget not the policy.
        ModelError: the model is not known by its shape, or lacks what the adaptation needs.
    """
    horizon = plan_horizon(config, train_examples)
    model = build_on_meta(config)
    base = sum(p.numel() for p in model.parameters())
    head = sum(p.numel() for p in head_parameters(model, config.model.trainable))
    targets = linear_targets(model, config.model.targets)
    weights = (base - head) * BYTES[config.model.dtype]
    if config.quantization.kind != "none":  # two weights per byte
        weights -= int(sum(t.weight.numel() for t in targets.values()) * (BYTES[config.model.dtype] - 0.5))
    if isinstance(config.form, Whole):
        trained, added = _installed(config, config.form, model)
        counts, live, allocated = (trained, trained), (0, 0), trained
    elif isinstance(config.form, Form):
        counts, live, allocated = _slotted(config, config.form, model, targets, horizon)
        added = counts[1]
    return Outline(
        modules=len(targets),
        steps=horizon.steps,
        events=horizon.events,
        directions=live,
        parameters=counts,
        head=head,
        total=base + added,
        memory=weights + (allocated + head) * BYTES_TRAINED,
    )


def _slotted(
    config: RunConfig, form: Form, model: nn.Module, targets: dict[str, Any], horizon: Horizon
) -> tuple[tuple[int, int], tuple[int, int], int]:
    """(parameters, directions) at the start and at the end, and the parameters of all slots."""
    sizes = [(t.in_features, t.out_features) for t in targets.values()]
    plan: RankPlan = plan_ranks(config, block_numbers(targets), horizon, sizes)
    slots = plan.slots + form.reserve
    with torch.device("meta"):
        inject(model, config.model.targets, form, 1, 1, config.adapter, combine=config.combine)
    extra = sum(p.numel() for _, layer in adapted_layers(model) for p in layer.extra_parameters().values())
    final = spread(plan.final, len(sizes))
    start, end, room = (
        extra + sum(form.count(rank, *size) for rank, size in zip(ranks, sizes, strict=True))
        for ranks in (plan.initial, final, [slots] * len(sizes))
    )
    return (start, end), (plan.budget, plan.final), room


def _installed(config: RunConfig, form: Whole, model: transformers.PreTrainedModel) -> tuple[int, int]:
    """Parameters that the adaptation trains outside the head, and those that it adds to the model."""
    head = {id(p) for p in head_parameters(model, config.model.trainable)}
    before = sum(p.numel() for p in model.parameters())
    with torch.device("meta"):
        adapted = install(config, form, model)
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad and id(p) not in head)
    return trained, sum(p.numel() for p in adapted.parameters()) - before


def build_on_meta(config: RunConfig) -> transformers.PreTrainedModel:
    """The base model with the task's head, without weights."""
    described = _described(config)
    with torch.device("meta"):
        return getattr(transformers, config.task.auto_model).from_config(described)


def _described(config: RunConfig) -> PretrainedConfig:
    model, head = config.model, config.task.head_kwargs()
    shape = model.config or architectures().get(model.name)
    if shape is not None:
        return AutoConfig.for_model(**shape, **head)
    path = Sources(config.paths.mirror, config.paths.cache).model(model.source, model.sha256)
    return AutoConfig.from_pretrained(path, **head)


@cache
def architectures() -> dict[str, dict[str, Any]]:
    """``data/architectures.yaml``: keyword arguments of ``AutoConfig.for_model``, by name in conf/model."""
    return yaml.safe_load((DATA / "architectures.yaml").read_text(encoding="utf-8"))
