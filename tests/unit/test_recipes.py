"""Recipes say what the papers' tables say, and their events fit into the papers' runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rankadapt.papers import Cell, tables
from rankadapt.policies import CubicBudget
from rankadapt.policies.growth import Growth
from rankadapt.runs.plan import plan_horizon, plan_ranks
from rankadapt.training.config import RunConfig
from rankadapt.training.validation import parse
from tests.composed import ROOT, composed

RECIPES = sorted(
    str(p.relative_to(ROOT / "conf/recipe").with_suffix("")) for p in (ROOT / "conf/recipe").rglob("*.yaml")
)
TASKS = {
    "MNLI": "glue/mnli",
    "SST-2": "glue/sst2",
    "CoLA": "glue/cola",
    "QQP": "glue/qqp",
    "QNLI": "glue/qnli",
    "RTE": "glue/rte",
    "MRPC": "glue/mrpc",
    "STS-B": "glue/stsb",
    "XSum": "summarization/xsum",
    "SQuADv2.0": "squad/v2",
}
ROWS = {
    "glue/mnli": 392_702,
    "glue/sst2": 67_349,
    "glue/cola": 8_551,
    "glue/qqp": 363_846,
    "glue/qnli": 104_743,
    "glue/rte": 2_490,
    "glue/mrpc": 3_668,
    "glue/stsb": 5_749,
    "squad/v1": 87_599,
    "squad/v2": 130_319,
    "summarization/xsum": 204_045,
    "summarization/cnn_dailymail": 287_113,
    "commonsense/all": 170_420,
    "math/metamath": 100_000,
    "code/python": 104_848,
    "images/cifar100": 50_000,
    "images/food101": 75_750,
    "images/flowers102": 1_020,
    "images/resisc45": 18_900,
    "demo/entailment": 4_000,
}
"""Training rows of the papers' data."""

Read = Callable[[RunConfig], Any]
TRAINING: dict[str, Read] = {
    "lr": lambda c: c.optimizer.lr,
    "batch_size": lambda c: c.task.batch_size,
    "epochs": lambda c: c.trainer.max_epochs,
    "t_i": lambda c: c.schedule.t_i,  # type: ignore[union-attr]
    "delta_t": lambda c: c.schedule.delta_t,  # type: ignore[union-attr]
    "t_f": lambda c: c.schedule.t_f,  # type: ignore[union-attr]
    "k": lambda c: c.policy.k,  # type: ignore[attr-defined]
    "gamma": lambda c: c.penalty.weight,  # type: ignore[union-attr]
}
"""Setting of HeBiRA's and PE-DyRA's tables -> where it is."""


def grown(config: RunConfig) -> int:
    assert isinstance(config.policy, Growth)
    return config.policy.step(config.budget.rank)


def shrunk(config: RunConfig) -> int:
    assert isinstance(config.policy, CubicBudget)
    return config.policy.starting_rank(config.budget.rank)


SHARED: dict[str, Read] = {
    "batch_size": TRAINING["batch_size"],
    "number_of_epochs": TRAINING["epochs"],
    "learning_rate": TRAINING["lr"],
    "incre_rank_num": grown,
    "weight_decay": lambda c: c.optimizer.weight_decay,
    "warm_up_steps": lambda c: c.optimizer.warmup_steps,
    "reference_rank_r_ref": lambda c: c.budget.rank,
    "alpha_alpha": lambda c: c.adapter.lora_alpha,
    "lora_dropout": lambda c: c.adapter.dropout,
    "max_sequence_length": lambda c: c.task.max_length,  # type: ignore[attr-defined]
    "incre_interval": TRAINING["delta_t"],
    "reg_orth_coef": TRAINING["gamma"],
}
"""Setting of TriAdaptLoRA's tables -> where it is; of its own rows."""
OF_ADALORA: dict[str, Read] = {
    "init_warm_up": TRAINING["t_i"],
    "final_warm_up": TRAINING["t_f"],
    "mask_interval": TRAINING["delta_t"],
    "warm_up_steps_ratio": SHARED["warm_up_steps"],
    "initial_lora_rank_r": shrunk,
}
"""Of its rows for AdaLoRA."""
MRPC_WARMUP = {("MRPC", "warm_up_steps_ratio"): 345}
"""A share of 0.1 of 3,450 steps."""


def configured(method: str, task: str, *more: str) -> RunConfig:
    return parse(composed(f"method={method}", f"task={task}", *more))


def settings(*names: str) -> list[Cell]:
    return [cell for name in names for cell in tables()[name].cells]


def label(cell: Cell) -> str:
    return f"{cell.task}-{cell.metric}"


@pytest.mark.parametrize(
    "cell", [c for c in settings("hebira/table19_hyperparameters") if c.task in TASKS], ids=label
)
def test_hebira_table_19(cell: Cell) -> None:
    assert TRAINING[cell.metric](configured("hebira", TASKS[cell.task])) == cell.number


@pytest.mark.parametrize(
    "cell",
    settings("pedyra/table07_hyperparameters_glue", "pedyra/table09_hyperparameters_xsum_squad"),
    ids=label,
)
def test_pedyra_tables_7_and_9(cell: Cell) -> None:
    assert TRAINING[cell.metric](configured("pedyra", TASKS[cell.task])) == cell.number


@pytest.mark.parametrize(
    "cell",
    settings("triadaptlora/table05_hyperparameters_glue", "triadaptlora/table06_hyperparameters_squad2"),
    ids=label,
)
def test_triadaptlora_tables_5_and_6(cell: Cell) -> None:
    printed = MRPC_WARMUP.get((cell.task, cell.metric), cell.value)
    if cell.metric in ("beta1", "beta2") or printed == "default":
        return
    if cell.metric in OF_ADALORA:
        assert OF_ADALORA[cell.metric](configured("adalora", TASKS[cell.task])) == float(printed)
    else:
        config = configured("triadaptlora", TASKS[cell.task], "penalty=orthogonal_mean")
        assert SHARED[cell.metric](config) == float(printed)


@pytest.mark.parametrize("recipe", RECIPES)
def test_events_fit_the_run(recipe: str) -> None:
    method, family, name, *model = recipe.split("/")
    task = f"{family}/{name}"
    config = configured(method, task, *(f"model={m}" for m in model))
    horizon = plan_horizon(config, ROWS[task])
    plan_ranks(config, range(72), horizon)
    if horizon.timetable is None:
        assert not config.policy.moves_ranks
        return
    events = horizon.timetable.events()
    assert horizon.timetable.t_i < events[0]
    assert events[-1] <= horizon.steps - horizon.timetable.t_f
    assert len(events) >= 8


@pytest.mark.parametrize("task", [task for task in TASKS.values() if task.startswith("glue/")])
@pytest.mark.parametrize("method", ["increlora", "triadaptlora"])
def test_growth_on_glue_has_room_for_the_whole_budget(method: str, task: str) -> None:
    """Rank 8 in 72 modules, from rank 1: 504 directions."""
    config = configured(method, task)
    events = plan_horizon(config, ROWS[task]).events
    at_once = config.policy.top_h if method == "increlora" else 72  # type: ignore[attr-defined]
    assert events * at_once * grown(config) >= 504


def test_what_an_event_of_increlora_adds_is_in_reserve() -> None:
    for task in TASKS.values():
        config = configured("increlora", task, "budget=r2" if task == "summarization/xsum" else "budget=r8")
        assert config.form.reserve >= grown(config)  # type: ignore[attr-defined]


@pytest.mark.parametrize("recipe", [r for r in RECIPES if r.startswith("lalora/")])
def test_lalora_adapts_queries_and_values(recipe: str) -> None:
    """As the shares of trained parameters in its tables have it: docs/parameters.md."""
    _, family, name, model = recipe.split("/")
    targets = configured("lalora", f"{family}/{name}", f"model={model}").model.targets
    assert targets
    assert all(
        t.rpartition(".")[2] in {"q_proj", "v_proj", "query_proj", "value_proj", "q", "v"} for t in targets
    )
    assert len(configured("lora", f"{family}/{name}", f"model={model}").model.targets) > len(targets)
