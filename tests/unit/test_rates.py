"""The learning rate's course begins anew for what is added: against schedulers, and AdamW row by row."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import get_scheduler

from rankadapt.adapters import BEA, Adapters, slots
from rankadapt.adapters.linear import RESERVE_CORE
from rankadapt.boards import Change
from rankadapt.control.rates import Rates, RestartedRates
from rankadapt.training.config import OptimizerConfig
from rankadapt.training.optim import DECAYS, rates
from tests import tiny

TOTAL, WARMUP, LR, DECAY = 20, 3, 0.1, 0.05


def literal(decay: str, warmup: int, total: int) -> list[float]:
    """The rates that transformers' scheduler gives the steps of a run, as shares of the highest."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_scheduler(DECAYS[decay], optimizer, num_warmup_steps=warmup, num_training_steps=total)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize(("warmup", "total"), [(0, 9), (3, 9), (9, 9), (12, 9)])
def test_the_course_is_the_schedulers(decay: Any, warmup: int, total: int) -> None:
    taken = torch.arange(total, dtype=torch.float)
    found = Rates(warmup=warmup, decay=decay).share(taken, torch.full_like(taken, total))
    torch.testing.assert_close(found, torch.tensor(literal(decay, warmup, total)))


def test_the_runs_own_course_is_that_of_its_optimizer() -> None:
    assert rates(OptimizerConfig(lr=1.0, warmup_steps=7, decay="cosine"), 100) == Rates(
        warmup=7, decay="cosine"
    )
    assert rates(OptimizerConfig(lr=1.0, warmup_ratio=0.06), 50).warmup == 3


class Training:
    """Two modules under AdamW, with random gradients: one course for the optimizer, one for each row."""

    def __init__(self, reserve: int = 0, decay: Any = "linear", options: Any = None) -> None:
        self.adapters = Adapters(tiny.mlp(depth=2, slots=8, rank=2, form=BEA(reserve=reserve)))
        self.parameters = {
            name: [layer.slot_parameters()[name] for layer in self.adapters.layers]
            for name in ("A", "B", "e")
        }
        everything = [p for found in self.parameters.values() for p in found]
        self.optimizer = torch.optim.AdamW(everything, lr=LR, weight_decay=DECAY)
        self.schedule = get_scheduler(
            DECAYS[decay], self.optimizer, num_warmup_steps=WARMUP, num_training_steps=TOTAL
        )
        self.restarted = RestartedRates(self.adapters, Rates(warmup=WARMUP, decay=decay))
        self.began = {name: torch.zeros(2, 8, dtype=torch.long) for name in self.parameters}
        self.decay, self.reserve, self.step = decay, reserve, 0

    def take(self) -> None:
        """One step, whose outcome is what each row's own rate makes of the optimizer's moments."""
        self.step += 1
        generator = torch.Generator().manual_seed(self.step)
        for p in (p for found in self.parameters.values() for p in found):
            p.grad = torch.randn(p.shape, generator=generator)
        before = {name: [p.detach().clone() for p in found] for name, found in self.parameters.items()}
        self.restarted.before_step()
        self.optimizer.step()
        self.schedule.step()
        self.restarted.after_step(self.step, TOTAL)
        for name, found in self.parameters.items():
            for module, p in enumerate(found):
                for slot in range(8):
                    expected = self.moved(p, before[name][module], slot, int(self.began[name][module, slot]))
                    torch.testing.assert_close(p.detach()[slot], expected, msg=f"{name} {module} {slot}")

    def moved(self, p: nn.Parameter, before: Tensor, slot: int, began: int) -> Tensor:
        """AdamW's step of one row at the rate of a schedule that began after step ``began``."""
        state, (b1, b2) = self.optimizer.state[p], (0.9, 0.999)
        lr = LR * literal(self.decay, WARMUP, TOTAL - began)[self.step - 1 - began]
        mean = state["exp_avg"][slot] / (1 - b1 ** float(state["step"]))
        square = state["exp_avg_sq"][slot] / (1 - b2 ** float(state["step"]))
        return before[slot] * (1 - lr * DECAY) - lr * mean / (square.sqrt() + 1e-8)

    def change(self, pruned: list[tuple[int, int]], born: list[int]) -> None:
        before = self.adapters.ranks()
        removed = torch.zeros(2, 8, dtype=torch.bool)
        for module, slot in pruned:
            removed[module, slot] = True
        moves = slots.apply(
            self.adapters, Change(removed, torch.tensor(born)), self.optimizer, "new", seed=self.step
        )
        self.restarted.move(moves, self.step)
        for module, rank in enumerate(before):
            lost = [slot for m, slot in pruned if m == module]
            kept, depth = rank - len(lost), self.reserve
            for name, began in self.began.items():
                if lost:
                    left = [int(began[module, s]) for s in range(rank) if s not in lost]
                    began[module] = torch.tensor(left + [0] * (8 - kept))
                first = kept if name == "e" else kept + depth
                began[module, first : first + born[module]] = self.step


@pytest.mark.parametrize("decay", DECAYS)
def test_each_row_goes_as_far_as_its_own_rate_takes_it(decay: str) -> None:
    run = Training(decay=decay)
    for step in range(1, TOTAL):
        run.take()
        if step == 2:  # within the run's own warm-up
            run.change([], [1, 0])
        if step == 6:
            run.change([(0, 0), (1, 1)], [1, 2])
        if step == TOTAL - 2:  # with less left than the warm-up takes
            run.change([], [2, 0])
    assert run.adapters.ranks() == [5, 3]


def test_a_core_begins_when_it_goes_live_its_direction_when_it_is_drawn() -> None:
    run = Training(reserve=2)
    for layer in run.adapters.layers:
        layer.ahead[2:4] = RESERVE_CORE
        layer.refresh()
    for step in range(1, TOTAL):
        run.take()
        if step in (5, 9):
            run.change([], [2, 0])
    assert run.adapters.ranks() == [6, 2]
    assert run.began["A"][0].tolist() == [0, 0, 0, 0, 5, 5, 9, 9]
    assert run.began["e"][0].tolist() == [0, 0, 5, 5, 9, 9, 0, 0]


def test_what_was_there_at_the_start_moves_as_ever_to_the_bit() -> None:
    run, plain = Training(), Training()
    for step in range(1, 8):
        for one in (run, plain):
            generator = torch.Generator().manual_seed(step)
            for p in (p for found in one.parameters.values() for p in found):
                p.grad = torch.randn(p.shape, generator=generator)
        run.restarted.before_step()
        for one in (run, plain):
            one.optimizer.step()
            one.schedule.step()
        run.restarted.after_step(step, TOTAL)
        for one in (run, plain):
            one.step = step
            if step == 4:
                one.change([], [1, 0])
    for name in ("A", "B", "e"):
        for mine, other in zip(run.parameters[name], plain.parameters[name], strict=True):
            assert torch.equal(mine[:2], other[:2])
    assert not torch.equal(run.parameters["A"][0][2], plain.parameters["A"][0][2])


def test_a_step_that_was_not_looked_at_is_left_alone() -> None:
    run = Training()
    run.take()
    run.change([], [1, 0])
    run.take()
    before = [p.detach().clone() for p in run.parameters["A"]]
    run.restarted.after_step(3, TOTAL)  # no before_step: the optimizer skipped it
    assert all(torch.equal(p, b) for p, b in zip(run.parameters["A"], before, strict=True))


def test_its_state_is_when_everything_began() -> None:
    run, other = Training(), Training()
    run.take()
    run.change([], [1, 0])
    other.restarted.load_state_dict(run.restarted.state_dict())
    assert other.restarted.drawn is not None
    assert torch.equal(other.restarted.factor("A", 2, TOTAL), run.restarted.factor("A", 2, TOTAL))
    assert run.restarted.factor("A", 2, TOTAL)[0].tolist() == [1, 1, 0, 1, 1, 1, 1, 1]
