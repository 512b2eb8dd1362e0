"""Sums before training: steps and events of the papers, ranks and slots, parameters of the real models."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from rankadapt.adapters import Adapters, Form, inject
from rankadapt.errors import ConfigError
from rankadapt.runs.plan import Horizon, plan_horizon, plan_ranks
from rankadapt.runs.records import parameter_record
from rankadapt.training.config import RunConfig
from rankadapt.training.validation import parse
from tests.composed import METHODS, ROOT, composed

TASKS = sorted(
    str(f.relative_to(ROOT / "conf/task").with_suffix("")) for f in (ROOT / "conf/task").rglob("*.yaml")
)

PAPER = {
    # task: examples, epochs, steps, rank events (HeBiRA Table 19: t_i, delta_t, t_f over batches of 32)
    "mnli": (392_702, 7, 85_904, 17),
    "sst2": (67_349, 24, 50_520, 24),
    "cola": (8_551, 35, 9_380, 16),
    "qqp": (363_846, 9, 102_339, 17),
    "qnli": (104_743, 5, 16_370, 10),
    "rte": (2_490, 50, 3_900, 10),
    "mrpc": (3_668, 30, 3_450, 11),
    "stsb": (5_749, 25, 4_500, 11),
}


@pytest.mark.parametrize("task", PAPER)
def test_steps_and_events_of_the_paper(task: str) -> None:
    config = parse(composed("method=hebira", f"task=glue/{task}"))
    examples, epochs, steps, events = PAPER[task]
    horizon = plan_horizon(config, examples)
    assert config.task.batch_size == 32
    assert config.trainer.max_epochs == epochs
    assert (horizon.steps, horizon.events) == (steps, events)
    assert horizon.steps_per_epoch == math.ceil(examples / 32)


MODELS = {
    "code": "llama2_7b",
    "commonsense": "llama_7b",
    "demo": "minilm",
    "glue": "deberta_v3_base",
    "images": "vit_base",
    "images/digits": "tiny_vit",
    "math": "llama2_7b",
    "squad": "deberta_v3_base",
    "summarization/cnn_dailymail": "t5_small",
    "summarization/xsum": "bart_large",
    "summarization": "",
}
"""The model that each task, or each task of a family, chooses by itself."""
ROWS = {"metamath": 100_000, "python": 104_848}
"""Training rows for which the papers' schedules are made, where a short run has no room for them."""


@pytest.mark.parametrize(
    ("task", "method"), [(t, "hebira") for t in TASKS] + [("demo/entailment", m) for m in METHODS]
)
def test_every_task_goes_with_every_method(task: str, method: str) -> None:
    config = parse(composed(f"method={method}", f"task={task}"))
    assert (config.method, config.task.name) == (method, task)
    assert config.model.name == MODELS.get(task, MODELS[task.partition("/")[0]])
    name = task.partition("/")[2]
    examples = ROWS.get(name) or PAPER.get(name, (635,))[0]
    horizon = plan_horizon(config, examples)
    assert plan_ranks(config, range(36), horizon).final == 36 * 8
    assert bool(horizon.events) == config.policy.moves_ranks


def test_there_are_32_tasks() -> None:
    assert len(TASKS) == 32


def test_a_model_on_the_command_line_wins_over_the_tasks_own() -> None:
    config = parse(composed("model=minilm", "task=glue/rte", "method=hebira"))
    assert config.model.name == "minilm"
    assert config.schedule is not None
    assert config.schedule.t_i == 300  # and the recipe is still the task's


def planned(*overrides: str) -> tuple[RunConfig, Horizon]:
    """Two hundred steps of HeBiRA."""
    config = parse(composed("method=hebira", "trainer.max_steps=200", *overrides))
    return config, plan_horizon(config, 4000)


def test_max_steps_wins_over_epochs() -> None:
    config = parse(composed("trainer.max_steps=7", "trainer.max_epochs=3"))
    assert plan_horizon(config, 100).steps == 7
    config = parse(composed("trainer.max_steps=null", "trainer.max_epochs=2.5", "policy=static"))
    assert plan_horizon(config, 100).steps == 10  # of 4 batches an epoch


def test_static_methods_have_no_events_and_no_spare_slots() -> None:
    config = parse(composed("method=lora", "budget=r4"))
    horizon = plan_horizon(config, 4000)
    assert (horizon.timetable, horizon.events) == (None, 0)
    plan = plan_ranks(config, range(36), horizon)
    assert (plan.initial, plan.slots, plan.budget) == ([4] * 36, 4, 144)


def test_slots_suffice_for_all_that_the_schedule_can_deal() -> None:
    config, horizon = planned("schedule.t_i=0", "schedule.delta_t=50", "schedule.t_f=0", "policy.k=13")
    assert horizon.events == 4
    assert plan_ranks(config, range(12), horizon).slots == 8 + 4 * 2  # two of 13 may go to one of 12 modules
    config, horizon = planned("budget.max_rank=9")
    assert plan_ranks(config, range(12), horizon).slots == 9


@pytest.mark.parametrize(("policy", "sign"), [("prune_only", 1), ("expand_only", -1)])
def test_a_budget_that_is_met_at_the_end(policy: str, sign: int) -> None:
    """HeBiRA's Table 14: the run starts with more or fewer, as evenly as whole numbers allow."""
    schedule = ["schedule.t_i=0", "schedule.delta_t=50", "schedule.t_f=0", "policy.k=5"]
    config, horizon = planned(f"policy={policy}", "budget.match=final", *schedule)
    plan = plan_ranks(config, range(12), horizon)
    assert plan.budget == 12 * 8 + sign * 4 * 5
    assert max(plan.initial) - min(plan.initial) <= 1
    config, horizon = planned(f"policy={policy}", *schedule)
    assert plan_ranks(config, range(12), horizon).budget == 12 * 8


def test_no_room_for_the_start() -> None:
    config, horizon = planned("policy=prune_only", "budget.match=final", "budget.max_rank=8")
    with pytest.raises(ConfigError, match=r"budget.max_rank = 8: modules start with rank"):
        plan_ranks(config, range(12), horizon)


PUBLISHED: dict[str, dict[str, Any]] = {
    "deberta_v3_base": {
        "model_type": "deberta-v2",
        "vocab_size": 128_100,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 512,
        "relative_attention": True,
        "position_buckets": 256,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "type_vocab_size": 0,
        "pooler_hidden_size": 768,
        "pooler_dropout": 0,
        "pooler_hidden_act": "gelu",
    },
    "roberta_base": {"model_type": "roberta", "vocab_size": 50_265, "max_position_embeddings": 514},
    "roberta_large": {
        "model_type": "roberta",
        "vocab_size": 50_265,
        "max_position_embeddings": 514,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
}
"""The public config.json of each model, as far as it decides shapes."""


@pytest.mark.parametrize(
    ("model", "modules", "budget", "head"),
    [
        ("deberta_v3_base", 72, 1_327_104, 768 * 768 + 768 + 768 * 2 + 2),
        ("roberta_base", 72, 1_327_104, 768 * 768 + 768 + 768 * 2 + 2),
        ("roberta_large", 144, 3_538_944, 1024 * 1024 + 1024 + 1024 * 2 + 2),
    ],
)
def test_parameters_of_the_real_models_at_rank_8(model: str, modules: int, budget: int, head: int) -> None:
    """On the meta device: shapes without weights. 1.33 M is what the papers' tables have for r = 8."""
    config = parse(composed("method=lora", "task=glue/rte", f"model={model}", "budget=r8"))
    with torch.device("meta"):
        described = AutoConfig.for_model(**PUBLISHED[model], num_labels=2)
        built = AutoModelForSequenceClassification.from_config(described)
        assert isinstance(config.form, Form)
        inject(
            built,
            config.model.targets,
            config.form,
            8,
            8,
            config.adapter,
            ["classifier", *["pooler"] * ("deberta" in model)],
        )
    adapters = Adapters(built)
    slots = {id(p) for layer in adapters.layers for p in layer.slot_parameters().values()}
    trained = sum(p.numel() for p in built.parameters() if p.requires_grad and id(p) not in slots)
    assert len(adapters) == modules
    assert parameter_record(adapters, {})["budget"] == budget
    assert trained == head
