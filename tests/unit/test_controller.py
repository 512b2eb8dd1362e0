"""The controller: decisions, what it leaves behind, and going on after a stop."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rankadapt.adapters import BA, BEA, Adapters, Form
from rankadapt.boards import Change, Event, Limits
from rankadapt.control import Controller, ControlOptions, Schedule
from rankadapt.errors import ConfigError, TrainingError
from rankadapt.policies import Bidirectional, ExpandOnly, Policy, PruneOnly, Static
from rankadapt.scorers import Gradient, Hebbian, Random, Scorer
from tests.tiny import assert_dead_are_zero, mlp, slot_parameters

TOTAL = 40
SCHEDULE = Schedule(t_i=4, delta_t=6, t_f=8)  # fires after 10, 16, 22, 28


class Run:
    """A tiny training run that can be stopped and continued at any step."""

    def __init__(
        self,
        policy: Policy | None = None,
        scorer: Scorer | None = None,
        form: Form | None = None,
        rank: Any = 3,
        **options: Any,
    ):
        self.model = mlp(depth=5, slots=6, rank=rank, form=form, seed=0)
        self.optimizer = torch.optim.AdamW(slot_parameters(self.model), 1e-2, weight_decay=0.01)
        self.adapters = Adapters(self.model)
        self.controller = Controller(
            self.adapters,
            policy or Bidirectional(k=4),
            scorer or Hebbian(),
            SCHEDULE,
            ControlOptions(**options),
        )
        self.controller.start(TOTAL)
        self.changes: list[Change] = []

    def go(self, first: int, last: int) -> Run:
        """Take steps ``first`` to ``last``, both included."""
        for step in range(first, last + 1):
            x = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
            self.optimizer.zero_grad()
            (self.model(x) - x[:, :1].sin()).square().mean().backward()
            self.controller.observe()
            self.optimizer.step()
            change = self.controller.adjust(step, self.optimizer)
            self.changes += [] if change is None else [change]
        return self

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "controller": self.controller.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> Run:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.controller.load_state_dict(state["controller"])
        return self


class Fixed(Scorer):
    """A scorer whose board is given."""

    def __init__(self, board: Tensor):
        self.board = board

    def update(self, reading: Any) -> None:
        pass

    def scores(self) -> Tensor:
        return self.board

    def move(self, moves: Any) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


@pytest.mark.parametrize("form", [BA(), BEA()], ids=["ba", "bea"])
@pytest.mark.parametrize("scorer", [Hebbian, Gradient, Random])
@pytest.mark.parametrize("minimum", [0, 2])
def test_budget_and_limits_hold_at_every_event(form: Form, scorer: type[Scorer], minimum: int) -> None:
    """Law 5."""
    run = Run(scorer=scorer(), form=form, rank=[5, 3, 2, 3, 4], min_rank=minimum, max_rank=5)
    seen = []
    for step in range(1, TOTAL + 1):
        before = run.adapters.ranks()
        run.go(step, step)
        ranks = run.adapters.ranks()
        assert sum(ranks) == 17
        assert all(minimum <= r <= 5 for r in ranks)
        assert ranks == run.adapters.live().sum(1).tolist()
        if len(run.changes) > len(seen):
            seen.append(step)
            assert int(run.changes[-1].born.sum()) == int(run.changes[-1].pruned.sum()) == 4
        else:
            assert ranks == before
    assert seen == [10, 16, 22, 28]
    assert_dead_are_zero(run.model, run.optimizer)


def test_prune_only_and_expand_only_move_the_budget_by_their_growth() -> None:
    assert sum(Run(PruneOnly(k=2)).go(1, TOTAL).adapters.ranks()) == 15 + PruneOnly(k=2).growth(4)
    assert sum(Run(ExpandOnly(k=2)).go(1, TOTAL).adapters.ranks()) == 15 + ExpandOnly(k=2).growth(4)


def test_the_policy_is_told_where_it_is() -> None:
    events: list[Event] = []

    class Spy(Static):
        moves_ranks = True

        def __call__(self, scores: Tensor, live: Tensor, limits: Limits, event: Event) -> Change:
            events.append(event)
            return Change.none(live)

    Run(Spy()).go(1, TOTAL)
    told = [(e.index, e.count, e.step, e.total, e.first, e.last, e.budget) for e in events]
    assert told == [(i, 4, 10 + 6 * i, TOTAL, 4, 32, 15) for i in range(4)]


def test_trace_has_the_start_every_event_and_the_end() -> None:
    run = Run().go(1, TOTAL)
    run.controller.finish(TOTAL)
    rows, names = run.controller.trace.rows, run.adapters.names
    assert [r["step"] for r in rows] == [s for s in (0, 10, 16, 22, 28, 40) for _ in names]
    assert [r["module"] for r in rows] == names * 6
    assert [r["rank"] for r in rows[:5]] == [3] * 5
    assert [r["rank"] for r in rows[-5:]] == run.adapters.ranks()
    for i, change in enumerate(run.changes):
        block, before = rows[5 * (i + 1) : 5 * (i + 2)], rows[5 * i : 5 * (i + 1)]
        assert [r["pruned"] for r in block] == change.pruned.sum(1).tolist()
        assert [r["born"] for r in block] == change.born.tolist()
        assert [r["rank"] for r in block] == [
            b["rank"] + r["born"] - r["pruned"] for b, r in zip(before, block, strict=True)
        ]
        assert all(0 < r["score_min"] <= r["score_mean"] for r in block)
    assert {r["score_min"] for r in rows[:5] + rows[-5:]} == {None}


def test_trace_scores_are_those_that_were_decided_on() -> None:
    board = torch.arange(30.0).view(5, 6)
    run = Run(scorer=Fixed(board)).go(1, 10)
    event = run.controller.trace.rows[5:]
    assert [r["score_min"] for r in event] == [0, 6, 12, 18, 24]
    assert [r["score_mean"] for r in event] == [1, 7, 13, 19, 25]


def test_an_event_at_the_last_step_is_not_noted_twice() -> None:
    run = Run()
    run.controller.schedule = Schedule(t_i=0, delta_t=20, t_f=0)
    run.controller.start(TOTAL)
    run.go(1, TOTAL)
    run.controller.finish(TOTAL)
    assert [r["step"] for r in run.controller.trace.rows[::5]] == [0, 20, 40]


STOPS = [(Hebbian, reset, stop) for reset in ("changed", "new", "none") for stop in (9, 10, 28)]


@pytest.mark.parametrize(
    ("scorer", "reset", "stop"), [*STOPS, (Gradient, "changed", 13), (Random, "changed", 13)]
)
def test_a_stopped_run_goes_on_bit_for_bit(
    tmp_path: Path, scorer: type[Scorer], reset: str, stop: int
) -> None:
    """Law 6, through a file that loads with ``weights_only=True``: before, at, between and after events."""
    first = Run(scorer=scorer(), optimizer_reset=reset).go(1, stop)
    torch.save(first.state(), tmp_path / "state.pt")
    whole = first.go(stop + 1, TOTAL)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed = Run(scorer=scorer(), optimizer_reset=reset).load(state).go(stop + 1, TOTAL)
    assert resumed.controller.trace.rows == whole.controller.trace.rows
    assert sum(r["pruned"] for r in whole.controller.trace.rows) == 16
    for key, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key
    theirs = resumed.optimizer.state_dict()["state"]
    for index, moments in whole.optimizer.state_dict()["state"].items():
        assert all(torch.equal(theirs[index][k], v) for k, v in moments.items())


def test_a_resume_without_the_scores_would_decide_otherwise() -> None:
    """The test above can fail: scores are part of what decides."""
    whole = Run().go(1, TOTAL)
    state = Run().go(1, 13).state()
    state["controller"]["scorer"]["smoothed"] = state["controller"]["scorer"]["smoothed"].flip(0)
    assert Run().load(state).go(14, TOTAL).controller.trace.rows != whole.controller.trace.rows


def test_state_is_small_and_plain() -> None:
    state = Run().go(1, 12).controller.state_dict()
    buffer = io.BytesIO()
    torch.save(state, buffer)
    assert buffer.tell() < 20_000
    assert set(state) == {"taken", "scorer", "policy", "rates", "sparsity", "trace"}


def test_the_seed_decides_the_new_directions_and_nothing_else() -> None:
    first, again, other = Run(seed=0).go(1, 10), Run(seed=0).go(1, 10), Run(seed=1).go(1, 10)
    row = int(first.changes[0].born.argmax())
    A, A_again, A_other = (r.adapters.layers[row].A for r in (first, again, other))
    assert torch.equal(first.changes[0].pruned, other.changes[0].pruned)
    assert torch.equal(A, A_again)
    kept = int(first.adapters.layers[row].rank - first.changes[0].born[row])
    assert torch.equal(A[:kept], A_other[:kept])
    assert not torch.equal(A[kept], A_other[kept])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_refused_by_name(value: float) -> None:
    board = torch.ones(5, 6)
    board[3, 1] = value
    run = Run(scorer=Fixed(board)).go(1, 9)
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    run.controller.observe()
    with pytest.raises(TrainingError) as caught:
        run.controller.adjust(10, run.optimizer)
    (problem,) = caught.value.problems
    assert "layers.3" in problem.path
    assert "slot 1 " in problem.path
    assert "step 10" in problem.reason
    assert problem.remedy
    after = run.model.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items()), "refused, but carried out"


def test_a_dead_slots_score_may_be_anything() -> None:
    board = torch.ones(5, 6)
    board[3, 4] = float("nan")
    assert len(Run(scorer=Fixed(board)).go(1, 10).changes) == 1


def test_a_policy_outside_the_limits_is_a_defect() -> None:
    class Greedy(Static):
        moves_ranks = True

        def __call__(self, scores: Tensor, live: Tensor, limits: Limits, event: Event) -> Change:
            change = Change.none(live)
            change.born[0] = 9
            return change

    with pytest.raises(RuntimeError, match="Greedy"):
        Run(Greedy()).go(1, 10)


def test_a_module_below_its_minimum_may_rise_step_by_step() -> None:
    run = Run(ExpandOnly(k=1), Fixed(torch.ones(5, 6)), rank=[0, 3, 3, 3, 3], min_rank=2, max_rank=3).go(
        1, 10
    )
    assert run.adapters.ranks() == [1, 3, 3, 3, 3]


def test_ranks_above_the_maximum_are_refused_at_the_start() -> None:
    with pytest.raises(ConfigError) as caught:
        Run(rank=[5, 3, 4, 3, 3], max_rank=3)
    assert [(p.path, p.value) for p in caught.value.problems] == [("layers.0", 5), ("layers.2", 4)]
    assert "control.max_rank" in str(caught.value)


def test_a_schedule_that_never_fires_is_refused_at_the_start() -> None:
    """Law 9."""
    controller = Controller(
        Adapters(mlp()), Bidirectional(k=1), Hebbian(), Schedule(t_i=10, delta_t=5, t_f=20)
    )
    with pytest.raises(ConfigError):
        controller.start(30)


def test_a_policy_that_moves_ranks_needs_scorer_and_schedule() -> None:
    adapters = Adapters(mlp())
    with pytest.raises(TypeError, match="Bidirectional"):
        Controller(adapters, Bidirectional(), schedule=SCHEDULE)
    with pytest.raises(TypeError, match="Bidirectional"):
        Controller(adapters, Bidirectional(), scorer=Hebbian())


def test_a_static_policy_needs_neither_and_costs_nothing() -> None:
    model = mlp(depth=2)
    controller = Controller(Adapters(model), Static())
    controller.start(10)
    model(torch.ones(2, 6)).sum().backward()
    controller.observe()
    assert [controller.adjust(step, None) for step in range(1, 11)] == [None] * 10
    controller.finish(10)
    assert all(layer.probe is None for layer in controller.adapters.layers)
    assert [(r["step"], r["rank"]) for r in controller.trace.rows] == [(0, 2), (0, 2), (10, 2), (10, 2)]
    fresh = Controller(Adapters(mlp(depth=2)), Static())
    fresh.load_state_dict(controller.state_dict())
    assert fresh.trace.rows == controller.trace.rows


def test_a_static_policy_ignores_the_scorer_it_is_given() -> None:
    model = mlp()
    controller = Controller(Adapters(model), Static(), Hebbian(), Schedule(t_i=10, delta_t=5, t_f=20))
    controller.start(30)  # would not fire: no error, there is nothing to fire
    assert all(layer.probe is None for layer in controller.adapters.layers)


def test_it_follows_the_model_to_another_device() -> None:
    """A model is often moved after the controller was made, and a checkpoint loaded onto the CPU."""
    run = Run().go(1, 12)
    state = run.controller.state_dict()
    moved: nn.Module = Run().model
    controller = Controller(Adapters(moved), Bidirectional(k=2), Hebbian(), SCHEDULE)
    moved.to("meta")
    controller.load_state_dict(state)
    assert controller.scorer is not None
    assert {v.device.type for v in controller.scorer.state_dict().values()} == {"meta"}
    assert controller.limits.maximum.device.type == controller.limits.minimum.device.type == "meta"
