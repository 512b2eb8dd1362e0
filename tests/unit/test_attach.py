"""The controller in anyone's own loop: one call, nothing to remember."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rankadapt.adapters import Adapters
from rankadapt.control import Attachment, Controller, Schedule, attach
from rankadapt.errors import ConfigError
from rankadapt.policies import Bidirectional, Static
from rankadapt.scorers import Hebbian
from tests.tiny import MLP, mlp, slot_parameters

TOTAL = 20
SCHEDULE = Schedule(t_i=2, delta_t=4, t_f=4)  # fires after 6, 10, 14


def controller_of(model: MLP) -> Controller:
    return Controller(Adapters(model), Bidirectional(k=2), Hebbian(), SCHEDULE)


def loss_of(model: MLP, step: int) -> Tensor:
    return (model(torch.randn(8, 6, generator=torch.Generator().manual_seed(step))) - 1).square().sum()


def train(
    model: MLP, optimizer: torch.optim.Optimizer, first: int = 1, last: int = TOTAL, clip: float | None = None
) -> None:
    """A user's loop, which knows nothing of ranks."""
    for step in range(first, last + 1):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()


def test_it_does_what_the_two_calls_do_by_hand() -> None:
    by_hand = mlp(depth=4)
    optimizer = torch.optim.AdamW(slot_parameters(by_hand), 1e-2)
    controller = controller_of(by_hand)
    controller.start(TOTAL)
    for step in range(1, TOTAL + 1):
        optimizer.zero_grad()
        loss_of(by_hand, step).backward()
        controller.observe()
        optimizer.step()
        controller.adjust(step, optimizer)
    controller.finish(TOTAL)

    model = mlp(depth=4)
    optimizer = torch.optim.AdamW(slot_parameters(model), 1e-2)
    attached = attach(controller_of(model), optimizer, TOTAL)
    train(model, optimizer)
    attached.detach()
    assert attached.step == TOTAL
    assert attached.controller.trace.rows == controller.trace.rows
    assert [r["step"] for r in controller.trace.rows[::4]] == [0, 6, 10, 14, 20]
    assert sum(r["born"] for r in controller.trace.rows) == 6
    for ours, theirs in zip(model.parameters(), by_hand.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_detached_it_is_gone() -> None:
    model = mlp(depth=4)
    optimizer = torch.optim.AdamW(slot_parameters(model), 1e-2)
    attached = attach(controller_of(model), optimizer, TOTAL)
    train(model, optimizer, last=4)
    attached.detach()
    ranks, rows = Adapters(model).ranks(), list(attached.controller.trace.rows)
    train(model, optimizer, first=5)
    assert attached.step == 4
    assert Adapters(model).ranks() == ranks
    assert attached.controller.trace.rows == rows


def scores_per_step(clip_norm: float | None, clip_by_hand: float | None) -> tuple[Tensor, float]:
    """The scores of five steps that move no weight, and the norm of the last gradient that was used."""
    model = mlp(depth=4)
    optimizer = torch.optim.SGD(slot_parameters(model), lr=0.0)
    attached = attach(controller_of(model), optimizer, TOTAL, clip_norm)
    boards = []
    for step in range(1, 6):
        train(model, optimizer, step, step, clip_by_hand)
        boards.append(attached.controller.scorer.scores())
    norm = torch.stack([p.grad.norm() for p in slot_parameters(model)]).norm()
    return torch.stack(boards), float(norm)


def test_clipping_through_clip_norm_clips_and_is_not_scored() -> None:
    free, free_norm = scores_per_step(None, None)
    clipped, clipped_norm = scores_per_step(0.01, None)
    by_hand, _ = scores_per_step(None, 0.01)
    assert free_norm > 1
    assert clipped_norm == pytest.approx(0.01, rel=1e-3)
    assert torch.equal(free, clipped)
    assert not torch.allclose(free, by_hand), "what clip_norm is for: a clipped gradient would be scored"


def test_micro_batches_are_one_step() -> None:
    """1x32 and 4x8 take the same decisions."""
    courses = []
    for micro in (1, 4):
        model = mlp(depth=4)
        optimizer = torch.optim.SGD(slot_parameters(model), lr=1e-2)
        attached = attach(controller_of(model), optimizer, TOTAL)
        for step in range(1, TOTAL + 1):
            optimizer.zero_grad()
            data = torch.randn(32, 6, generator=torch.Generator().manual_seed(step))
            for part in data.chunk(micro):
                ((model(part) - 1).square().mean() / micro).backward()
            optimizer.step()
        rows = attached.controller.trace.rows
        courses.append([(r["step"], r["module"], r["rank"], r["born"], r["pruned"]) for r in rows])
    assert courses[0] == courses[1]
    assert any(pruned for *_, pruned in courses[0])


@pytest.mark.parametrize("stop", [5, 6, 8])
def test_a_stopped_loop_goes_on_bit_for_bit(stop: int, tmp_path: Any) -> None:
    def start() -> tuple[MLP, torch.optim.Optimizer, Attachment]:
        model = mlp(depth=4)
        optimizer = torch.optim.AdamW(slot_parameters(model), 1e-2)
        return model, optimizer, attach(controller_of(model), optimizer, TOTAL)

    model, optimizer, attached = start()
    train(model, optimizer, last=stop)
    state = {"m": model.state_dict(), "o": optimizer.state_dict(), "a": attached.state_dict()}
    torch.save(state, tmp_path / "state.pt")
    train(model, optimizer, first=stop + 1)

    other, optimizer, resumed = start()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    other.load_state_dict(state["m"])
    optimizer.load_state_dict(state["o"])
    resumed.load_state_dict(state["a"])
    train(other, optimizer, first=stop + 1)
    assert resumed.step == attached.step == TOTAL
    assert resumed.controller.trace.rows == attached.controller.trace.rows
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_a_static_policy_needs_no_scorer() -> None:
    model = mlp()
    optimizer = torch.optim.AdamW(slot_parameters(model), 1e-2)
    attached = attach(Controller(Adapters(model), Static()), optimizer, TOTAL)
    train(model, optimizer)
    attached.detach()
    assert Adapters(model).ranks() == [2, 2]
    assert [r["step"] for r in attached.controller.trace.rows] == [0, 0, TOTAL, TOTAL]


def test_a_schedule_that_never_fires_is_refused_before_the_first_step() -> None:
    model = mlp()
    optimizer = torch.optim.AdamW(slot_parameters(model), 1e-2)
    with pytest.raises(ConfigError):
        attach(controller_of(model), optimizer, total_steps=8)
    train(model, optimizer, last=2)  # and no hook was left behind
    assert [layer.rank for layer in Adapters(model).layers] == [2, 2]


def test_a_closure_runs_once_before_its_gradients_are_scored() -> None:
    plain, closed = mlp(depth=4), mlp(depth=4)
    calls = []
    for model in (plain, closed):
        optimizer = torch.optim.AdamW(slot_parameters(model), 1e-2)
        attach(controller_of(model), optimizer, TOTAL, clip_norm=0.1)
        if model is plain:
            train(model, optimizer)
            continue
        for step in range(1, TOTAL + 1):

            def closure(step: int = step, optimizer: torch.optim.Optimizer = optimizer) -> Tensor:
                optimizer.zero_grad()
                loss = loss_of(closed, step)
                loss.backward()
                calls.append(step)
                return loss

            assert optimizer.step(closure).requires_grad
    assert calls == list(range(1, TOTAL + 1))
    for one, other in zip(plain.parameters(), closed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_an_optimizer_that_steps_several_times_is_refused() -> None:
    model = mlp()
    with pytest.raises(ConfigError, match=r"LBFGS.*several times"):
        attach(controller_of(model), torch.optim.LBFGS(slot_parameters(model)), TOTAL)
