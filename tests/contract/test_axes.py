"""Every value on every axis, found in ``conf``, with every other that it can meet: twelve steps, the laws."""

from __future__ import annotations

import pytest
import torch

from rankadapt.runs.session import Session, build_session
from tests.composed import ROOT, small
from tests.contract.test_methods import trained


def values(group: str, without: str) -> list[str]:
    return sorted(p.stem for p in (ROOT / "conf" / group).glob("*.yaml") if p.stem != without)


SCORERS = values("scorer", without="none")
POLICIES = values("policy", without="static")
FORMS = values("form", without="")


def after_training(*overrides: str) -> Session:
    made = build_session(small("hebira", "form.std=0.2", *overrides))
    trained(made, 12)
    return made


def check_laws(made: Session) -> None:
    """The budget is what the policy says, and dead slots are zero."""
    events, ranks = made.horizon.events, torch.tensor(made.adapters.ranks())
    assert ranks.sum() == made.ranks.budget + made.config.policy.growth(events)
    assert (ranks >= made.controller.limits.minimum).all()
    assert (ranks <= made.controller.limits.maximum).all()
    for layer in made.adapters.layers:
        assert layer.live.sum() == layer.rank
        assert not any(p[layer.rank :].any() for p in layer.slot_parameters().values())


def test_the_axes_are_found() -> None:
    assert SCORERS == ["activation", "gradient", "hebbian", "random"]
    assert POLICIES == ["bidirectional", "expand_only", "prune_only"]
    assert FORMS == ["ba", "bea"]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("scorer", SCORERS)
def test_every_scorer_with_every_policy(scorer: str, policy: str) -> None:
    made = after_training(f"scorer={scorer}", f"policy={policy}")
    check_laws(made)
    assert made.adapters.ranks() != made.ranks.initial


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scorer", SCORERS)
def test_every_scorer_on_every_form(scorer: str, form: str) -> None:
    check_laws(after_training(f"scorer={scorer}", f"form={form}"))


@pytest.mark.parametrize("reset", ["changed", "new", "all", "none"])
def test_every_way_to_reset_the_optimizer(reset: str) -> None:
    check_laws(after_training(f"control.optimizer_reset={reset}"))


@pytest.mark.parametrize("policy", ["expand_only", "prune_only"])
def test_one_sided_policies_can_end_with_the_budget(policy: str) -> None:
    """HeBiRA Table 14: another initial rank, the same final one."""
    made = after_training(f"policy={policy}", "budget.match=final")
    assert sum(made.adapters.ranks()) == 8 * len(made.adapters)
    assert made.ranks.budget != 8 * len(made.adapters)


@pytest.mark.parametrize(
    "options", [["policy.aggregator=mean"], ["policy.k=20"], ["adapter.scaling=initial"]]
)
def test_the_other_options(options: list[str]) -> None:
    """``k`` larger than the 12 modules goes round again."""
    check_laws(after_training(*options))


def test_the_scale_follows_the_rank_or_stays() -> None:
    moving = after_training().adapters.layers
    alpha = moving[0].options.lora_alpha
    assert all(float(layer.scale) == pytest.approx(alpha / layer.rank) for layer in moving)
    fixed = after_training("adapter.scaling=initial").adapters.layers
    assert all(float(layer.scale) == pytest.approx(alpha / 8) for layer in fixed)
