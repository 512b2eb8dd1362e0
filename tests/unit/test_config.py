"""What the composed configuration chooses by itself."""

from __future__ import annotations

import pytest

from rankadapt.training.validation import parse
from tests.composed import ROOT, composed


def test_the_command_without_arguments_is_the_demo() -> None:
    config = parse(composed())
    assert (config.method, config.task.name, config.model.name) == ("hebira", "demo/entailment", "minilm")
    assert config.trainer.max_steps == 200
    assert config.form.std == 0.2  # of recipe/hebira/demo/entailment.yaml


SCRIPTED = ["seed", "trainer.max_steps", "trainer.max_epochs", "schedule.t_i", "schedule.delta_t"]
SCRIPTED += ["schedule.t_f", "policy.k", "task.max_train_examples", "task.max_eval_examples"]
SCRIPTED += ["paths.mirror", "logger", "resume", "dry_run"]


def test_names_that_scripts_rely_on() -> None:
    values = composed("method=hebira", "task=glue/rte")
    for name in SCRIPTED:
        node = values
        for key in name.split("."):
            assert key in node, name
            node = node[key]


def test_a_method_does_not_name_models_or_tasks() -> None:
    """A method is a choice on each axis; what suits a task is a recipe's."""
    for file in (ROOT / "conf/method").glob("*.yaml"):
        text = file.read_text()
        assert "override /task" not in text
        assert "override /model" not in text


@pytest.mark.parametrize("rank", [2, 4, 8, 16, 32])
def test_budgets(rank: int) -> None:
    assert parse(composed(f"budget=r{rank}")).budget.rank == rank


def test_the_command_line_wins_over_task_and_recipe() -> None:
    chosen = ["optimizer.lr=0.5", "schedule.t_i=7", "trainer.max_epochs=2", "task.batch_size=3"]
    config = parse(composed("method=hebira", "task=glue/mrpc", *chosen))
    assert config.schedule is not None
    assert config.optimizer.lr == 0.5
    assert (config.schedule.t_i, config.schedule.delta_t) == (7, 150)
    assert (config.trainer.max_epochs, config.task.batch_size) == (2, 3)


def test_the_seed_reaches_the_scorer_that_draws() -> None:
    assert composed("scorer=random", "seed=11")["scorer"]["seed"] == 11
