"""The base model and its tokenizer, from a configuration."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from rankadapt.adapters import adapted_layers
from rankadapt.errors import ModelError, Problem
from rankadapt.sources import Sources
from rankadapt.tasks.base import Task
from rankadapt.training.config import ModelConfig


def load_processor(config: ModelConfig, task: Task, sources: Sources) -> Any:
    """The model's tokenizer, or what else prepares its inputs.

    Raises:
        ModelError: it is nowhere to be found.
    """
    if config.tokenizer is None:
        return task.processor(sources.model(config.source, config.sha256))
    return task.processor(sources.model(config.tokenizer))


def build_model(config: ModelConfig, task: Task, sources: Sources) -> PreTrainedModel:
    """The base model with a fresh head for ``task``; random where ``config.config`` describes it.

    Raises:
        ModelError: the weights are nowhere to be found, damaged, or not of this architecture, which may also
            lack the attention that was asked for.
    """
    auto = getattr(transformers, task.auto_model)
    options: dict[str, Any] = {"dtype": getattr(torch, config.dtype)}
    if config.attention is not None:
        options["attn_implementation"] = config.attention
    transformers.logging.set_verbosity_error()  # the head is fresh: no warning that it is
    transformers.logging.disable_progress_bar()
    if config.config is not None:
        described = AutoConfig.for_model(**config.config, **task.head_kwargs())
        try:
            return auto.from_config(_with_dropout(described, config.classifier_dropout), **options)
        except (ImportError, ValueError) as error:
            raise ModelError(Problem("model", config.name, _first_line(error))) from error
    path = sources.model(config.source, config.sha256)
    try:
        described = AutoConfig.from_pretrained(path, **task.head_kwargs())
        return auto.from_pretrained(
            path, config=_with_dropout(described, config.classifier_dropout), **options
        )
    except Exception as error:
        reason = f"cannot be read as {task.auto_model}: {_first_line(error)}"
        raise ModelError(Problem(str(path), None, reason, "fetch the folder again")) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _with_dropout(config: PretrainedConfig, dropout: float | None) -> PretrainedConfig:
    """``config`` with the dropout before its classifier set, by whichever name the architecture has."""
    names = [n for n in ("cls_dropout", "classifier_dropout") if hasattr(config, n)]
    if dropout is not None and not names and config.model_type == "deberta-v2":
        names = ["cls_dropout"]  # read with getattr by the model, absent from most configurations
    for name in names if dropout is not None else []:
        setattr(config, name, dropout)
    return config


def count_parameters(model: nn.Module, head: Iterable[nn.Parameter]) -> dict[str, int]:
    """``head``: trained outside the adapters. ``adapter``: all else that is trained. ``base``: frozen."""
    heads = {id(p) for p in head}
    counts = {"head": 0, "adapter": 0, "base": 0}
    slots = {id(p) for _, layer in adapted_layers(model) for p in layer.slot_parameters().values()}
    for p in model.parameters():
        kind = "head" if id(p) in heads else "adapter" if p.requires_grad or id(p) in slots else "base"
        counts[kind] += _true_size(p)
    return counts


def _true_size(parameter: nn.Parameter) -> int:
    """Its number of weights; a 4-bit tensor packs two into a byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else math.prod(state.shape)
