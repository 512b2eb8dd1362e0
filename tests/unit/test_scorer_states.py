"""What scorers keep: it survives checkpoints, follows moves, stays finite, and never waits for the device."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rankadapt.adapters import BEA, Adapters, Reading
from rankadapt.adapters.reading import Stack
from rankadapt.boards import Change, plan, stay
from rankadapt.scorers import (
    CoreNormChange,
    DenseSensitivity,
    Fisher,
    GradientAware,
    GradientAwareInput,
    Scorer,
    Sensitivity,
    TruncatedNorm,
)
from tests.tiny import mlp

RANKS = [3, 2, 4]
SCORERS: list[Callable[[], Scorer]] = [
    Sensitivity,
    GradientAware,
    lambda: GradientAware(weights="linear"),
    GradientAwareInput,
    lambda: GradientAwareInput(normalise=False),
    CoreNormChange,
    lambda: CoreNormChange(normalise="none"),
    DenseSensitivity,
    TruncatedNorm,
    lambda: TruncatedNorm(fidelity=False),
    Fisher,
    lambda: Fisher(relative=False),
]
NAMES = ["sensitivity", "aware", "linear", "input", "bare input", "core", "core none", "dense", "norm",
         "no fidelity", "fisher", "bare fisher"]  # fmt: skip
each_scorer = pytest.mark.parametrize("scorer", SCORERS, ids=NAMES)


class Given(Reading):
    """A reading with all that a scorer may ask for; what the backward pass would sum is drawn."""

    def __init__(self, adapters: Adapters, seed: int, scale: float = 1.0):
        super().__init__(adapters)
        self.generator, self.scale = torch.Generator().manual_seed(seed), scale

    def input_energy(self) -> list[Stack]:
        return [
            Stack(s.rows, torch.rand(s.values.shape[::2], generator=self.generator) * self.scale)
            for s in self.stacks("A")
        ]

    def core_norm(self) -> Tensor:
        return torch.rand(self.shape[0], generator=self.generator) * self.scale

    def dense_sensitivity(self) -> Tensor:
        return torch.rand(self.shape[0], generator=self.generator) * self.scale

    def set_aside(self, name: str) -> list[Stack]:
        return [Stack(s.rows, torch.zeros_like(s.values)) for s in self.stacks(name)]

    @property
    def blocks(self) -> Tensor:
        return torch.tensor([0, 0, 1])


def adapters(ranks: list[int] = RANKS) -> Adapters:
    return Adapters(mlp(depth=3, slots=5, rank=ranks, form=BEA()))


def draw(target: Adapters, seed: int, scale: float = 1.0) -> Given:
    """Fresh gradients on live slots."""
    generator = torch.Generator().manual_seed(seed)
    for layer in target.layers:
        for parameter in layer.slot_parameters().values():
            alive = layer.live.view(-1, *[1] * (parameter.dim() - 1))
            parameter.grad = torch.randn(parameter.shape, generator=generator) * alive * scale
    return Given(target, seed, scale)


def change(live: Tensor) -> Change:
    """Module 0 loses its middle direction, module 1 receives two."""
    change = Change.none(live)
    change.pruned[0, 1] = True
    change.born[1] = 2
    return change


def reloaded(state: dict[str, Any]) -> dict[str, Any]:
    """Through a file that may hold nothing but tensors and plain values."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@each_scorer
@pytest.mark.parametrize("moved", [False, True], ids=["between steps", "after a move"])
def test_a_resumed_scorer_goes_on_as_if_nothing_had_happened(
    scorer: Callable[[], Scorer], moved: bool
) -> None:
    def run(resumed: bool) -> list[Tensor]:
        one, target, boards = scorer(), adapters(), []
        one.begin(Given(target, 50))
        for number in range(4):
            if resumed and number == 2:
                state, one = one.state_dict(), scorer()
                one.load_state_dict(reloaded(state))
                assert torch.equal(one.scores(), boards[-2])
                one.begin(Given(target, 51))  # a host that begins after it has loaded
            one.update(draw(target, number))
            sizes = one.sizes()
            boards += [one.scores().clone(), torch.zeros(1) if sizes is None else sizes.clone()]
            if moved and number == 1:
                one.move(plan(target.live(), change(target.live())))
                target = adapters([2, 4, 4])
                boards += [one.scores().clone(), torch.zeros(1)]
        return boards

    for straight, with_a_stop in zip(run(False), run(True), strict=True):
        assert torch.equal(straight, with_a_stop)


@each_scorer
def test_a_saved_state_is_not_changed_by_later_updates_nor_by_those_that_load_it(
    scorer: Callable[[], Scorer],
) -> None:
    one, target = scorer(), adapters()
    one.update(draw(target, 0))
    state = one.state_dict()
    copy = {key: value.clone() for key, value in state.items()}
    other = scorer()
    other.load_state_dict(state)
    for later in (one, other):
        later.update(draw(target, 1))
        later.move(plan(target.live(), change(target.live())))
    assert all(torch.equal(state[key], copy[key]) for key in copy)
    assert all(isinstance(value, Tensor) for value in state.values())


@each_scorer
def test_scores_are_finite_on_zero_gradients_and_energies(scorer: Callable[[], Scorer]) -> None:
    one, target = scorer(), adapters()
    for number in range(3):
        one.update(draw(target, number, scale=0.0))
        assert one.scores().isfinite().all()
        assert one.scores().shape == target.live().shape
    one.move(plan(target.live(), change(target.live())))
    assert one.scores().isfinite().all()


@each_scorer
def test_scores_before_the_first_update_are_an_error(scorer: Callable[[], Scorer]) -> None:
    with pytest.raises(RuntimeError, match="before the first"):
        scorer().scores()


@each_scorer
def test_a_module_that_did_not_change_keeps_its_scores(scorer: Callable[[], Scorer]) -> None:
    one, target = scorer(), adapters()
    for number in range(2):
        one.update(draw(target, number))
    before = one.scores().clone()
    one.move(plan(target.live(), change(target.live())))
    if not isinstance(one, GradientAwareInput):  # its parts are measured by the mean over all directions
        assert torch.equal(one.scores()[2, :4], before[2, :4])


def test_elements_follow_moves_and_the_newborn_start_at_zero() -> None:
    one, target = Sensitivity(), adapters()
    for number in range(2):
        one.update(draw(target, number))
    before = one.scores().clone()
    one.move(plan(target.live(), change(target.live())))
    after = one.scores()
    assert torch.equal(after[0, :2], before[0, [0, 2]])
    assert not after[0, 2:].any()
    assert torch.equal(after[1, :2], before[1, :2])
    assert not after[1, 2:].any()


def test_slots_that_stay_in_place_keep_what_they_have_even_where_they_are_dead() -> None:
    one, target = Sensitivity(), adapters()
    one.update(draw(target, 0))
    before = one.scores().clone()
    one.move(stay(target.live(), change(target.live())))
    assert torch.equal(one.scores(), before)


def test_a_module_without_any_gradient_weighs_its_parts_equally() -> None:
    one, target = GradientAware(), adapters()
    one.update(draw(target, 0))
    reading = draw(target, 1)
    for parameter in target.layers[1].slot_parameters().values():
        parameter.grad = None
    one.update(reading)
    assert (one.scores()[1, :2] > 0).all()
    torch.testing.assert_close(one.state_dict()["shares"][1], torch.full((3,), 1 / 3))


def test_parts_of_very_different_sizes_count_alike() -> None:
    """A part that is a million times larger decides nothing more once both are relative to their means."""
    boards = []
    for scale in (1.0, 1e6):
        one, target = GradientAwareInput(), adapters()
        reading = draw(target, 0)
        reading.scale = scale
        one.update(reading)
        boards.append(one.scores()[target.live()])
    torch.testing.assert_close(*boards)
    assert boards[0].mean().item() == pytest.approx(1.0, rel=1e-5)


def test_parts_are_relative_to_the_directions_that_live_now() -> None:
    """Right after a move too: the newborn, at zero, count in the mean, and slots that were left do not."""
    one, target = GradientAwareInput(), adapters()
    one.update(draw(target, 0))
    one.move(plan(target.live(), change(target.live())))
    live = adapters([2, 4, 4]).live()
    assert one.scores()[live].mean().item() == pytest.approx(1.0, rel=1e-5)


def test_what_scorers_ask_for_and_when() -> None:
    scorers = [scorer() for scorer in SCORERS]
    assert {n for n, s in zip(NAMES, scorers, strict=True) if s.reads_inputs} == {"input", "bare input"}
    assert {n for n, s in zip(NAMES, scorers, strict=True) if s.reads_dense} == {"dense"}
    assert not any(s.reads_activations for s in scorers)
    events = {"core", "core none", "norm", "no fidelity"}
    assert {n for n, s in zip(NAMES, scorers, strict=True) if s.when == "at_events"} == events
    assert Sensitivity(when="after_step").when == "after_step"
    assert {s.when for s in scorers} == {"at_events", "before_step"}


class _NoSync(TorchDispatchMode):
    """Operators that make the host wait for a device, or whose result has a size that it must wait for."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "aten.equal")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert not any(name in str(func) for name in self.WAITS), f"{func} waits for the device"
        if "aten.index" in str(func):
            assert not any(i is not None and i.dtype == torch.bool for i in args[1]), f"{func} waits"
        return func(*args, **(kwargs or {}))


@contextmanager
def no_sync() -> Iterator[None]:
    with _NoSync():
        yield


@each_scorer
def test_an_update_never_waits_for_the_device(scorer: Callable[[], Scorer]) -> None:
    one, target = scorer(), adapters()
    one.update(draw(target, 0))
    reading = draw(target, 1)
    with no_sync():
        one.update(reading)


def test_the_check_for_waiting_would_find_one() -> None:
    with pytest.raises(AssertionError, match="waits"), no_sync():
        torch.ones(3).sum().item()
    with pytest.raises(AssertionError, match="waits"), no_sync():
        torch.ones(3)[torch.tensor([True, False, True])]
