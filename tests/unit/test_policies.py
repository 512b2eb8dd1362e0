"""Policies against slow literal readings of the paper."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rankadapt.boards import Change, Event, Limits
from rankadapt.policies import Bidirectional, ExpandOnly, Policy, PruneOnly, Static
from rankadapt.policies.fixed_size import Aggregator

EVENT = Event(index=0, count=1, step=10, total=20)
Case = tuple[Tensor, Tensor, Limits, int]
aggregators = pytest.mark.parametrize("aggregator", ["min", "mean"])


@st.composite
def boards(draw: st.DrawFn) -> Case:
    """Scores, live board, limits and k. Small whole scores tie often; live slots lie anywhere; some modules
    are full, empty, or at their minimum; k may exceed the modules and all the candidates."""
    M, R = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    size = {"min_size": M * R, "max_size": M * R}
    score = st.integers(0, 3) if draw(st.booleans()) else st.integers(0, 10**6)
    scores = torch.tensor(draw(st.lists(score, **size)), dtype=torch.float32).view(M, R)
    live = torch.tensor(draw(st.lists(st.booleans(), **size))).view(M, R)
    ranks = live.sum(1).tolist()
    maximum = torch.tensor([draw(st.integers(max(r, 1), R)) for r in ranks])
    minimum = torch.full((M,), draw(st.integers(0, 2)))
    return scores, live, Limits(minimum, maximum), draw(st.integers(1, 40))


def prune(
    scores: list[list[float]], live: list[list[bool]], minimum: list[int], k: int
) -> set[tuple[int, int]]:
    """Algorithm 1, lines 10-16: go through the pool in ascending order, take k, spare a module that is down
    to its minimum."""
    pool = sorted((scores[m][i], m, i) for m in range(len(live)) for i in range(len(live[m])) if live[m][i])
    rank = [sum(row) for row in live]
    pruned: set[tuple[int, int]] = set()
    for _, m, i in pool:
        if len(pruned) < k and rank[m] > minimum[m]:
            pruned.add((m, i))
            rank[m] -= 1
    return pruned


def expand(
    scores: list[list[float]], kept: list[list[bool]], maximum: list[int], k: int, aggregator: Aggregator
) -> list[int]:
    """Algorithm 1, lines 18-27: one each to the layers of highest S_layer, round again while any are left; a
    full layer is passed over."""

    def worth(m: int) -> Fraction:
        values = [Fraction(s) for s, there in zip(scores[m], kept[m], strict=True) if there]
        if not values:
            return Fraction(-1)
        return min(values) if aggregator == "min" else sum(values, Fraction(0)) / len(values)

    order = sorted(range(len(kept)), key=lambda m: (-worth(m), m))
    rank, born = [sum(row) for row in kept], [0] * len(kept)
    while k and any(rank[m] < maximum[m] for m in order):
        for m in order:
            if k and rank[m] < maximum[m]:
                born[m], rank[m], k = born[m] + 1, rank[m] + 1, k - 1
    return born


def literal(case: Case, aggregator: Aggregator, prunes: bool = True, expands: bool = True) -> Change:
    board, live_board, limits, k = case
    scores, live = board.tolist(), live_board.tolist()
    pruned = prune(scores, live, limits.minimum.tolist(), k) if prunes else set()
    kept = [[there and (m, i) not in pruned for i, there in enumerate(row)] for m, row in enumerate(live)]
    given_out = len(pruned) if prunes else k
    born = [0] * len(live)
    if expands:
        born = expand(scores, kept, limits.maximum.tolist(), given_out, aggregator)
    mask = [[(m, i) in pruned for i in range(len(row))] for m, row in enumerate(live)]
    return Change(torch.tensor(mask), torch.tensor(born))


def assert_same(ours: Change, expected: Change) -> None:
    assert ours.pruned.tolist() == expected.pruned.tolist()
    assert ours.born.tolist() == expected.born.tolist()


def decide(policy: Policy, case: Case) -> Change:
    scores, live, limits, _ = case
    return policy(scores, live, limits, EVENT)


@aggregators
@given(case=boards())
def test_bidirectional_is_algorithm_1(aggregator: Aggregator, case: Case) -> None:
    ours = decide(Bidirectional(k=case[3], aggregator=aggregator), case)
    assert_same(ours, literal(case, aggregator))


@aggregators
@given(case=boards())
def test_expand_only_is_its_second_half(aggregator: Aggregator, case: Case) -> None:
    ours = decide(ExpandOnly(k=case[3], aggregator=aggregator), case)
    assert_same(ours, literal(case, aggregator, prunes=False))


@given(case=boards())
def test_prune_only_is_its_first_half(case: Case) -> None:
    assert_same(decide(PruneOnly(k=case[3]), case), literal(case, "min", expands=False))


@given(case=boards())
def test_bidirectional_conserves_the_budget_and_keeps_the_limits(case: Case) -> None:
    """Law 5, without looking at how it is done."""
    _, live, limits, k = case
    change = decide(Bidirectional(k=k), case)
    ranks, before = change.ranks_after(live), live.sum(1)
    assert ranks.sum() == before.sum()
    assert not (change.pruned & ~live).any()
    assert (ranks <= limits.maximum).all()
    assert (ranks >= torch.minimum(before, limits.minimum)).all()
    assert change.pruned.sum() <= k


@given(case=boards())
def test_k_are_taken_whenever_k_can_be(case: Case) -> None:
    _, live, limits, k = case
    spare = (live.sum(1) - limits.minimum).clamp(min=0).sum()
    assert decide(Bidirectional(k=k), case).pruned.sum() == min(k, int(spare))
    assert decide(PruneOnly(k=k), case).pruned.sum() == min(k, int(spare))
    room = (limits.maximum - live.sum(1)).sum()
    assert decide(ExpandOnly(k=k), case).born.sum() == min(k, int(room))


@given(case=boards(), policy=st.sampled_from([Bidirectional, PruneOnly, ExpandOnly, Static]))
def test_decisions_are_pure(case: Case, policy: type[Policy]) -> None:
    """Law 4: no state, no random draw, no write to what it reads; dead slots' scores do not matter."""
    scores, live, limits, _ = case
    one, before = policy(), (scores.clone(), live.clone())
    first = one(scores, live, limits, EVENT)
    torch.manual_seed(123)
    assert_same(one(scores, live, limits, EVENT), first)
    assert torch.equal(scores, before[0])
    assert torch.equal(live, before[1])
    noise = torch.where(live, scores, torch.nan)
    assert_same(policy()(noise, live, limits, EVENT), first)


def test_ties_go_by_module_then_slot() -> None:
    scores, live = torch.ones(3, 3), torch.ones(3, 3, dtype=torch.bool)
    limits = Limits(torch.full((3,), 1), torch.full((3,), 3))
    change = Bidirectional(k=3)(scores, live, limits, EVENT)
    assert change.pruned.tolist() == [[True, True, False], [True, False, False], [False] * 3]
    assert change.born.tolist() == [2, 1, 0]  # one to 0, one to 1, 2 is full, round again


def test_the_papers_example_moves_from_weak_to_strong() -> None:
    scores = torch.tensor([[9.0, 8.0, 0.0], [0.1, 0.2, 0.0], [5.0, 0.3, 0.0]])
    live = torch.tensor([[True, True, False]] * 3)
    limits = Limits(torch.full((3,), 1), torch.full((3,), 3))
    change = Bidirectional(k=2)(scores, live, limits, EVENT)
    assert change.pruned.nonzero().tolist() == [[1, 0], [2, 1]]  # 0.1; 0.2 is the last of its module; 0.3
    assert change.born.tolist() == [1, 0, 1]  # minima 8, 0.2, 5


def test_aggregators_can_disagree() -> None:
    scores = torch.tensor([[3.0, 3.0, 0.0], [9.0, 2.0, 0.0]])
    live = torch.tensor([[True, True, False]] * 2)
    limits = Limits(torch.full((2,), 1), torch.full((2,), 3))
    assert ExpandOnly(k=1, aggregator="min")(scores, live, limits, EVENT).born.tolist() == [1, 0]
    assert ExpandOnly(k=1, aggregator="mean")(scores, live, limits, EVENT).born.tolist() == [0, 1]


def test_growth() -> None:
    assert Bidirectional(k=12).growth(10) == 0
    assert Static().growth(10) == 0
    assert PruneOnly(k=12).growth(10) == -120
    assert ExpandOnly(k=12).growth(10) == 120


@given(case=boards())
def test_static_changes_nothing(case: Case) -> None:
    change = decide(Static(), case)
    assert not change.pruned.any()
    assert not change.born.any()
    assert not Static.moves_ranks
