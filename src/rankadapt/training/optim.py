"""The optimizer and its learning-rate schedule: AdamW as in the AdaLoRA protocol."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from rankadapt.adapters import adapted_layers
from rankadapt.control import Rates
from rankadapt.training.config import OptimizerConfig

DECAYS = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def build_optimizer(model: nn.Module, config: OptimizerConfig, head: Iterable[nn.Parameter] = ()) -> AdamW:
    """AdamW over what is trainable; biases and normalisation weights are not decayed (A, B and e are).

    Args:
        head: what is trained outside the adapters, for a learning rate of its own. LoRA+'s code also gives
            the head's biases the rate of B; here the head keeps its own.
    """
    exempt = {id(p) for m in model.modules() if _is_norm(m) for p in m.parameters(recurse=False)}
    ups = {id(layer.slot_parameters().get("B")) for _, layer in adapted_layers(model)}
    heads = {id(p) for p in head}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decayed = id(parameter) not in exempt and not name.endswith("bias")
            lr = config.lr * config.b_lr_ratio if id(parameter) in ups else config.lr
            lr = config.head_lr if id(parameter) in heads and config.head_lr else lr
            groups.setdefault((lr, config.weight_decay if decayed else 0.0), []).append(parameter)
    settings: dict[str, Any] = {"lr": config.lr, "betas": tuple(config.betas), "eps": config.eps}
    parameters = [{"params": ps, "lr": lr, "weight_decay": decay} for (lr, decay), ps in groups.items()]
    return AdamW(parameters, fused=config.fused, **settings)


def build_lr_schedule(optimizer: torch.optim.Optimizer, config: OptimizerConfig, steps: int) -> LRScheduler:
    """Linear warm-up, then ``config.decay`` to the end of ``steps`` optimizer steps."""
    warmup = rates(config, steps).warmup
    return get_scheduler(DECAYS[config.decay], optimizer, num_warmup_steps=warmup, num_training_steps=steps)


def rates(config: OptimizerConfig, steps: int) -> Rates:
    """The same schedule as a function, for what begins later than the run."""
    warmup = round(config.warmup_ratio * steps) if config.warmup_steps is None else config.warmup_steps
    return Rates(warmup=warmup, decay=config.decay)


def _is_norm(module: nn.Module) -> bool:
    return "Norm" in type(module).__name__
