"""The policies' laws: limits, budgets, purity, ties, options; and budgets of parameters."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import rankadapt.policies
from rankadapt.adapters import BA, Adapters, slots
from rankadapt.adapters.reading import Reading
from rankadapt.boards import Change, Event, Limits, affordable, deal, spent
from rankadapt.policies import (
    Bidirectional,
    ContributionBudget,
    CubicBudget,
    Incremental,
    LinearDepth,
    Policy,
    Sampled,
    Static,
    ThresholdGrowth,
    Truncate,
)
from rankadapt.policies.bidirectional import paying
from rankadapt.scorers import TruncatedNorm
from tests import tiny

CONF = Path(__file__).parents[2] / "conf" / "policy"


@dataclasses.dataclass
class Case:
    """A board with ties, empty and full modules, and whatever budget."""

    scores: Tensor
    live: Tensor
    limits: Limits
    event: Event

    def decide(self, policy: Policy) -> Change:
        return policy(self.scores, self.live, self.limits, self.event)


@st.composite
def cases(draw: st.DrawFn, prefix: bool = False, costs: bool = False) -> Case:
    M, R = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    size = {"min_size": M * R, "max_size": M * R}
    score = st.integers(0, 3) if draw(st.booleans()) else st.integers(0, 10**6)
    scores = torch.tensor(draw(st.lists(score, **size)), dtype=torch.float32).view(M, R)
    live = torch.tensor(draw(st.lists(st.booleans(), **size))).view(M, R)
    if prefix:
        live = torch.arange(R) < live.sum(1).clamp(min=1)[:, None]
    maximum = torch.tensor([draw(st.integers(max(r, 1), R)) for r in live.sum(1).tolist()])
    minimum = torch.full((M,), draw(st.integers(0, 1)))
    cost = torch.tensor([draw(st.integers(1, 9)) for _ in range(M)]) if costs else None
    block = torch.tensor(sorted(draw(st.integers(0, 3)) for _ in range(M)))
    limits = Limits(minimum, maximum, cost, block)
    total = draw(st.integers(2, 30))
    step = draw(st.integers(1, total))
    least = spent(live, limits.costs())
    budget = draw(st.integers(M, M * R) if cost is None else st.integers(least, least + 40))
    return Case(scores, live, limits, Event(0, 1, step, total, 0, max(total - 3, 1), budget))


POLICIES: list[Policy] = [
    Bidirectional(k="auto", margin=1.5),
    CubicBudget(),
    CubicBudget(init_rank=2),
    ThresholdGrowth(),
    ThresholdGrowth(threshold="nonlinear", delta_r=1),
    Incremental(top_h=2),
    Truncate(),
    Truncate(by="module"),
]
every_policy = pytest.mark.parametrize("policy", POLICIES, ids=str)


def assert_same(one: Change, other: Change) -> None:
    assert one.pruned.tolist() == other.pruned.tolist()
    assert one.born.tolist() == other.born.tolist()
    revived = [None if change.revived is None else change.revived.tolist() for change in (one, other)]
    assert revived[0] == revived[1]


@every_policy
@given(case=cases())
def test_limits_are_kept_and_what_is_pruned_lived(policy: Policy, case: Case) -> None:
    change = case.decide(policy)
    before, ranks = case.live.sum(1), change.ranks_after(case.live)
    assert not (change.pruned & ~case.live).any()
    assert change.revived is None or not (change.revived & case.live).any()
    assert (ranks <= case.limits.maximum).all()
    assert (ranks >= torch.minimum(before, case.limits.minimum)).all()
    assert (change.born >= 0).all()


@every_policy
@given(case=cases())
def test_decisions_are_pure(policy: Policy, case: Case) -> None:
    """No random draw, no write to what is read; dead slots' scores matter only where they may revive."""
    scores, live = case.scores.clone(), case.live.clone()
    first = case.decide(policy)
    torch.manual_seed(123)
    assert_same(case.decide(policy), first)
    assert torch.equal(case.scores, scores)
    assert torch.equal(case.live, live)
    if policy.storage != "in_place":
        noise = torch.where(live, scores, torch.nan)
        assert_same(policy(noise, live, case.limits, case.event), first)


@given(case=cases())
def test_cubic_budget_is_exact(case: Case) -> None:
    """Exactly b(t) live, as far as the bounds allow; no dead direction scores higher than a live one that
    its module could spare."""
    policy, limits = CubicBudget(init_rank=3), case.limits
    kept = case.live & ~(change := case.decide(policy)).pruned
    assert change.revived is not None
    kept |= change.revived
    M, last, step = len(kept), case.event.last, case.event.step
    b_T = case.event.budget
    target = b_T if step >= last else int((3 * M - b_T) * ((1 - step / last) ** 3) + b_T)
    assert kept.sum() == min(max(target, int(limits.minimum.sum())), int(limits.maximum.sum()))
    spare, full = kept.sum(1) > limits.minimum, kept.sum(1) >= limits.maximum
    if bool((kept & spare[:, None]).any()) and bool((~kept & ~full[:, None]).any()):
        assert case.scores[kept & spare[:, None]].min() >= case.scores[~kept & ~full[:, None]].max()


def test_cubic_budget_cuts_ties_by_module_then_slot() -> None:
    live, limits = torch.ones(2, 3, dtype=torch.bool), Limits(torch.zeros(2).long(), torch.full((2,), 3))
    change = CubicBudget()(torch.ones(2, 3), live, limits, Event(0, 1, 9, 9, 0, 9, 2))
    assert change.pruned.tolist() == [[True] * 3, [True, False, False]]
    assert CubicBudget().storage == "in_place"
    assert CubicBudget().closes


@given(case=cases())
def test_growth_never_exceeds_the_budget(case: Case) -> None:
    for policy in (ThresholdGrowth(), ThresholdGrowth(threshold="nonlinear"), Incremental(top_h=3)):
        change, before = case.decide(policy), int(case.live.sum())
        assert before + change.born.sum() <= max(case.event.budget, before)
        if before < case.event.budget and (case.live.sum(1) < case.limits.maximum).any():
            assert change.born.any()
        assert policy.ends() == "at_most"
    assert ThresholdGrowth(cap=False).ends() == "anywhere"
    assert not ThresholdGrowth.prunes
    assert not Incremental.prunes


def test_equal_module_scores_tie_whatever_the_ranks() -> None:
    """0.1 three times is not 0.3 in float32; a module's mean must still be what the scorer wrote."""
    live = torch.arange(9) < torch.tensor([7, 3, 1, 6])[:, None]
    limits = Limits(torch.zeros(4).long(), torch.full((4,), 9))
    change = Incremental(top_h=2, delta_r=1)(
        torch.full((4, 9), 0.1), live, limits, Event(0, 1, 1, 9, 0, 9, 99)
    )
    assert change.born.tolist() == [1, 1, 0, 0]


@given(case=cases())
def test_truncation_cuts_to_the_budget_at_the_last_event_only(case: Case) -> None:
    limits = dataclasses.replace(case.limits, minimum=torch.zeros_like(case.limits.minimum))
    early = dataclasses.replace(case.event, index=0, count=2)
    for policy in (Truncate(), Truncate(by="module")):
        assert_same(policy(case.scores, case.live, limits, early), Change.none(case.live))
    change = Truncate()(case.scores, case.live, limits, case.event)
    kept = case.live & ~change.pruned
    assert kept.sum() == min(int(case.live.sum()), case.event.budget)
    if change.pruned.any() and kept.any():
        assert case.scores[change.pruned].max() <= case.scores[kept].min()
    ranks = Truncate(by="module")(case.scores, case.live, limits, case.event).ranks_after(case.live)
    M = len(ranks)
    shares = torch.tensor([case.event.budget // M + (m < case.event.budget % M) for m in range(M)])
    assert ranks.tolist() == torch.minimum(case.live.sum(1), shares).tolist()


# k: auto


def test_as_many_moves_as_pay() -> None:
    scores = torch.tensor([[9.0, 8.0, 0.0], [0.1, 3.0, 0.0], [5.0, 0.3, 0.0]])
    live = torch.tensor([[True, True, False]] * 3)
    limits = Limits(torch.full((3,), 1), torch.full((3,), 3))

    def k(margin: float, most: int = 9) -> int:
        return paying(scores, live, limits, "min", margin, most)

    assert k(2.0) == 2  # 0.1 to the worth 8, 0.3 to the worth 5; not 8 to the worth 3
    assert k(2.0, most=1) == 1
    assert k(50.0) == 1  # 0.3 * 50 > 5
    assert k(100.0) == 0  # 0.1 * 100 > 8
    change = Bidirectional(k="auto", k_max=9)(scores, live, limits, Event(0, 1, 1, 9))
    assert change.pruned.nonzero().tolist() == [[1, 0], [2, 1]]
    assert change.born.tolist() == [1, 0, 1]


@given(case=cases(), margin=st.floats(1.1, 10), aggregator=st.sampled_from(["min", "mean"]))
def test_every_move_of_auto_pays_on_what_remains(case: Case, margin: float, aggregator: Any) -> None:
    policy = Bidirectional(k="auto", margin=margin, k_max=5, aggregator=aggregator)
    change = case.decide(policy)
    k = int(change.pruned.sum())
    assert k <= 5
    assert_same(change, case.decide(Bidirectional(k=max(k, 1), aggregator=aggregator)) if k else change)
    kept = case.live & ~change.pruned
    given_up, receivers = sorted(case.scores[change.pruned].tolist()), change.born
    worths = []
    for m, row in enumerate(kept):
        left = case.scores[m][row]
        low = float(left.min() if aggregator == "min" else left.mean()) if len(left) else -1.0
        worths += [(round_, -low, m) for round_ in range(int(receivers[m]))]
    for score, (_, worth, _) in zip(given_up, sorted(worths), strict=True):
        assert score * margin < -worth * (1 + 1e-5)


@given(case=cases())
def test_equal_scores_never_move(case: Case) -> None:
    even = dataclasses.replace(case, scores=torch.ones_like(case.scores))
    assert not even.decide(Bidirectional(k="auto")).pruned.any()


def test_hysteresis() -> None:
    """What has moved one way moves back only once the ratio has turned by the margin squared."""
    limits = Limits(torch.full((2,), 1), torch.full((2,), 4))
    live, event = torch.tensor([[True, True, True, False]] * 2), Event(0, 1, 1, 9)

    def moves(ratio: float) -> list[int]:
        scores = torch.tensor([1.0, ratio])[:, None].expand(2, 4)
        change = Bidirectional(k="auto", k_max=1, margin=2.0)(scores, live, limits, event)
        return (change.ranks_after(live) - live.sum(1)).tolist()

    assert moves(2.1) == [-1, 1]
    assert [moves(ratio) for ratio in (1.9, 1.0, 0.6)] == [[0, 0]] * 3
    assert moves(0.4) == [1, -1]


# Budgets of parameters


def literal_deal(worth: list[float], room: list[int], purse: int, cost: list[int]) -> list[int]:
    order, dealt = sorted(range(len(worth)), key=lambda m: (-worth[m], m)), [0] * len(worth)
    while any(room[m] > dealt[m] and cost[m] <= purse for m in order):
        for m in order:
            if room[m] > dealt[m] and cost[m] <= purse:
                dealt[m], purse = dealt[m] + 1, purse - cost[m]
    return dealt


modules = st.integers(1, 7).flatmap(
    lambda M: st.tuples(
        st.lists(st.integers(0, 3).map(float), min_size=M, max_size=M),
        st.lists(st.integers(-2, 5), min_size=M, max_size=M),
        st.lists(st.integers(1, 9), min_size=M, max_size=M),
    )
)


@given(case=modules, purse=st.integers(-5, 80))
def test_dealing_goes_round_until_none_fits(
    case: tuple[list[float], list[int], list[int]], purse: int
) -> None:
    worth, room, cost = case
    ours = deal(torch.tensor(worth), torch.tensor(room), purse, torch.tensor(cost))
    assert ours.tolist() == literal_deal(worth, room, purse, cost)
    ones = torch.ones(len(worth), dtype=torch.long)
    unpriced = deal(torch.tensor(worth), torch.tensor(room), purse)
    assert deal(torch.tensor(worth), torch.tensor(room), purse, ones).tolist() == unpriced.tolist()


@given(cost=st.lists(st.integers(1, 9), max_size=12), purse=st.integers(-3, 50))
def test_what_a_purse_pays_for(cost: list[int], purse: int) -> None:
    expected, left = [], purse
    for price in cost:
        expected.append(price <= left)
        left -= price * expected[-1]
    assert affordable(torch.tensor(cost, dtype=torch.long), purse).tolist() == expected


PRICED = [Bidirectional(k=3), Bidirectional(k="auto"), ThresholdGrowth(), Incremental(top_h=2), CubicBudget()]


@pytest.mark.parametrize("policy", PRICED, ids=str)
@given(case=cases(costs=True))
def test_parameters_never_exceed_their_budget(policy: Policy, case: Case) -> None:
    """And nothing that still fits a module with room is left unspent by a bidirectional change."""
    cost = case.limits.costs()
    late = dataclasses.replace(case, event=dataclasses.replace(case.event, step=case.event.total))
    change = late.decide(policy)
    ranks = change.ranks_after(case.live)
    total = int((ranks * cost).sum())
    assert total <= max(case.event.budget, int((case.limits.minimum * cost).sum()))
    if isinstance(policy, Bidirectional | CubicBudget) and total <= case.event.budget:
        assert not ((ranks < case.limits.maximum) & (total + cost <= case.event.budget)).any()
    assert policy.counts_parameters


@pytest.mark.parametrize("policy", PRICED, ids=str)
@given(case=cases())
def test_with_every_cost_one_nothing_is_different(policy: Policy, case: Case) -> None:
    budget = int(case.live.sum()) if isinstance(policy, Bidirectional) else case.event.budget
    case = dataclasses.replace(case, event=dataclasses.replace(case.event, budget=budget))
    ones = dataclasses.replace(case.limits, cost=torch.ones_like(case.limits.minimum))
    assert_same(policy(case.scores, case.live, ones, case.event), case.decide(policy))


# La-LoRA


@given(case=cases(prefix=True), later=st.integers(0, 50))
def test_blocks_share_a_rank_within_bounds(case: Case, later: int) -> None:
    policy, limits = ContributionBudget(gamma=2.0), case.limits
    for factor in (1, 1 + later):
        case.event = dataclasses.replace(case.event, sizes=factor * torch.ones(case.live.shape))
        change = case.decide(policy)
        ranks = change.ranks_after(case.live)
        assert (ranks >= 1).all()
        assert (ranks <= limits.maximum).all()
        assert ranks.sum() <= case.event.budget
        for block in limits.blocks().unique():
            assert len(ranks[limits.blocks() == block].unique()) == 1
        kept = case.live & ~change.pruned
        assert (kept.cumsum(1) == kept.sum(1).clamp(max=1)[:, None] * torch.arange(1, 99)[: kept.shape[1]])[
            kept
        ].all()  # the last live slots went: what is left is a prefix


def test_the_contribution_budget_goes_on_from_its_state() -> None:
    limits = Limits(torch.ones(4).long(), torch.full((4,), 8), block=torch.tensor([0, 0, 1, 1]))
    live, scores = torch.arange(8).expand(4, 8) < 1, torch.zeros(4, 8)
    event = [Event(t, 9, t, 9, 0, 9, 32, sizes=torch.full((4, 8), 1.0 + t)) for t in range(4)]
    straight, resumed = ContributionBudget(), ContributionBudget()
    for t in range(3):
        straight(scores, live, limits, event[t])
    resumed.load_state_dict(straight.state_dict())
    last = straight(scores, live, limits, event[3])
    assert_same(resumed(scores, live, limits, event[3]), last)
    assert straight.total == pytest.approx(2 * 2 * 1.5 * 4 / 3)
    assert last.born.tolist() == [3, 3, 3, 3]
    assert (straight.storage, straight.ends()) == ("aside", "at_most")
    without = ContributionBudget(growing=False)(scores, live, limits, event[0])
    assert without.born.tolist() == [7, 7, 7, 7]


@pytest.mark.parametrize("compare", ["as_written", "same_rank"])
def test_at_the_same_rank_a_budget_grows_by_the_weights_alone(compare: Any) -> None:
    """Ranks have risen from 1 and no weight has moved: as written the values fall with it, and the budget."""
    adapters = Adapters(tiny.mlp(depth=4, width=12, slots=6, rank=1, form=BA(), storage="aside"))
    policy, scorer = ContributionBudget(compare=compare), TruncatedNorm()
    limits, directions = Limits(torch.ones(4).long(), torch.full((4,), 6)), []
    for t in range(3):
        scorer.update(Reading(adapters))
        if t == 1 and policy.total is not None:
            policy.total *= 4  # as if the weights had grown before
        event = Event(t, 9, t, 9, 0, 9, 24, sizes=scorer.sizes())
        change = policy(scorer.scores(), adapters.live(), limits, event)
        slots.apply(adapters, change, None, "new", seed=t)
        directions.append(sum(adapters.ranks()))
    assert directions[:2] == [4, 16]
    assert (directions[2] == 16) if compare == "same_rank" else (directions[2] < 16)


# Static ones


@given(
    step=st.integers(1, 10**6), slots=st.integers(1, 64), seed=st.integers(0, 2**40),
    law=st.sampled_from(["uniform", "geometric"]), p=st.floats(0.01, 0.99),
)  # fmt: skip
def test_the_window_is_a_function_of_seed_and_step(
    step: int, slots: int, seed: int, law: Any, p: float
) -> None:
    policy = Sampled(distribution=law, p=p)
    assert 1 <= policy.window(step, slots, seed) <= slots
    assert policy.window(step, slots, seed) == Sampled(distribution=law, p=p).window(step, slots, seed)


def test_windows_differ_between_steps_and_seeds() -> None:
    draws = [[Sampled().window(step, 8, seed) for step in range(1, 33)] for seed in range(8)]
    assert len({tuple(d) for d in draws}) == 8
    assert all(len(set(d)) > 4 for d in draws)
    assert draws[0][:6] == [2, 2, 6, 6, 4, 5]  # the same on every machine
    assert Static().window(1, 8, 0) is None
    assert not Sampled().moves_ranks
    assert (Sampled(frozen=True).frozen, Static().frozen) == (True, False)


def test_ranks_that_rise_with_depth() -> None:
    """PriLoRA's 4 to 12 in twelve blocks of six modules: 8 on average, alike within a block."""
    blocks = [block for block in range(12) for _ in range(6)]
    ranks = LinearDepth().allocate(576, blocks)
    assert ranks[::6] == [4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11, 12]
    assert all(len(set(ranks[i : i + 6])) == 1 for i in range(0, 72, 6))
    assert ranks == sorted(ranks)
    assert sum(ranks) == 576
    assert LinearDepth(r_s=3, r_f=3).allocate(14, [0, 0, 1, 2]) == Static().allocate(14, [0, 0, 1, 2])


@given(
    blocks=st.lists(st.integers(0, 5), min_size=1, max_size=20),
    each=st.integers(0, 9),
    more=st.integers(0, 5),
    r_s=st.floats(0.1, 20),
    r_f=st.floats(0.1, 20),
)
def test_allocations_sum_to_the_total(
    blocks: list[int], each: int, more: int, r_s: float, r_f: float
) -> None:
    total = each * len(blocks) + more
    for policy in (LinearDepth(r_s=r_s, r_f=r_f), Static()):
        ranks = policy.allocate(total, blocks)
        assert sum(ranks) == total
        assert min(ranks) >= min(each, 1)


# Options


def test_spans_and_reaches() -> None:
    """72 modules, reference rank 8, 10 events."""
    assert CubicBudget().span(576, 72, 10, "initial") == (864, 576)
    assert CubicBudget(init_rank=10).span(576, 72, 10, "final") == (720, 576)
    assert CubicBudget().span(72, 72, 10, "initial") == (144, 72)  # 1.5 -> 2, as a shipped script
    assert CubicBudget().reach(12, 10, 72, 576) == 12
    assert Truncate().span(576, 72, 10, "initial") == (1152, 576)
    assert ThresholdGrowth().span(576, 72, 10, "initial") == (72, 576)
    assert ThresholdGrowth().reach(1, 10, 72, 576) == 41
    assert Incremental(delta_r=8).reach(1, 1000, 72, 576) == 1 + 504
    assert ContributionBudget().span(192, 24, 10, "initial") == (24, 192)
    assert ContributionBudget().reach(1, 10, 24, 192) == 8
    assert Bidirectional(k="auto").reach(8, 10, 72) == 18
    assert Bidirectional(k="auto", k_max=144).reach(8, 10, 72) == 28
    assert Bidirectional(k=12).reach(8, 1000, 2) == 16
    for policy in (Sampled(), LinearDepth(), Static()):
        assert policy.span(576, 72, 0, "initial") == (576, 576)
        assert policy.reach(8, 0, 72) == 8


@pytest.mark.parametrize(
    ("policy", "path", "reason"),
    [
        (CubicBudget(init_rank=7), "policy.init_rank", "starts below the budget of 576"),
        (Truncate(init_rank=2), "policy.init_rank", "starts below"),
        (ThresholdGrowth(start_rank=9), "policy.start_rank", "starts above the budget of 576"),
        (ThresholdGrowth(threshold="fixed_k"), "policy.k", "is missing"),
        (ThresholdGrowth(k=3), "policy.k", "is not read with threshold=linear"),
        (Incremental(start_rank=9), "policy.start_rank", "starts above"),
        (Bidirectional(k=576), "policy.k", "as many directions per event as there are"),
        (Bidirectional(k="auto", k_max=600), "policy.k_max", "as many directions per event as there are"),
    ],
)
def test_nonsense_is_reported(policy: Policy, path: str, reason: str) -> None:
    (problem,) = policy.problems(576, 72)
    assert problem.path == path
    assert reason in problem.reason
    assert problem.remedy


@every_policy
def test_sense_is_not(policy: Policy) -> None:
    if isinstance(policy, CubicBudget):
        policy = CubicBudget(init_rank=8)
    assert policy.problems(576, 72) == []
    assert policy.problems(576) == []


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_policy_is_configured(path: Path) -> None:
    """With each of its options; with its defaults in the file that has its own name."""
    options = yaml.safe_load(path.read_text())
    kind = getattr(rankadapt.policies, options.pop("_target_").rpartition(".")[2])
    assert set(options) == {field.name for field in dataclasses.fields(kind)}
    own = "".join(f"_{c.lower()}" if c.isupper() else c for c in kind.__name__).strip("_")
    assert kind(**options) == kind() or path.stem != own
    assert path.stem.startswith(own)
