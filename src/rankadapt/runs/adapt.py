"""A base model made trainable as a configuration says."""

from __future__ import annotations

from dataclasses import replace

from torch import nn
from transformers import PreTrainedModel

from rankadapt.adapters import EVA, Form, Whole, inject
from rankadapt.adapters.inject import linear_targets, matching
from rankadapt.adapters.quantize import quantize_frozen
from rankadapt.errors import ModelError
from rankadapt.runs.plan import RankPlan
from rankadapt.training.config import RunConfig
from rankadapt.training.loader import TrainLoader


def adapt(
    config: RunConfig, base: PreTrainedModel, ranks: RankPlan, survey: TrainLoader
) -> tuple[nn.Module, list[nn.Parameter]]:
    """Freeze ``base`` and adapt it, in place.

    Args:
        survey: the training data as every process sees it alike, for an init that looks at inputs.

    Returns:
        The model to train, and its head: what is trained in full outside the adapters.

    Raises:
        ModelError: the model lacks what the adaptation needs.
    """
    head = head_parameters(base, config.model.trainable)
    model: nn.Module = base
    if isinstance(config.form, Form):
        _inject(config, config.form, base, _surveyed(config, config.form, base, ranks, survey))
    elif isinstance(config.form, Whole):
        model = install(config, config.form, base)
    for parameter in head:
        parameter.requires_grad_(True)
    quantize_frozen(model, config.quantization)
    if config.trainer.gradient_checkpointing:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if config.compile:
        model.compile()
    return model, head


def head_parameters(model: PreTrainedModel, patterns: list[str] | None) -> list[nn.Parameter]:
    """What ``model`` trains in full: the modules that fit ``patterns``, or if there are None, all that the
    architecture has outside its encoder but an output embedding."""
    if patterns is None:
        kept = (getattr(model, model.base_model_prefix, None), model.get_output_embeddings())
        if kept[0] is None:  # T5 has its encoder and decoder at the top
            return []
        modules = [child for child in model.children() if all(child is not k for k in kept)]
    else:
        modules = list(matching(model, patterns, "model.trainable").values()) if patterns else []
    return list({id(p): p for module in modules for p in module.parameters()}.values())


def _inject(config: RunConfig, form: Form, model: nn.Module, ranks: RankPlan) -> None:
    inject(
        model,
        config.model.targets,
        form,
        ranks.initial,
        ranks.slots + form.reserve,
        config.adapter,
        seed=config.seed,
        combine=config.combine,
        storage=config.policy.storage,
        init=config.init,
    )


def _surveyed(
    config: RunConfig, form: Form, model: nn.Module, ranks: RankPlan, survey: TrainLoader
) -> RankPlan:
    init = config.init
    if not isinstance(init, EVA):
        return ranks
    targets = linear_targets(model, config.model.targets)
    batches = (survey.micro_batch(i) for i in range(min(init.batches, len(survey))))
    task = config.task
    init.survey(model, targets, ((task.model_inputs({**b}), task.token_masks(b)) for b in batches))
    budget = config.budget
    costs = [form.count(1, layer.in_features, layer.out_features) for layer in targets.values()]
    paid = costs if budget.unit == "parameters" else None
    initial = init.ranks(targets, ranks.initial, budget.min_rank, budget.max_rank or 2 * budget.rank, paid)
    return replace(ranks, initial=initial, slots=max(ranks.slots, *initial))


def install(config: RunConfig, form: Whole, model: PreTrainedModel) -> nn.Module:
    """Freeze ``model`` and install an adaptation without slots, in place; the model to train.

    Raises:
        ModelError: the model lacks what the adaptation needs.
    """
    targets = linear_targets(model, config.model.targets)
    if problems := form.problems(model.config.model_type, list(targets)):
        raise ModelError(problems)
    model.requires_grad_(False)
    return form.install(model, targets, config.budget.rank, config.seed)
