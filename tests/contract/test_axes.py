"""Every value on every axis, found in ``conf``, with others that it can meet: twelve steps, the laws.

One configuration per method is composed; the sections of the others are put into it, because composing takes
as long as training here. tests/contract/test_combinations.py composes.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from rankadapt.errors import ConfigError
from rankadapt.runs.session import Session, build_session
from rankadapt.scorers import Hebbian
from rankadapt.training.config import RunConfig
from rankadapt.training.validation import parse
from scripts.combination_table import moving, plain, slotted_forms, values
from tests.composed import FEW, RANK_EVENTS, SMALL, composed
from tests.contract.test_methods import first_batch, optimizer_step, trained

SCORERS = [s for s in values("scorer") if s != "none"]
POLICIES = moving()
FORMS = slotted_forms()
MEANT_FOR = {
    "bidirectional": "hebbian",
    "bidirectional_mean": "gradient_aware_input",
    "contribution_budget": "truncated_norm",
    "cubic_budget": "sensitivity",
    "expand_only": "activation",
    "incremental": "dense_sensitivity",
    "prune_only": "gradient",
    "threshold_growth": "core_norm_change",
    "truncate": "singular_value",
}
"""A scorer for every policy: its paper's, if that has one."""
NEEDS = {
    "truncate": ["adapter.scaling=initial"],
    "contribution_budget": ["form=ba", "policy.gamma=50"],  # twelve steps are few
    "bea_ahead": ["policy=incremental"],
}
"""What a policy or form cannot do without."""


@cache
def base(method: str) -> dict[str, Any]:
    """The configuration of a run of a second, with rank events."""
    return composed(f"method={method}", *SMALL, *RANK_EVENTS, "form.std=0.2")


def configured(*overrides: str, method: str = "hebira") -> RunConfig:
    """As the command line would have it with these overrides: groups first, then single settings."""
    raw = copy.deepcopy(base(method))
    pairs = [override.partition("=")[::2] for override in overrides]
    for group, value in [pair for pair in pairs if "." not in pair[0]]:
        raw[group] = copy.deepcopy(plain(group, value))
    policy = raw["policy"]
    policy |= {key: few for key, few in FEW.items() if policy.get(key) is not None}
    if "std" in raw["form"]:
        raw["form"]["std"] = 0.2
    for key, value in [pair for pair in pairs if "." in pair[0]]:
        section, _, name = key.partition(".")
        raw[section][name] = yaml.safe_load(value)
    return parse(raw)


def after_training(*overrides: str, method: str = "hebira") -> Session:
    made = build_session(configured(*overrides, method=method))
    trained(made, 12)
    return made


def check_laws(made: Session) -> None:
    """Ranks are within bounds, directions as many as the policy says, dead slots zero."""
    ranks, limits = torch.tensor(made.adapters.ranks()), made.controller.limits
    assert (ranks >= limits.minimum).all()
    assert (ranks <= limits.maximum).all()
    if made.config.budget.unit == "directions":
        check_budget(made, int(ranks.sum()))
    for layer in made.adapters.layers:
        assert layer.live.sum() == layer.rank
        held = layer.rank + (layer.form.reserve if layer.reserves else 0)
        if made.adapters.storage != "in_place":  # where the cores of dead slots regrow between events
            assert not any(p[held:].any() for p in layer.slot_parameters().values())


def check_budget(made: Session, directions: int) -> None:
    ends = made.config.policy.ends()
    assert directions == made.ranks.final or ends != "exactly"
    assert directions <= made.ranks.final or ends == "anywhere"


def events(made: Session) -> list[dict[str, list[int]]]:
    """What happened to the modules at each event, in model order: ``rank``, ``born``, ``pruned``."""
    steps: dict[int, dict[str, list[int]]] = {}
    for row in made.controller.trace.rows:
        if row["step"]:
            event = steps.setdefault(row["step"], {"rank": [], "born": [], "pruned": []})
            for key, values in event.items():
                values.append(row[key])
    return list(steps.values())


def test_the_axes_are_found() -> None:
    assert SCORERS == [
        "activation", "core_norm_change", "dense_sensitivity", "fisher", "gradient", "gradient_aware",
        "gradient_aware_input", "hebbian", "random", "sensitivity", "singular_value", "truncated_norm",
    ]  # fmt: skip
    assert sorted(MEANT_FOR) == POLICIES
    assert set(values("policy")) - set(POLICIES) == {"static", "sampled", "linear_depth"}
    assert FORMS == ["ba", "ba_frozen", "bea", "bea_ahead", "tri"]
    assert set(values("form")) - set(FORMS) == {
        "adapterdrop", "bitfit", "full", "houlsby", "parallel", "peft", "pfeiffer", "prefix", "randlora",
        "rasa", "series", "vera",
    }  # fmt: skip
    assert values("combine") == ["add", "dora", "hira"]
    assert values("init") == ["default", "eva", "milora", "pissa"]
    assert values("quantization") == ["nf4", "none"]
    assert values("penalty") == ["none", "orthogonal", "orthogonal_mean"]
    assert values("sparsity") == ["none", "rows"]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("scorer", ["its own", "hebbian"])
def test_every_policy(policy: str, scorer: str) -> None:
    chosen = MEANT_FOR[policy] if scorer == "its own" else scorer
    made = after_training(f"scorer={chosen}", f"policy={policy}", *NEEDS.get(policy, []))
    check_laws(made)
    assert any(any(event["born"]) or any(event["pruned"]) for event in events(made))


@pytest.mark.parametrize("policy", sorted(set(values("policy")) - set(POLICIES)))
def test_policies_that_move_no_rank(policy: str) -> None:
    made = after_training(f"policy={policy}", "scorer=none", "schedule=none")
    check_laws(made)
    assert made.adapters.ranks() == made.ranks.initial


@pytest.mark.parametrize("scorer", SCORERS)
def test_every_scorer(scorer: str) -> None:
    made = after_training(f"scorer={scorer}", "policy=bidirectional")
    check_laws(made)
    assert made.adapters.ranks() != made.ranks.initial


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scorer", ["hebbian", "sensitivity", "random"])
def test_every_form(scorer: str, form: str) -> None:
    made = after_training(f"scorer={scorer}", f"form={form}", *NEEDS.get(form, []))
    check_laws(made)
    assert made.adapters.ranks() != made.ranks.initial


def test_growth_goes_on_where_the_reserve_has_been_dropped() -> None:
    """A policy that grows beyond the budget: its later directions are drawn as in any other form."""
    made = after_training("form=bea_ahead", "policy=expand_only", "scorer=random")
    check_laws(made)
    assert not made.adapters.reserves
    for layer in made.adapters.layers:
        assert all(
            p[: layer.rank].view(layer.rank, -1).any(1).all() for p in layer.slot_parameters().values()
        )


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


@pytest.mark.parametrize(
    ("method", "with_what"),
    [
        ("hebira", ["combine=dora"]),
        ("hebira", ["combine=hira", "adapter.scale_by=one"]),
        ("hebira", ["quantization=nf4"]),
        ("pedyra", ["init=pissa"]),
        ("pedyra", ["combine=dora"]),
        ("pedyra", ["quantization=nf4"]),
    ],
)
def test_the_combinations_of_the_papers(method: str, with_what: list[str]) -> None:
    """HeBiRA Table 4 and PE-DyRA Table 3, and the like."""
    made = after_training(*with_what, method=method)
    check_laws(made)
    assert len(events(made)) == 4
    for event in events(made):
        assert sum(event["rank"]) == 8 * len(made.adapters)
        assert sum(event["born"]) == sum(event["pruned"]) == 3


def test_as_many_moves_as_pay() -> None:
    made = after_training("policy.k=auto", "policy.margin=1.1")
    check_laws(made)
    moved = [sum(event["born"]) for event in events(made)]
    assert all(0 <= moves <= 8 * len(made.adapters) // 10 for moves in moved)
    assert any(moved)
    fewer = [sum(event["born"]) for event in events(after_training("policy.k=auto", "policy.k_max=1"))]
    assert max(fewer) <= 1


def test_between_equals_no_move_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hebbian, "raw", lambda self, reading: torch.ones(reading.shape))
    made = after_training("policy.k=auto", "policy.margin=1.01")
    assert made.adapters.ranks() == made.ranks.initial
    assert sum(sum(event["pruned"]) for event in events(made)) == 0
    assert after_training("policy.k=3").adapters.ranks() != made.ranks.initial


@pytest.mark.parametrize("policy", ["bidirectional", "incremental", "threshold_growth", "cubic_budget"])
def test_a_budget_of_parameters_is_never_exceeded(policy: str) -> None:
    made = after_training(f"policy={policy}", "budget.unit=parameters")
    check_laws(made)
    costs = made.adapters.parameter_costs()
    assert len(set(costs)) > 1
    spent = [sum(r * c for r, c in zip(event["rank"], costs, strict=True)) for event in events(made)]
    bounded = spent[-1:] if policy == "cubic_budget" else spent  # which comes down to it
    assert all(0 < parameters <= 8 * sum(costs) for parameters in bounded)
    assert made.adapters.ranks() != made.ranks.initial


def test_a_budget_of_directions_is_what_there_is_without_the_option() -> None:
    made, usual = after_training("budget.unit=directions"), after_training()
    assert events(made) == events(usual)
    assert all(sum(event["rank"]) == 8 * len(made.adapters) for event in events(made))


def logits_around_an_event(form: str, new_direction: str) -> tuple[Tensor, Tensor]:
    """Before and after the first event of a policy that only adds directions."""
    made = build_session(
        configured(
            f"form={form}", "policy=expand_only", f"form.new_direction={new_direction}", "form.new_std=0.2"
        )
    )
    optimizer = made.module.configure_optimizers()["optimizer"]
    made.controller.start(made.horizon.steps)
    for number in range(1, 4):
        optimizer_step(made, optimizer, number)
    made.module.eval()
    before = logits(made)
    change = made.controller.adjust(4, optimizer)
    assert change is not None
    assert change.born.sum() == 3
    assert not change.pruned.any()
    return before, logits(made)


@torch.no_grad()
def logits(made: Session) -> Tensor:
    return made.module.model(**first_batch(made)).logits


@pytest.mark.parametrize("form", ["ba", "bea", "tri"])
def test_a_new_direction_can_leave_the_output_as_it_is(form: str) -> None:
    before, after = logits_around_an_event(form, "preserving")
    torch.testing.assert_close(after, before, atol=2e-6, rtol=1e-5)
    before, after = logits_around_an_event(form, "small")
    assert (after - before).abs().max() > 1e-4


@pytest.mark.parametrize("policy", ["cubic_budget", "contribution_budget"])
def test_preserving_is_refused_where_no_direction_is_new(policy: str) -> None:
    overrides = [f"policy={policy}", f"scorer={MEANT_FOR[policy]}", *NEEDS.get(policy, [])]
    configured(*overrides, "form.new_direction=small")
    with pytest.raises(ConfigError, match=r"form\.new_direction.*no new one to draw"):
        configured(*overrides, "form.new_direction=preserving")


@pytest.mark.parametrize("form", ["ba", "bea", "tri"])
def test_eva_spends_the_parameters_of_even_ranks_and_not_one_more(form: str) -> None:
    """At rank 5 the core counts: by ``d_in + d_out`` alone one direction too many would be taken."""
    overrides = [f"form={form}", "budget.unit=parameters", "budget.rank=5"]
    adapters = build_session(configured(*overrides, method="eva")).adapters
    costs = adapters.parameter_costs()
    spent = sum(rank * cost for rank, cost in zip(adapters.ranks(), costs, strict=True))
    assert 5 * sum(costs) - min(costs) < spent <= 5 * sum(costs)
    assert len(set(adapters.ranks())) > 1
