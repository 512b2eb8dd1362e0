"""The optimizer and its learning-rate schedule: AdamW as in the AdaLoRA protocol."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from rankadapt.training.config import OptimizerConfig

DECAYS = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> AdamW:
    """AdamW over what is trainable; biases and normalisation weights are not decayed (A, B and e are)."""
    exempt = {id(p) for m in model.modules() if _is_norm(m) for p in m.parameters(recurse=False)}
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[id(parameter) not in exempt and not name.endswith("bias")].append(parameter)
    settings: dict[str, Any] = {"lr": config.lr, "betas": tuple(config.betas), "eps": config.eps}
    decays = {True: config.weight_decay, False: 0.0}
    parameters = [{"params": ps, "weight_decay": decays[decayed]} for decayed, ps in groups.items() if ps]
    return AdamW(parameters, fused=config.fused, **settings)


def build_lr_schedule(optimizer: torch.optim.Optimizer, config: OptimizerConfig, steps: int) -> LRScheduler:
    """Linear warm-up, then ``config.decay`` to the end of ``steps`` optimizer steps."""
    warmup = config.warmup_steps
    if warmup is None:
        warmup = round(config.warmup_ratio * steps)
    return get_scheduler(DECAYS[config.decay], optimizer, num_warmup_steps=warmup, num_training_steps=steps)


def _is_norm(module: nn.Module) -> bool:
    return "Norm" in type(module).__name__
