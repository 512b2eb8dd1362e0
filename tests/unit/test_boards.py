"""The primitives on boards, and the plan of a change."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rankadapt.boards import Change, deal, lowest, plan, removable


@st.composite
def scored(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    M, R = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    size = {"min_size": M * R, "max_size": M * R}
    scores = torch.tensor(draw(st.lists(st.integers(0, 3), **size)), dtype=torch.float32).view(M, R)
    return scores, torch.tensor(draw(st.lists(st.booleans(), **size))).view(M, R)


@st.composite
def changes(draw: st.DrawFn) -> tuple[Tensor, Change]:
    """Live prefixes and a change that fits."""
    M, R = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    ranks = [draw(st.integers(0, R)) for _ in range(M)]
    live = torch.arange(R) < torch.tensor(ranks)[:, None]
    pruned = live & torch.tensor(draw(st.lists(st.booleans(), min_size=M * R, max_size=M * R))).view(M, R)
    left = (live & ~pruned).sum(1).tolist()
    return live, Change(pruned, torch.tensor([draw(st.integers(0, R - n)) for n in left]))


@given(board=scored(), k=st.integers(0, 30))
def test_lowest(board: tuple[Tensor, Tensor], k: int) -> None:
    scores, candidates = board
    ordered = sorted((float(scores[m, i]), m, i) for m, i in candidates.nonzero().tolist())
    expected = {(m, i) for _, m, i in ordered[:k]}
    assert {tuple(x) for x in lowest(scores, candidates, k).nonzero().tolist()} == expected


@given(board=scored(), minimum=st.integers(0, 3))
def test_removable_spares_each_modules_best(board: tuple[Tensor, Tensor], minimum: int) -> None:
    scores, live = board
    may_go = removable(scores, live, torch.full((len(live),), minimum))
    for m, row in enumerate(live.tolist()):
        ordered = sorted((float(scores[m, i]), i) for i, there in enumerate(row) if there)
        expected = {i for _, i in ordered[: max(len(ordered) - minimum, 0)]}
        assert set(may_go[m].nonzero().flatten().tolist()) == expected


def test_deal_goes_round_and_passes_over_the_full() -> None:
    worth = torch.tensor([1.0, 3.0, 2.0, -torch.inf])
    assert deal(worth, torch.tensor([5, 5, 5, 5]), 2).tolist() == [0, 1, 1, 0]
    assert deal(worth, torch.tensor([5, 1, 5, 5]), 6).tolist() == [2, 1, 2, 1]
    assert deal(worth, torch.tensor([1, 0, 0, 1]), 9).tolist() == [1, 0, 0, 1]
    assert deal(worth, torch.tensor([1, 1, 1, 1]), 0).tolist() == [0, 0, 0, 0]


def test_deal_to_a_module_above_its_maximum() -> None:
    """It has no room, and takes none from the others."""
    assert deal(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([-2, 1, 1]), 2).tolist() == [0, 1, 1]


@given(case=changes())
def test_plan_closes_gaps_in_order_and_puts_the_young_behind(case: tuple[Tensor, Change]) -> None:
    live, change = case
    before = [t.clone() for t in (live, change.pruned, change.born)]
    moves = plan(live, change)
    R = live.shape[1]
    for m in range(len(live)):
        kept = [i for i in range(R) if live[m, i] and not change.pruned[m, i]]
        young = int(change.born[m])
        assert moves.source[m].tolist() == kept + [-1] * (R - len(kept))
        assert moves.born[m].tolist() == [len(kept) <= i < len(kept) + young for i in range(R)]
        assert (m in moves.changed) == bool(change.pruned[m].any() or young)
    assert torch.equal(((moves.source >= 0) | moves.born).sum(1), change.ranks_after(live))
    assert all(torch.equal(a, b) for a, b in zip(before, (live, change.pruned, change.born), strict=True))


@given(case=changes(), fill=st.sampled_from([0.0, -7.0]))
def test_carry_moves_a_board_like_the_slots(case: tuple[Tensor, Change], fill: float) -> None:
    live, change = case
    board = torch.arange(1.0, live.numel() + 1).view_as(live)
    carried = plan(live, change).carry(board, fill)
    for m in range(len(live)):
        values = [float(board[m, i]) for i in range(live.shape[1]) if live[m, i] and not change.pruned[m, i]]
        assert carried[m].tolist() == values + [fill] * (live.shape[1] - len(values))


def test_the_change_that_changes_nothing() -> None:
    live = torch.tensor([[True, True, False], [True, False, False]])
    moves = plan(live, Change.none(live))
    assert moves.changed == []
    assert torch.equal(moves.source >= 0, live)
    assert Change.none(live).ranks_after(live).tolist() == [2, 1]
