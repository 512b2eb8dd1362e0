"""Scorers of AdaLoRA, PE-DyRA, TriAdaptLoRA, IncreLoRA and La-LoRA against their equations, written out with
plain loops over plain numbers."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from rankadapt.adapters import BA, BEA, Adapters, Reading, slots
from rankadapt.adapters.reading import Stack
from rankadapt.boards import Change
from rankadapt.policies.fixed_size import module_worth
from rankadapt.scorers import (
    CoreNormChange,
    DenseSensitivity,
    Fisher,
    GradientAware,
    GradientAwareInput,
    Sensitivity,
    TruncatedNorm,
)
from tests.tiny import mlp

RANKS = [3, 2, 4, 1]


class WithInputs(Reading):
    """A reading whose input energies are given, a list per module."""

    def __init__(self, adapters: Adapters, energies: list[list[float]]):
        super().__init__(adapters)
        self.energies = energies

    def input_energy(self) -> list[Stack]:
        return [
            Stack(stack.rows, torch.tensor([self.energies[row] for row in stack.rows.tolist()]))
            for stack in self.stacks("A")
        ]


class Course:
    """Adapters that a random walk trains, and the ids of their directions, so that a literal reference can
    keep its books by direction and not by slot."""

    def __init__(self, form: Any):
        self.adapters = Adapters(mlp(depth=4, slots=5, rank=RANKS, form=form))
        self.generator = torch.Generator().manual_seed(7)
        self.ids = [list(range(layer.rank)) for layer in self.adapters.layers]
        self.names = list(form.initial)
        self.born = 100

    def step(self) -> WithInputs:
        """Move the weights, draw gradients of very different sizes, and the inputs' energies."""
        energies = []
        for layer in self.adapters.layers:
            for name, parameter in layer.slot_parameters().items():
                noise = torch.randn(parameter.shape, generator=self.generator)
                size = {"A": 0.3, "B": 0.7, "e": 4.0}[name]
                alive = layer.live.view(-1, *[1] * (parameter.dim() - 1))
                parameter.data.add_(0.1 * noise * alive)
                parameter.grad = size * torch.randn(parameter.shape, generator=self.generator) * alive
            energies.append(torch.rand(layer.base.in_features, generator=self.generator).tolist())
        return WithInputs(self.adapters, energies)

    def move(self, scorer: Any, pruned: list[tuple[int, int]], born: list[int]) -> None:
        """Prune slots and add directions; the scorer follows, and so do the ids."""
        change = Change.none(self.adapters.live())
        for module, slot in pruned:
            change.pruned[module, slot] = True
        change.born[:] = torch.tensor(born)
        scorer.move(slots.apply(self.adapters, change, None, "none", 3))
        for module, count in enumerate(born):
            gone = {slot for m, slot in pruned if m == module}
            kept = [name for slot, name in enumerate(self.ids[module]) if slot not in gone]
            self.ids[module] = kept + list(range(self.born, self.born + count))
            self.born += count

    def weights(self, module: int, slot: int, name: str) -> list[tuple[float, float]]:
        """The (weight, gradient) pairs that a slot has in a parameter."""
        parameter = getattr(self.adapters.layers[module], name)
        values, gradients = parameter[slot].detach().reshape(-1), parameter.grad[slot].reshape(-1)
        return list(zip(values.tolist(), gradients.tolist(), strict=True))

    def live(self) -> Tensor:
        return self.adapters.live()

    def board(self, score: Any) -> Tensor:
        """(M, R): ``score(module, slot)`` of live slots."""
        board = torch.zeros(self.live().shape)
        for module, ids in enumerate(self.ids):
            for slot in range(len(ids)):
                board[module, slot] = score(module, slot)
        return board


class Books:
    """AdaLoRA section 3.2 and PE-DyRA Eq. 3, weight by weight."""

    def __init__(self, course: Course, beta1: float, beta2: float):
        self.course, self.beta1, self.beta2 = course, beta1, beta2
        self.state: dict[tuple[int, int, str, int], tuple[float, float]] = {}

    def update(self) -> None:
        for module, ids in enumerate(self.course.ids):
            for slot, direction in enumerate(ids):
                for name in self.course.names:
                    for j, (w, g) in enumerate(self.course.weights(module, slot, name)):
                        mean, spread = self.state.get((module, direction, name, j), (0.0, 0.0))
                        raw = abs(w * g)
                        mean = self.beta1 * mean + (1 - self.beta1) * raw
                        spread = self.beta2 * spread + (1 - self.beta2) * abs(raw - mean)
                        self.state[module, direction, name, j] = mean, spread

    def score(self, module: int, slot: int, name: str) -> float:
        """The mean of Ī · Ū over the weights that a slot has in a parameter."""
        direction, count = self.course.ids[module][slot], len(self.course.weights(module, slot, name))
        products = [math.prod(self.state[module, direction, name, j]) for j in range(count)]
        return sum(products) / count

    def shares(self, module: int) -> dict[str, float]:
        """ω of PE-DyRA Eq. 5."""
        norms = {
            name: math.sqrt(
                sum(
                    g * g
                    for slot in range(len(self.course.ids[module]))
                    for _, g in self.course.weights(module, slot, name)
                )
            )
            for name in self.course.names
        }
        return {name: norm / sum(norms.values()) for name, norm in norms.items()}

    def triple(self, module: int, slot: int, linear: bool = False) -> float:
        """PE-DyRA Eq. 4."""
        shares = self.shares(module)
        if linear:
            shares = dict.fromkeys(shares, 1 / len(shares))
        return sum(shares[name] * self.score(module, slot, name) for name in self.course.names)


EVENTS: dict[int, tuple[list[tuple[int, int]], list[int]]] = {
    2: ([(0, 0), (2, 1), (2, 3)], [2, 0, 1, 0]),
    4: ([(0, 1)], [0, 1, 0, 2]),
}


def close(scores: Tensor, expected: Tensor, live: Tensor) -> None:
    assert (expected[live] > 0).all()
    torch.testing.assert_close(scores[live], expected[live], rtol=2e-4, atol=0)


@pytest.mark.parametrize("form", [BEA(), BA()], ids=["bea", "ba"])
def test_adalora_sensitivity_over_steps_and_moves(form: Any) -> None:
    course, scorer = Course(form), Sensitivity(beta1=0.8, beta2=0.6)
    books = Books(course, 0.8, 0.6)
    for number in range(6):
        scorer.update(course.step())
        books.update()
        total = course.board(lambda m, i: sum(books.score(m, i, name) for name in course.names))
        close(scorer.scores(), total, course.live())
        if number in EVENTS:
            course.move(scorer, *EVENTS[number])


@pytest.mark.parametrize("weights", ["gradient", "linear"])
@pytest.mark.parametrize("form", [BEA(), BA()], ids=["bea", "ba"])
def test_pedyra_equations_3_to_5(form: Any, weights: Any) -> None:
    course, scorer = Course(form), GradientAware(beta1=0.7, beta2=0.9, weights=weights)
    books = Books(course, 0.7, 0.9)
    for number in range(6):
        scorer.update(course.step())
        books.update()
        expected = course.board(lambda m, i: books.triple(m, i, weights == "linear"))
        close(scorer.scores(), expected, course.live())
        if number in EVENTS:
            course.move(scorer, *EVENTS[number])


@pytest.mark.parametrize(("alpha", "normalise"), [(0.5, True), (0.3, False), (0.0, True), (1.0, False)])
def test_pedyra_equations_6_and_7(alpha: float, normalise: bool) -> None:
    course = Course(BEA())
    scorer = GradientAwareInput(alpha=alpha, normalise=normalise, beta_input=0.6)
    books = Books(course, 0.85, 0.85)
    energy: list[list[float]] = []
    for number in range(6):
        reading = course.step()
        scorer.update(reading)
        books.update()
        energy = [
            [0.6 * old + 0.4 * new for old, new in zip(a, b, strict=True)]
            for a, b in zip(energy or reading.energies, reading.energies, strict=True)
        ]

        def inputs(m: int, i: int, energy: list[list[float]] = energy) -> float:
            (e, _) = course.weights(m, i, "e")[0]
            A = [w for w, _ in course.weights(m, i, "A")]
            B = [w for w, _ in course.weights(m, i, "B")]
            met = sum(abs(a) * x for a, x in zip(A, energy[m], strict=True))
            return abs(e) * met * math.sqrt(sum(b * b for b in B))

        def part(score: Any) -> Tensor:
            board = course.board(score)
            numbers = board[course.live()].tolist()
            return board / (sum(numbers) / len(numbers)) if normalise else board

        expected = alpha * part(books.triple) + (1 - alpha) * part(inputs)
        close(scorer.scores(), expected, course.live())
        layer_scores = [
            sum(row[: len(ids)]) / len(ids) for row, ids in zip(expected.tolist(), course.ids, strict=True)
        ]
        worth = module_worth(scorer.scores(), course.live(), "mean")
        torch.testing.assert_close(worth, torch.tensor(layer_scores), rtol=2e-4, atol=0)
        if number in EVENTS:
            course.move(scorer, *EVENTS[number])


def numbers(generator: torch.Generator, *shape: int) -> Any:
    return torch.randn(shape, generator=generator).tolist()


def frobenius(rows: Any) -> float:
    return math.sqrt(sum(v * v for row in rows for v in row))


class Given:
    """A reading of which only what a module's scorer needs is there."""

    device = torch.device("cpu")

    def __init__(self, ranks: list[int], slots: int = 4, **given: Any):
        self.live = torch.arange(slots) < torch.tensor(ranks)[:, None]
        self.shape = tuple(self.live.shape)
        self.__dict__ |= given


class Factors(Given):
    """A and B of modules of different widths, cut to their ranks; what is cut off is set aside."""

    def __init__(self, ranks: list[int], A: Any, B: Any, blocks: list[int]):
        super().__init__(ranks, blocks=torch.tensor(blocks))
        self.values = {"A": A, "B": B}

    board = Reading.board

    def stacks(self, name: str, gradients: bool = False) -> list[Stack]:
        return self._stacks(name, self.live)

    def set_aside(self, name: str) -> list[Stack]:
        return self._stacks(name, ~self.live)

    def _stacks(self, name: str, slots: Tensor) -> list[Stack]:
        groups: dict[int, list[int]] = {}
        for row, factor in enumerate(self.values[name]):
            groups.setdefault(len(factor[0]), []).append(row)
        return [
            Stack(
                torch.tensor(rows),
                torch.tensor([self.values[name][row] for row in rows]) * slots[rows][:, :, None],
            )
            for rows in groups.values()
        ]


@pytest.mark.parametrize(("normalise", "power"), [("r", 1.0), ("sqrt_r", 0.5), ("none", 0.0)])
def test_triadaptlora_equation_11(normalise: Any, power: float) -> None:
    """Every score is the change since the last event, by the ranks that were then and that are now."""
    generator = torch.Generator().manual_seed(0)
    scorer = CoreNormChange(normalise=normalise)
    assert scorer.when == "at_events"
    before: list[float] = []
    for number, ranks in enumerate([[1, 1, 1], [1, 1, 1], [1, 3, 2], [4, 3, 2]]):
        norms = []
        for r in ranks:
            L, U = numbers(generator, r, r), numbers(generator, r, r)
            D = [[L[i][j] * (j <= i) + U[i][j] * (j >= i) for j in range(r)] for i in range(r)]
            norms.append(frobenius(D))
        reading: Any = Given(ranks, core_norm=lambda norms=norms: torch.tensor(norms))
        now = [norm / r**power for norm, r in zip(norms, ranks, strict=True)]
        if number == 0:
            scorer.begin(reading)
        else:
            scorer.update(reading)
            expected = torch.tensor([a - b for a, b in zip(now, before, strict=True)])
            torch.testing.assert_close(scorer.scores(), expected[:, None].expand(3, 4), rtol=1e-5, atol=1e-6)
            scorer.move(None)
        before = now


def test_increlora_module_score() -> None:
    """Q of the dense update, its mean and its uncertainty."""
    generator = torch.Generator().manual_seed(0)
    scorer = DenseSensitivity(beta1=0.8, beta2=0.6)
    mean, spread = [0.0, 0.0], [0.0, 0.0]
    for _ in range(4):
        Q = []
        for module, (rows, columns) in enumerate([(3, 5), (4, 2)]):
            update, gradient = numbers(generator, rows, columns), numbers(generator, rows, columns)
            terms = [abs(update[i][j] * gradient[i][j]) for i in range(rows) for j in range(columns)]
            Q.append(sum(terms) / math.sqrt(rows * columns))
            mean[module] = 0.8 * mean[module] + 0.2 * Q[module]
            spread[module] = 0.6 * spread[module] + 0.4 * abs(Q[module] - mean[module])
        reading: Any = Given([1, 2], dense_sensitivity=lambda Q=Q: torch.tensor(Q))
        scorer.update(reading)
        expected = torch.tensor([m * s for m, s in zip(mean, spread, strict=True)])
        torch.testing.assert_close(scorer.scores(), expected[:, None].expand(2, 4), rtol=1e-4, atol=0)


BLOCKS, BLOCK_RANKS = [0, 0, 5, 5, 7], {0: 2, 5: 3, 7: 4}
"""Five modules in three blocks of a model in which not every block is adapted."""


def factors(seed: int) -> Factors:
    generator = torch.Generator().manual_seed(seed)
    A = [numbers(generator, 4, d) for d in (5, 5, 5, 6, 6)]
    B = [numbers(generator, 4, d) for d in (3, 7, 3, 7, 3)]
    return Factors([BLOCK_RANKS[block] for block in BLOCKS], A, B, BLOCKS)


def value(reading: Factors, block: int, r: int) -> float:
    """La-LoRA Eq. 7, of factors cut to rank r."""
    modules = [m for m in range(5) if BLOCKS[m] == block]
    A, B = reading.values["A"], reading.values["B"]
    return sum(frobenius(B[m][:r]) + frobenius(A[m][:r]) for m in modules) / r


def contribution(reading: Factors, block: int, fidelity: bool) -> float:
    """La-LoRA Eq. 9, with the fidelity that the text around Eq. 10 describes."""
    r, total = BLOCK_RANKS[block], 0.0
    for m in range(5):
        if BLOCKS[m] == block:
            down, up = reading.values["A"][m], reading.values["B"][m]
            f_down = frobenius(down[:r]) / frobenius(down) if fidelity else 1.0
            f_up = frobenius(up[:r]) / frobenius(up) if fidelity else 1.0
            total += f_down * frobenius(up[:r]) + f_up * frobenius(down[:r])
    return total


def by_module(numbers: dict[int, float]) -> Tensor:
    return torch.tensor([numbers[block] for block in BLOCKS])


@pytest.mark.parametrize("fidelity", [True, False])
def test_lalora_contribution_and_value(fidelity: bool) -> None:
    scorer = TruncatedNorm(fidelity=fidelity)
    assert scorer.when == "at_events"
    for seed in range(2):
        reading: Any = factors(seed)
        scorer.update(reading)
        expected = by_module({block: contribution(reading, block, fidelity) for block in BLOCK_RANKS})
        torch.testing.assert_close(scorer.scores(), expected[:, None].expand(5, 4), rtol=1e-5, atol=0)
        sizes = [by_module({block: value(reading, block, r) for block in BLOCK_RANKS}) for r in range(1, 5)]
        torch.testing.assert_close(scorer.sizes(), torch.stack(sizes, 1), rtol=1e-5, atol=0)


def _everywhere(reading: Factors, name: str, gradients: bool = False) -> list[Stack]:
    return reading._stacks(name, torch.ones_like(reading.live))


def train_everywhere(reading: Any) -> None:
    """Let dead slots train where they stand; nothing is set aside."""
    reading.stacks = partial(_everywhere, reading)
    reading.set_aside = lambda name: reading._stacks(name, torch.zeros_like(reading.live))


def test_lalora_fidelity_counts_dead_slots_that_train_where_they_are() -> None:
    """Dead slots of an in-place storage are in the parameter itself: the same as set aside."""
    reading: Any = factors(0)
    aside, in_place = TruncatedNorm(), TruncatedNorm()
    aside.update(reading)
    train_everywhere(reading)
    in_place.update(reading)
    torch.testing.assert_close(in_place.scores(), aside.scores())
    torch.testing.assert_close(in_place.sizes(), aside.sizes())


def test_lalora_a_factor_of_zeros_has_lost_nothing() -> None:
    reading: Any = factors(0)
    reading.values["B"] = [[[0.0] * len(row) for row in factor] for factor in reading.values["B"]]
    scorer = TruncatedNorm()
    scorer.update(reading)
    norms = {b: sum(frobenius(reading.values["A"][m][:r]) for m in range(5) if BLOCKS[m] == b)
             for b, r in BLOCK_RANKS.items()}  # fmt: skip
    torch.testing.assert_close(scorer.scores()[:, 0], by_module(norms))


@pytest.mark.parametrize("dead_train", [False, True], ids=["aside", "in place"])
@pytest.mark.parametrize("relative", [True, False])
def test_lalora_fisher(relative: bool, dead_train: bool) -> None:
    """Squared gradients of live slots; the stand-in's factors are gradients as well as weights."""
    scorer, smoothed = Fisher(beta=0.7, relative=relative), None
    assert scorer.when == "before_step"
    for seed in range(3):
        reading: Any = factors(seed)
        if dead_train:
            train_everywhere(reading)
        scorer.update(reading)
        raw = {
            block: sum(
                frobenius(reading.values[name][m][:r]) ** 2
                for m in range(5) if BLOCKS[m] == block
                for name in ("A", "B")
            )
            for block, r in BLOCK_RANKS.items()
        }  # fmt: skip
        smoothed = {b: 0.7 * smoothed[b] + 0.3 * raw[b] for b in raw} if smoothed else raw
        expected = by_module(smoothed)
        if relative:
            expected = expected / (sum(expected.tolist()) / 5)
        torch.testing.assert_close(scorer.scores(), expected[:, None].expand(5, 4), rtol=1e-5, atol=0)
        sizes = [by_module({block: value(reading, block, r) for block in BLOCK_RANKS}) for r in range(1, 5)]
        torch.testing.assert_close(scorer.sizes(), torch.stack(sizes, 1), rtol=1e-5, atol=0)
