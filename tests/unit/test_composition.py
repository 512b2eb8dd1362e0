"""What a task or a recipe says is what is run: nothing later in the defaults list takes it back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from tests.composed import ROOT, composed

CONF = ROOT / "conf"
TASKS = sorted(str(p.relative_to(CONF / "task").with_suffix("")) for p in (CONF / "task").rglob("*.yaml"))
RECIPES = sorted(
    str(p.relative_to(CONF / "recipe").with_suffix("")) for p in (CONF / "recipe").rglob("*.yaml")
)


def leaves(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def said(file: Path) -> dict[str, Any]:
    """Every setting of a yaml file, read as OmegaConf reads it."""
    assert yaml.safe_load(file.read_text())
    content = OmegaConf.to_container(OmegaConf.load(file))
    return {k: v for k, v in leaves(content) if not k.startswith("defaults")}  # type: ignore[arg-type]


def check(file: Path, *overrides: str) -> None:
    config = dict(leaves(composed(*overrides)))
    for key, value in said(file).items():
        if str(value).startswith("${"):
            value = config[value[2:-1]]
        assert config[key] == value, key


@pytest.mark.parametrize("task", TASKS)
def test_a_task_gets_what_it_says(task: str) -> None:
    check(CONF / f"task/{task}.yaml", "method=lora", f"task={task}")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_gets_what_it_says(recipe: str) -> None:
    method, family, task, *model = recipe.split("/")
    check(
        CONF / f"recipe/{recipe}.yaml",
        f"method={method}",
        f"task={family}/{task}",
        *(f"model={m}" for m in model),
    )


def test_a_recipe_for_one_model_is_for_no_other() -> None:
    """HeBiRA, appendix D; PE-DyRA, Table 8."""
    said = {
        (method, model): composed(f"method={method}", "task=math/metamath", f"model={model}")["optimizer"][
            "lr"
        ]
        for method in ("hebira", "pedyra")
        for model in ("llama2_7b", "llama3_8b")
    }
    assert list(said.values()) == [2e-4, 1e-4, 2e-4, 5e-5]


def test_the_command_line_has_the_last_word() -> None:
    config = composed(
        "method=hebira", "task=glue/rte", "adapter.lora_alpha=8", "schedule.t_i=5", "model=minilm"
    )
    assert config["adapter"]["lora_alpha"] == 8
    assert config["schedule"]["t_i"] == 5
    assert config["model"]["name"] == "minilm"


def test_the_main_job_is_the_papers() -> None:
    """HeBiRA Table 19 and the AdaLoRA protocol for RTE."""
    config = composed("method=hebira", "task=glue/rte")
    assert config["model"]["name"] == "deberta_v3_base"
    assert config["schedule"] == {
        "_target_": "rankadapt.control.Schedule",
        "t_i": 300,
        "delta_t": 100,
        "t_f": 2600,
        "origin": "t_i",
    }
    assert config["optimizer"]["lr"] == 1.2e-3
    assert config["optimizer"]["warmup_steps"] == 200
    assert config["optimizer"]["weight_decay"] == 0.01
    assert config["adapter"]["lora_alpha"] == 32
    assert config["task"]["max_length"] == 320
    assert config["task"]["batch_size"] == 32
    assert config["trainer"]["max_epochs"] == 50
    assert config["evaluation"]["every_n_steps"] == 100
    assert config["policy"]["k"] == 12
    assert config["budget"]["rank"] == 8
