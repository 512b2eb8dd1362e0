"""The architectures beyond those of test_methods.py (T5, RoBERTa, ViT) through the laws, by some methods."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rankadapt.adapters import Form
from rankadapt.runs.session import Session, build_session
from rankadapt.training.config import RunConfig
from tests.composed import DIGITS, run_undrawn, small
from tests.contract.test_generation import config as summaries
from tests.contract.test_methods import (
    LEARNS_AT,
    ROUNDED,
    base_outputs,
    first_batch,
    freeze_the_head,
    optimizer_step,
)
from tests.contract.test_resume import end_of, same, stop_after

torch.set_num_threads(1)

MODELS = ["tiny_t5", "tiny_roberta", "tiny_vit"]
RATES = {"tiny_roberta": 0.005}
"""Learning rates other than 0.02, for methods that have none of their own."""
METHODS = ["lora", "hebira", "triadaptlora", "lalora", "adalora", "dora", "full"]
"""Static and dynamic, in place and fresh, shrinking, growing, per block, with a norm, and all weights."""
PAIRS = [(method, model) for model in MODELS for method in METHODS]
STEPS, EVENTS = 12, [4, 6, 8, 10]


@dataclass
class Life:
    """What a session went through: outputs right after injection, with the base model's; then twelve steps on
    one batch, the head frozen; then outputs before and after merging."""

    made: Session
    fresh: Tensor
    base: Tensor
    losses: list[float]
    ranks: list[list[int]]
    """After each step."""
    apart: Tensor
    merged: Tensor


def configured(folder: Path, method: str, model: str, **changes: dict[str, Any]) -> RunConfig:
    """A run of a second: T5 writes summaries, RoBERTa classifies pairs, ViT reads digits."""
    if model == "tiny_t5":
        events = {"schedule": {"t_i": 2, "delta_t": 2, "t_f": 2}, "budget": {"rank": 8}}
        if method == "hebira":
            events["policy"] = {"k": 3}
        plain: dict[str, Any] = {"trainer": {"max_steps": STEPS}, "logger": {"name": "csv"}}
        plain["task"] = {"decoding": {"max_new_tokens": 2}, "max_eval_examples": 2}
        return summaries(folder, "summarization/cnn_dailymail", method, **merged(events, plain, changes))
    values = [f"{section}.{key}={value}" for section in changes for key, value in changes[section].items()]
    if model == "tiny_vit":
        return small(method, *values, on=DIGITS)
    return small(method, f"model={model}", *values)


def merged(*parts: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    whole: dict[str, dict[str, Any]] = {}
    for part in parts:
        for section, values in part.items():
            whole[section] = whole.get(section, {}) | values
    return whole


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def life(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Life:
    method, model = request.param
    made = build_session(one_batch(tmp_path_factory.mktemp(model), method, model))
    made.module.eval()
    with torch.no_grad():
        fresh, base = outputs(made), base_outputs(made)
    freeze_the_head(made)
    made.module.train()
    optimizer = made.module.configure_optimizers()["optimizer"]
    made.controller.start(made.horizon.steps)
    losses, ranks = [], []
    for number in range(1, STEPS + 1):
        losses.append(optimizer_step(made, optimizer, number))
        ranks.append(made.adapters.ranks())
    made.module.eval()
    return Life(made, fresh, base, losses, ranks, *merging(made))


def one_batch(folder: Path, method: str, model: str) -> RunConfig:
    size = "train_size" if model == "tiny_roberta" else "max_train_examples"
    rate = LEARNS_AT.get(method, RATES.get(model, 0.02))
    changes: dict[str, Any] = {"task": {size: 8}, "optimizer": {"lr": rate, "decay": "constant"}}
    if hasattr(small(method).form, "std"):
        changes["form"] = {"std": 0.2}
    if method == "lalora":
        changes["policy"] = {"gamma": 50}  # twelve steps are few
    return configured(folder, method, model, **changes)


@torch.no_grad()
def outputs(made: Session) -> Tensor:
    return made.module.model(**first_batch(made)).logits


def merging(made: Session) -> tuple[Tensor, Tensor]:
    apart = outputs(made)
    if isinstance(made.config.form, Form):
        for layer in made.adapters.layers:
            layer.merge()
        return apart, outputs(made)
    with torch.no_grad():
        whole = made.config.form.merge(made.module.model).eval()
        return apart, whole(**first_batch(made)).logits


def test_law_8_injection_changes_no_output(life: Life) -> None:
    rounding = ROUNDED.get(life.made.config.method)
    if rounding is None:
        assert torch.equal(life.fresh, life.base)
    else:
        torch.testing.assert_close(life.fresh, life.base, atol=rounding, rtol=1e-3)


def test_law_5_the_budget_is_kept_at_every_event(life: Life) -> None:
    totals = [sum(ranks) for ranks in life.ranks]
    policy, plan = life.made.config.policy, life.made.ranks
    if not len(life.made.adapters):
        return
    limits = life.made.controller.limits
    for ranks in map(torch.tensor, life.ranks):
        assert (ranks >= limits.minimum).all()
        assert (ranks <= limits.maximum).all()
    assert totals[: EVENTS[0] - 1] == [plan.budget] * (EVENTS[0] - 1)
    at_events = [totals[step - 1] for step in EVENTS]
    assert at_events == wanted(life)
    assert totals[-1] == plan.final or policy.ends() != "exactly"
    if policy.moves_ranks:
        traced = dict.fromkeys(EVENTS, 0)
        for row in life.made.controller.trace.rows:
            if row["step"]:
                traced[row["step"]] += row["rank"]
        assert list(traced.values()) == at_events


def wanted(life: Life) -> list[int]:
    """The directions after each event, by the papers' formulas; La-LoRA's follow from norms."""
    modules, method = len(life.made.adapters), life.made.config.method
    t_i, last, budget = 2, EVENTS[-1], 8 * modules
    if method == "adalora":
        return [int(budget + 4 * modules * (1 - (t - t_i) / (last - t_i)) ** 3) for t in EVENTS]
    if method == "triadaptlora":
        totals = [modules]
        for t in EVENTS:
            left = budget - totals[-1]
            growing = min(-(-left * (t - t_i) // (STEPS - t_i)), modules)
            totals.append(totals[-1] + min(4 * growing, left))
        return totals[1:]
    if method == "lalora":
        return [sum(life.ranks[t - 1]) for t in EVENTS]
    return [budget] * len(EVENTS)


def test_twelve_steps_lower_the_loss_by_the_adaptation_alone(life: Life) -> None:
    assert min(life.losses[-3:]) < life.losses[0] - 0.001


def test_merging_equals_the_forward_pass(life: Life) -> None:
    torch.testing.assert_close(life.merged, life.apart, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(life.apart, life.base, atol=1e-3), "nothing was merged"


@pytest.mark.parametrize(("method", "model"), PAIRS)
def test_law_6_stopped_and_resumed_ends_like_one_that_was_not(
    method: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {"trainer": {"log_every_n_steps": 1, "max_steps": 8}}
    changes["evaluation"] = {"every_n_steps": 4, "at_start": False}
    run_undrawn(configured(tmp_path, method, model, **changes), tmp_path / "whole")
    with monkeypatch.context() as patched:
        stop_after(patched, 5)  # between two events
        first = run_undrawn(configured(tmp_path, method, model, **changes), tmp_path / "parts")
    assert (first["status"], first["steps"]["taken"]) == ("interrupted", 5)
    resumed = replace(configured(tmp_path, method, model, **changes), resume=True)
    second = run_undrawn(resumed, tmp_path / "parts")
    assert second["status"] == "completed"
    same(end_of(tmp_path / "parts"), end_of(tmp_path / "whole"))
