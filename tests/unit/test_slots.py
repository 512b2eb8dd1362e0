"""Carrying out a rank change: values, optimizer state, and what happens in the steps after it."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from rankadapt.adapters import BA, BEA, Adapters, Form
from rankadapt.adapters.linear import AdaptedLinear
from rankadapt.adapters.slots import OptimizerReset, apply
from rankadapt.boards import Change
from tests.tiny import assert_dead_are_zero, mlp, slot_parameters

LR, DECAY = 1e-2, 0.1
RESETS: tuple[OptimizerReset, ...] = ("changed", "new", "all", "none")
OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], Optimizer]] = {
    "adamw": lambda p: AdamW(p, LR, weight_decay=DECAY, foreach=False),
    "adamw-foreach": lambda p: AdamW(p, LR, weight_decay=DECAY, foreach=True),
    "adamw-fused": lambda p: AdamW(p, LR, weight_decay=DECAY, fused=True),
    "adamw-amsgrad": lambda p: AdamW(p, LR, weight_decay=DECAY, amsgrad=True),
    "sgd-momentum": lambda p: SGD(p, LR, momentum=0.9, weight_decay=DECAY),
}
forms = pytest.mark.parametrize("form", [BA(), BEA()], ids=["ba", "bea"])
optimizers = pytest.mark.parametrize("kind", list(OPTIMIZERS))
resets = pytest.mark.parametrize("reset", RESETS)


def change_of(model: nn.Module, pruned: dict[int, list[int]], born: dict[int, int]) -> Change:
    """``pruned``: slots by module; ``born``: number by module."""
    change = Change.none(Adapters(model).live())
    for row, slots in pruned.items():
        change.pruned[row, slots] = True
    for row, n in born.items():
        change.born[row] = n
    return change


def real_step(model: nn.Module, optimizer: Optimizer, seed: int) -> None:
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    (model(x) - 1).square().sum().backward()
    optimizer.step()


def synthetic_step(model: nn.Module, optimizer: Optimizer, gradient: Callable[[Tensor], Tensor]) -> None:
    """A step on made gradients of live slots: no model to run, so a thousand of them take a second."""
    for layer in Adapters(model).layers:
        for p in layer.slot_parameters().values():
            p.grad = torch.zeros_like(p)
            p.grad[: layer.rank] = gradient(p[: layer.rank].detach())
    optimizer.step()


def snapshot(layer: AdaptedLinear, optimizer: Optimizer | None) -> dict[str, Tensor]:
    """Values and optimizer tensors of a layer, by name."""
    kept = {}
    for name, p in layer.slot_parameters().items():
        kept[name] = p.detach().clone()
        state = optimizer.state.get(p, {}) if optimizer else {}
        kept |= {f"{name}.{k}": v.clone() for k, v in state.items() if isinstance(v, Tensor)}
    return kept


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[int], Change]:
    R, M = 5, 3
    ranks = [draw(st.integers(0, R)) for _ in range(M)]
    live = torch.arange(R) < torch.tensor(ranks)[:, None]
    pruned = live & torch.tensor(draw(st.lists(st.booleans(), min_size=M * R, max_size=M * R))).view(M, R)
    left = (live & ~pruned).sum(1).tolist()
    return ranks, Change(pruned, torch.tensor([draw(st.integers(0, R - n)) for n in left]))


@forms
@given(case=cases())
@settings(max_examples=40)
def test_survivors_keep_their_values_in_order_and_the_dead_are_zero(
    form: Form, case: tuple[list[int], Change]
) -> None:
    ranks, change = case
    model = mlp(depth=3, slots=5, rank=ranks, form=form)
    adapters = Adapters(model)
    before = [snapshot(layer, None) for layer in adapters.layers]
    moves = apply(adapters, change, None, "changed", seed=7)
    for m, layer in enumerate(adapters.layers):
        kept = [i for i in range(ranks[m]) if not change.pruned[m, i]]
        young = slice(len(kept), len(kept) + int(change.born[m]))
        assert layer.rank == int(layer.live.sum()) == young.stop
        assert layer.live[: young.stop].all()
        assert float(layer.scale) == pytest.approx(16 / max(layer.rank, 1))
        for name, p in layer.slot_parameters().items():
            assert torch.equal(p[: len(kept)], before[m][name][kept])
            newborn_is_zero = layer.form.newborn[name] == "zero"
            assert bool(p[young].any()) == (not newborn_is_zero and young.stop > young.start)
    assert_dead_are_zero(model)
    assert moves.changed == [m for m in range(3) if change.pruned[m].any() or change.born[m]]


def test_newborn_directions_are_drawn_as_the_form_says() -> None:
    model = mlp(depth=1, width=40, slots=40, rank=1, form=BEA(new_std=0.05))
    apply(Adapters(model), change_of(model, {}, {0: 39}), None, "changed", seed=1)
    (layer,) = Adapters(model).layers
    for p in layer.slot_parameters().values():
        tolerance = 4 / math.sqrt(2 * p[1:].numel())  # four standard errors
        assert float(p[1:].detach().std()) == pytest.approx(0.05, rel=tolerance)
    model = mlp(depth=1, width=40, slots=40, rank=1, form=BA(new_std=0.05))
    before = Adapters(model).layers[0].delta()
    apply(Adapters(model), change_of(model, {}, {0: 39}), None, "changed", seed=1)
    (layer,) = Adapters(model).layers
    assert float(layer.A[1:].detach().std()) == pytest.approx(0.05, rel=0.1)
    torch.testing.assert_close(layer.delta() * layer.rank, before)  # B of the young is zero: only 1/r moves


def test_newborn_directions_are_a_function_of_the_seed_and_the_module() -> None:
    def born(seed: int) -> list[Tensor]:
        model = mlp(depth=3, slots=4, rank=1)
        torch.manual_seed(seed + 99)  # the run's own random state must not matter
        apply(Adapters(model), change_of(model, {}, {0: 2, 2: 1}), None, "none", seed)
        return [model.layers[0].A[1:3].detach(), model.layers[2].A[1:2].detach()]

    assert torch.equal(born(5)[0], born(5)[0])
    assert not torch.equal(born(5)[0], born(6)[0])
    first, third = born(5)
    assert not torch.equal(first[0], first[1]), "two directions of a module are alike"
    assert not torch.equal(first[:1], third), "two modules were given the same direction"


def test_the_runs_own_random_state_is_left_alone() -> None:
    model = mlp(depth=2)
    state = torch.get_rng_state()
    apply(Adapters(model), change_of(model, {0: [0]}, {1: 1}), None, "changed", 3)
    assert torch.equal(torch.get_rng_state(), state)


@optimizers
@resets
def test_optimizer_state_after_an_event(kind: str, reset: OptimizerReset) -> None:
    """Module 0 loses slot 0, module 1 gains one, module 2 is not touched."""
    model = mlp(depth=3, slots=4, rank=3)
    optimizer = OPTIMIZERS[kind](slot_parameters(model))
    for step in range(5):
        real_step(model, optimizer, step)
    adapters = Adapters(model)
    before = [snapshot(layer, optimizer) for layer in adapters.layers]
    apply(adapters, change_of(model, {0: [0]}, {1: 1}), optimizer, reset, seed=0)
    sources = [[1, 2], [0, 1, 2], [0, 1, 2]]
    for m, layer in enumerate(adapters.layers):
        anew = reset == "all" or (reset == "changed" and m < 2)
        after = snapshot(layer, optimizer)
        assert after.keys() == before[m].keys()
        for key, value in after.items():
            name, _, moment = key.partition(".")
            if not moment:
                continue
            if moment == "step":
                assert float(value) == (0 if anew else 5)
                continue
            n = len(sources[m])
            expected = torch.zeros_like(value)
            if not anew:
                expected[:n] = before[m][key][sources[m]]
                if m == 1 and reset == "new" and moment in ("exp_avg_sq", "max_exp_avg_sq"):
                    expected[n] = before[m][key][sources[m]].mean(0)
            assert torch.equal(value, expected), (name, moment)
    assert_dead_are_zero(model, optimizer)


@resets
def test_events_before_the_first_step_or_without_an_optimizer(reset: OptimizerReset) -> None:
    model = mlp(depth=2)
    optimizer = AdamW(slot_parameters(model))
    apply(Adapters(model), change_of(model, {0: [0]}, {1: 1}), optimizer, reset, 0)
    apply(Adapters(model), change_of(model, {1: [0]}, {0: 1}), None, reset, 0)
    assert Adapters(model).ranks() == [2, 2]


@forms
@optimizers
@resets
def test_dead_slots_stay_exactly_zero(form: Form, kind: str, reset: OptimizerReset) -> None:
    """Law 2: momentum and weight decay have nothing to move them with, however often ranks change."""
    model = mlp(depth=3, slots=4, rank=3, form=form)
    optimizer = OPTIMIZERS[kind](slot_parameters(model))
    for event in range(3):
        for step in range(4):
            real_step(model, optimizer, 100 * event + step)
        change = change_of(model, {event: [0, 1]}, {(event + 1) % 3: 1, (event + 2) % 3: 1})
        if event:  # the others are full by now: only take
            change = change_of(model, {event: [0, 1]}, {})
        apply(Adapters(model), change, optimizer, reset, seed=event)
    assert_dead_are_zero(model, optimizer)
    before = [p.detach().clone() for p in slot_parameters(model)]
    for step in range(20):
        real_step(model, optimizer, 1000 + step)
    assert_dead_are_zero(model, optimizer)
    assert not any(torch.equal(p, q) for p, q in zip(slot_parameters(model), before, strict=True))


def trained(steps: int, rank: int = 2) -> tuple[nn.Module, AdamW]:
    """A module after ``steps`` AdamW steps on stationary unit gradients, to do with as one likes."""
    return copy.deepcopy(_trained(steps, rank))


@functools.cache
def _trained(steps: int, rank: int) -> tuple[nn.Module, AdamW]:
    model = mlp(depth=1, width=16, slots=6, rank=rank)
    optimizer = AdamW(slot_parameters(model), LR, weight_decay=DECAY)
    noise = torch.Generator().manual_seed(0)
    for _ in range(steps):
        synthetic_step(model, optimizer, lambda p: torch.randn(p.shape, generator=noise))
    return model, optimizer


def kicks(reset: OptimizerReset, rank: int = 2, steps: int = 12) -> Tensor:
    """(steps,) the largest |update| / lr of a woken slot in the steps after its birth, weight decay left out,
    under unit gradients that all point one way: the hardest pull there is."""
    model, optimizer = trained(1000, rank)
    apply(Adapters(model), change_of(model, {}, {0: 1}), optimizer, reset, seed=1)
    largest = []
    for _ in range(steps):
        before = {n: p.detach()[rank].clone() for n, p in model.layers[0].slot_parameters().items()}
        synthetic_step(model, optimizer, torch.ones_like)
        moved = [
            (p.detach()[rank] - before[n] * (1 - LR * DECAY)).abs().max()
            for n, p in model.layers[0].slot_parameters().items()
        ]
        largest.append(torch.stack(moved).max() / LR)
    return torch.stack(largest)


@pytest.mark.parametrize("reset", ["changed", "new", "all"])
def test_a_woken_slot_is_not_kicked(reset: OptimizerReset) -> None:
    """Law 3: a fresh parameter under such a pull moves by exactly the learning rate, each step."""
    assert (kicks(reset) <= 1 + 1e-3).all()


def test_without_a_reset_a_woken_slot_is_kicked() -> None:
    """Why ``none`` is for ablation only: first by (1-b1)/sqrt(1-b2), then by more."""
    kick = kicks("none")
    corrected = 0.1 / math.sqrt(0.001 / (1 - 0.999**1001))
    assert float(kick[0]) == pytest.approx(corrected, rel=1e-3)
    assert kick.max() > 5


@pytest.mark.parametrize("reset", ["changed", "new"])
def test_the_first_direction_of_an_empty_module_is_not_kicked(reset: OptimizerReset) -> None:
    """There are no survivors whose second moment it could share: it starts anew."""
    assert (kicks(reset, rank=0) <= 1 + 1e-3).all()


@pytest.mark.parametrize("reset", ["changed", "new"])
def test_a_direction_that_replaces_all_others_is_not_kicked(reset: OptimizerReset) -> None:
    model, optimizer = trained(1000)
    apply(Adapters(model), change_of(model, {0: [0, 1]}, {0: 1}), optimizer, reset, seed=1)
    before = model.layers[0].A.detach().clone()
    synthetic_step(model, optimizer, torch.ones_like)
    moved = (model.layers[0].A.detach() - before * (1 - LR * DECAY)).abs().max()
    assert moved <= LR * (1 + 1e-3)


@forms
@pytest.mark.parametrize("reset", ["changed", "new"])
def test_a_woken_slot_is_not_kicked_in_a_real_model(form: Form, reset: OptimizerReset) -> None:
    model = mlp(depth=3, slots=4, rank=2, form=form)
    optimizer = AdamW(slot_parameters(model), LR, weight_decay=DECAY)
    for step in range(100):
        real_step(model, optimizer, step)
    apply(Adapters(model), change_of(model, {0: [0]}, {1: 1, 2: 1}), optimizer, reset, seed=1)
    before = [snapshot(layer, None) for layer in Adapters(model).layers]
    real_step(model, optimizer, 1000)
    for layer, values in zip(Adapters(model).layers[1:], before[1:], strict=True):
        for name, p in layer.slot_parameters().items():
            moved = (p.detach()[2] - values[name][2] * (1 - LR * DECAY)).abs().max()
            assert moved <= LR * (1 + 1e-3), name


@pytest.mark.parametrize("reset", ["new", "none"])
def test_survivors_go_on_as_if_nothing_had_happened(reset: OptimizerReset) -> None:
    """In the modes that keep their state; ``changed`` starts them anew, which shows the difference."""

    def survivor_after(mode: OptimizerReset | None) -> Tensor:
        model, optimizer = trained(50)
        if mode is not None:
            apply(Adapters(model), change_of(model, {}, {0: 1}), optimizer, mode, seed=1)
        synthetic_step(model, optimizer, torch.ones_like)
        return model.layers[0].A.detach()[:2]

    undisturbed = survivor_after(None)
    assert torch.equal(survivor_after(reset), undisturbed)
    assert not torch.equal(survivor_after("changed"), undisturbed)


def test_an_optimizer_that_counts_steps_in_plain_numbers_starts_anew() -> None:
    class Counting(SGD):
        def step(self, closure: Any = None) -> None:
            super().step(closure)
            for group in self.param_groups:
                for p in group["params"]:
                    self.state[p]["step"] = self.state[p].get("step", 0) + 1

    model = mlp(depth=2)
    optimizer = Counting(slot_parameters(model), LR)
    real_step(model, optimizer, 0)
    apply(Adapters(model), change_of(model, {0: [0]}, {}), optimizer, "changed", 0)
    steps = [optimizer.state[layer.A]["step"] for layer in Adapters(model).layers]
    assert steps == [0, 1]
