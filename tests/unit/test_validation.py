"""From plain values to typed objects. What is refused, and how: tests/contract/test_bad_input.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from rankadapt.adapters import BA, BEA
from rankadapt.control import Schedule
from rankadapt.errors import ConfigError
from rankadapt.policies import Bidirectional, Static
from rankadapt.runs.commandline import near_keys
from rankadapt.scorers import Hebbian
from rankadapt.training.validation import parse
from tests.composed import composed


def test_plugins_become_objects_of_their_classes() -> None:
    config = parse(composed("method=hebira", "policy.k=5", "scorer.beta=0.5"))
    assert config.policy == Bidirectional(k=5, aggregator="min")
    assert config.scorer == Hebbian(beta=0.5)
    assert isinstance(config.schedule, Schedule)
    assert isinstance(config.form, BEA)
    static = parse(composed("method=lora", "scorer=none", "schedule=none"))
    assert isinstance(static.form, BA)
    assert (static.policy, static.scorer, static.schedule) == (Static(), None, None)


def test_a_plugin_swapped_on_the_command_line_brings_its_own_parameters() -> None:
    """``method=lora policy=...`` must not inherit what another plug-in's file has set."""
    config = parse(composed("method=hebira", "policy=static", "scorer=none", "schedule=none"))
    assert (config.policy, config.scorer, config.schedule) == (Static(), None, None)
    assert parse(composed("method=hebira", "scorer=random", "seed=5")).scorer.seed == 5  # type: ignore[union-attr]


def test_parsing_changes_nothing_of_what_it_is_given() -> None:
    values = composed("method=hebira")
    before = OmegaConf.create(values)
    parse(values)
    parse(values)
    assert OmegaConf.create(values) == before


def test_an_omegaconf_node_with_a_missing_value_is_named() -> None:
    values = OmegaConf.create(composed())
    values.budget.rank = "???"
    with pytest.raises(ConfigError) as raised:
        parse(values)
    assert [p.path for p in raised.value.problems] == ["budget.rank"]


def test_a_section_that_is_left_out() -> None:
    values = composed()
    del values["budget"]
    with pytest.raises(ConfigError, match="budget: is missing"):
        parse(values)


def test_a_plugin_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file on the path is enough: no code here needs to know it."""
    code = "from dataclasses import dataclass\nfrom rankadapt.policies import Static\n"
    code += "@dataclass(kw_only=True)\nclass Mine(Static):\n    strength: int = 3\n"
    (tmp_path / "mine_for_tests.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    values = composed("method=lora", "policy._target_=mine_for_tests.Mine", "+policy.strength=4")
    assert parse(values).policy.strength == 4  # type: ignore[attr-defined]
    values["policy"]["strength"] = "strong"
    with pytest.raises(ConfigError, match=r"policy.strength = 'strong'"):
        parse(values)


KNOWN = [
    "budget",
    "budget.rank",
    "budget.max_rank",
    "policy.k",
    "model",
    "model.name",
    "task",
    "task.name",
    "seed",
]


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("rank", ["budget.rank"]),
        ("k", ["policy.k"]),
        ("name", ["model.name", "task.name"]),
        ("budget.rnak", ["budget.rank"]),
        ("polcy.k", ["policy.k"]),
        ("model.foo", []),
        ("anything", []),
        ("sed", ["seed"]),
    ],
)
def test_near_keys(key: str, near: list[str]) -> None:
    assert near_keys(key, KNOWN) == near


@pytest.mark.parametrize(
    ("value", "kept"), [("00:10:00", "00:10:00"), ("90", 90.0), ("1.5", 1.5), ("null", None)]
)
def test_time_limits(value: str, kept: Any) -> None:
    assert parse(composed(f"trainer.max_time={value}")).trainer.max_time == kept
