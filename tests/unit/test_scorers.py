"""Scores against slow literal computations from the paper's equations."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rankadapt.adapters import BA, BEA, Adapters, Reading, inject
from rankadapt.boards import Change, Moves, plan
from rankadapt.scorers import Activation, Gradient, Hebbian, Random, Scorer, SmoothedScorer
from tests.tiny import BERT_TARGETS, DEBERTA_TARGETS, batch, bert, deberta, fill, mlp

Calls = dict[str, list[tuple[Tensor, Tensor]]]


def record(model: nn.Module) -> Calls:
    """The (input, output gradient) of every call of every adapted layer, filled by the passes to come."""
    calls: Calls = {name: [] for name in Adapters(model).names}
    for name, layer in zip(Adapters(model).names, Adapters(model).layers, strict=True):

        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, name: str = name) -> None:
            x = inputs[0].detach()
            output.register_hook(lambda g: calls[name].append((x, g.detach())))

        layer.register_forward_hook(hook)
    return calls


def literal_parts(
    model: nn.Module, calls: Calls
) -> tuple[list[list[float]], list[list[float]], list[list[float]]]:
    """``|e_i|``, alpha_i (Eq. 4) and gamma_i (Eq. 5, its gradient from Eq. 14), token by token."""
    cores, alphas, gammas = [], [], []
    for name, layer in zip(Adapters(model).names, Adapters(model).layers, strict=True):
        scale = 16.0 / layer.rank
        e = layer.e.tolist() if isinstance(layer.form, BEA) else [1.0] * layer.slots
        A = layer.A.tolist()
        energy = [0.0] * layer.slots
        gradient = [[0.0] * layer.base.out_features for _ in range(layer.slots)]
        for X, G in calls[name]:
            rows = zip(X.reshape(-1, X.shape[-1]).tolist(), G.reshape(-1, G.shape[-1]).tolist(), strict=True)
            for x, g in rows:
                for i in range(layer.rank):
                    u = sum(a * b for a, b in zip(x, A[i], strict=True))
                    energy[i] += u * u
                    for o, g_o in enumerate(g):
                        gradient[i][o] += scale * e[i] * u * g_o
        cores.append([abs(v) for v in e])
        alphas.append([math.sqrt(v) for v in energy])
        gammas.append([math.sqrt(sum(v * v for v in row)) for row in gradient])
    return cores, alphas, gammas


def step(model: nn.Module, seed: int, rows: int = 5, micro: int = 1) -> None:
    """One backward pass per micro-batch over ``rows`` rows; the loss is the mean over all of them."""
    model.zero_grad()
    data = torch.randn(rows, 3, 6, generator=torch.Generator().manual_seed(seed))
    for part in data.chunk(micro):
        (model(part).square().sum(-1).mean() / micro).backward()


def watched(scorer: Scorer, model: nn.Module) -> Adapters:
    adapters = Adapters(model)
    if scorer.reads_activations:
        adapters.watch()
    return adapters


@pytest.mark.parametrize("form", [BEA(), BA()], ids=["bea", "ba"])
@pytest.mark.parametrize(
    ("scorer", "factors"), [(Hebbian, (1, 1, 1)), (Activation, (1, 1, 0)), (Gradient, (1, 0, 1))]
)
def test_two_steps_equal_the_papers_equations(
    form: Any, scorer: type[SmoothedScorer], factors: tuple[int, int, int]
) -> None:
    """Eq. 4-7 on a two-layer network, the second step smoothed and after the weights have moved."""
    beta, one = 0.7, scorer(beta=0.7)
    model = mlp(depth=2, slots=4, rank=[3, 2], form=form)
    adapters = watched(one, model)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    smoothed: list[list[float]] | None = None
    for number in range(2):
        calls = record(model)
        step(model, seed=number)
        cores, alphas, gammas = literal_parts(model, calls)
        raw = [
            [
                math.prod(v for v, used in zip(parts, factors, strict=True) if used)
                for parts in zip(*rows, strict=True)
            ]
            for rows in zip(cores, alphas, gammas, strict=True)
        ]
        smoothed = raw if smoothed is None else [
            [beta * old + (1 - beta) * new for old, new in zip(a, b, strict=True)]
            for a, b in zip(smoothed, raw, strict=True)
        ]  # fmt: skip
        one.update(Reading(adapters))
        live = adapters.live()
        expected = torch.tensor(smoothed)
        assert (expected[live] > 0).all()
        torch.testing.assert_close(one.scores()[live], expected[live], rtol=1e-4, atol=0)
        optimizer.step()


def test_appendix_a_gradient_of_b() -> None:
    """Eq. 14, with the scale that the paper leaves out: dLoss/dB_i = s e_i (X A_i^T)^T G."""
    model = mlp(depth=1, rank=3)
    calls = record(model)
    step(model, 0)
    (layer,) = Adapters(model).layers
    ((X, G),) = calls["layers.0"]
    for i in range(3):
        u = X.reshape(-1, 6) @ layer.A[i].detach()
        expected = layer.scale * layer.e[i].detach() * (u @ G.reshape(-1, 7))
        torch.testing.assert_close(layer.B.grad[i], expected)


def test_gradient_norm_reads_every_factor() -> None:
    model = mlp(depth=2, rank=2)
    step(model, 0)
    adapters = Adapters(model)
    for name in ("A", "B", "e"):
        grads = [getattr(layer, name).grad.reshape(4, -1) for layer in adapters.layers]
        expected = torch.stack([g.square().sum(1).sqrt() for g in grads])
        torch.testing.assert_close(Reading(adapters).gradient_norm(name), expected)


def test_a_layer_that_got_no_gradient_scores_zero() -> None:
    model = mlp(depth=2, rank=2)
    scorer = Hebbian()
    adapters = watched(scorer, model)
    model.layers[1](torch.ones(3, 7)).sum().backward()
    scorer.update(Reading(adapters))
    assert not scorer.scores()[0].any()
    assert scorer.scores()[1, :2].all()


@pytest.mark.parametrize("scorer", [Hebbian, Activation, Gradient])
def test_gradient_accumulation_does_not_matter(scorer: type[SmoothedScorer]) -> None:
    """One batch of 32 or four of 8: one optimizer step is one optimizer step."""
    boards = []
    for micro in (1, 4):
        one, model = scorer(), mlp(depth=3, rank=3)
        adapters = watched(one, model)
        step(model, seed=0, rows=32, micro=micro)
        one.update(Reading(adapters))
        boards.append(one.scores())
    torch.testing.assert_close(*boards, rtol=1e-5, atol=0)
    assert (boards[0][:, :3] > 0).all()


@pytest.mark.parametrize("padding", [True, False], ids=["padding counts", "padding left out"])
def test_deberta_counts_every_call_of_shared_projections(padding: bool) -> None:
    """query_proj and key_proj run twice per step, on hidden states and on relative positions; a weight per
    token applies to the hidden states only."""
    model = fill(inject(deberta(), DEBERTA_TARGETS, BEA(), 3, 4))
    adapters = Adapters(model)
    adapters.watch()
    data = batch(padded=True)
    adapters.tokens.values = () if padding else (data["attention_mask"],)
    calls = record(model)
    model(**data).loss.backward()
    alpha = Reading(adapters).activation()
    twice = 0
    for m, (name, layer) in enumerate(zip(adapters.names, adapters.layers, strict=True)):
        shared = name.endswith(("query_proj", "key_proj"))
        shapes = sorted(tuple(x.shape[:2]) for x, _ in calls[name])
        assert shapes == ([(1, 16), (4, 7)] if shared else [(4, 7)])
        twice += shared
        energy = torch.zeros(layer.slots)
        for x, _ in calls[name]:
            squares = (x @ layer.A.detach().t()).square()
            if not padding and x.shape[0] == 4:
                squares = squares * data["attention_mask"][..., None]
            energy += squares.sum((0, 1))
        torch.testing.assert_close(alpha[m], energy.sqrt(), rtol=1e-5, atol=1e-6)
    assert twice == 4


def test_padding_counts_unless_it_is_weighted_away() -> None:
    """Token weights leave out exactly the padded positions: the same as running each row at its length."""
    boards = []
    for weighted, trimmed in ((True, False), (False, True), (False, False)):
        model = fill(inject(bert(layers=1), BERT_TARGETS[:2], BEA(), 3, 4))
        adapters = Adapters(model)
        adapters.watch()
        data = batch(padded=True)
        adapters.tokens.values = (data["attention_mask"],) if weighted else ()
        lengths = data["attention_mask"].sum(1).tolist() if trimmed else [7]
        for row, length in enumerate(lengths):
            part = {k: v[row : row + 1] for k, v in data.items()} if trimmed else data
            part = {k: v[:, :length] if v.dim() > 1 else v for k, v in part.items()}
            model(**part).loss.backward()
        boards.append(Reading(adapters).activation())
    weighted_away, trimmed_rows, counted = boards
    torch.testing.assert_close(weighted_away, trimmed_rows, rtol=1e-4, atol=1e-5)
    assert (counted[:, :3] > 1.05 * weighted_away[:, :3]).any()


class Queue(SmoothedScorer):
    """A smoothed scorer whose raw scores are given."""

    def raw(self, reading: Any) -> Tensor:
        return torch.tensor(reading)


def births(board: list[list[float]], pruned: list[list[int]], born: list[int]) -> Moves:
    live = torch.tensor(board) > 0
    change = Change.none(live)
    for m, i in pruned:
        change.pruned[m, i] = True
    change.born[:] = torch.tensor(born)
    return plan(live, change)


def test_smoothing_follows_moves_and_the_young_start_at_their_first_raw_score() -> None:
    scorer = Queue(beta=0.5)
    scorer.update([[8.0, 4.0, 0.0], [2.0, 6.0, 0.0]])
    assert scorer.scores().tolist() == [[8, 4, 0], [2, 6, 0]]  # the first raw score, not (1 - beta) of it
    scorer.update([[4.0, 4.0, 0.0], [4.0, 4.0, 0.0]])
    assert scorer.scores().tolist() == [[6, 4, 0], [3, 5, 0]]
    scorer.move(births([[6, 4, 0], [3, 5, 0]], pruned=[[0, 0]], born=[0, 1]))
    assert scorer.scores().tolist() == [[4, 0, 0], [3, 5, 0]]
    scorer.update([[8.0, 0.0, 0.0], [1.0, 1.0, 100.0]])
    assert scorer.scores().tolist() == [[6, 0, 0], [2, 3, 100]]
    scorer.update([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert scorer.scores().tolist() == [[3, 0, 0], [1, 1.5, 50]]  # young only once


def test_smoothing_resumes_between_birth_and_first_score() -> None:
    def run(resumed: bool) -> Tensor:
        scorer = Queue(beta=0.85)
        scorer.update([[8.0, 4.0, 0.0]])
        scorer.move(births([[8, 4, 0]], pruned=[[0, 1]], born=[2]))
        if resumed:
            state, scorer = scorer.state_dict(), Queue(beta=0.85)
            scorer.load_state_dict(state)
        scorer.update([[1.0, 10.0, 20.0]])
        return scorer.scores()

    assert torch.equal(run(True), run(False))
    assert run(True)[0, 1:].tolist() == [10, 20]


def test_a_saved_state_is_not_changed_by_later_updates() -> None:
    scorer = Queue(beta=0.5)
    scorer.update([[8.0]])
    state = scorer.state_dict()
    scorer.update([[0.0]])
    assert state["smoothed"].tolist() == [[8.0]]


def test_scores_before_the_first_update_are_an_error() -> None:
    with pytest.raises(RuntimeError, match="before the first"):
        Hebbian().scores()


def test_random_scores_follow_seed_and_step_and_resume() -> None:
    adapters = Adapters(mlp(depth=3))

    def course(seed: int, resume_at: int | None = None) -> list[Tensor]:
        scorer, boards = Random(seed=seed), []
        for number in range(4):
            if number == resume_at:
                state, scorer = scorer.state_dict(), Random(seed=seed)
                scorer.load_state_dict(state)
                assert torch.equal(scorer.scores(), boards[-1])
            scorer.update(Reading(adapters))
            torch.rand(3)  # the run's own random numbers must not matter
            boards.append(scorer.scores())
        return boards

    first = torch.stack(course(0))
    assert torch.equal(first, torch.stack(course(0)))
    assert torch.equal(first, torch.stack(course(0, resume_at=2)))
    assert first.shape == (4, 3, 4)
    assert len({tuple(b.flatten().tolist()) for b in first}) == 4, (
        "scores must be drawn anew after every step"
    )
    assert not torch.equal(first, torch.stack(course(1)))


def test_random_scores_leave_the_runs_random_state_alone() -> None:
    scorer, adapters = Random(), Adapters(mlp())
    state = torch.get_rng_state()
    scorer.update(Reading(adapters))
    scorer.scores()
    assert torch.equal(torch.get_rng_state(), state)


def test_only_scorers_that_read_activations_ask_for_them() -> None:
    assert [s.reads_activations for s in (Hebbian, Activation, Gradient, Random)] == [
        True,
        True,
        False,
        False,
    ]
