"""Policies against slow literal readings of their papers, and against peft's AdaLoRA."""

from __future__ import annotations

import math
from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft.tuners.adalora.layer import RankAllocator
from torch import Tensor, nn

from rankadapt.boards import Event, Limits
from rankadapt.policies import ContributionBudget, CubicBudget, Incremental, Sampled, ThresholdGrowth
from rankadapt.policies.contribution_budget import block_ranks
from rankadapt.policies.cubic_budget import cubic_budget
from rankadapt.policies.growth import Growth

T, T_I, T_F, DELTA_T = 60, 10, 20, 3


def free(M: int, R: int, minimum: int = 0) -> Limits:
    return Limits(torch.full((M,), minimum), torch.full((M,), R))


def distinct(generator: torch.Generator, *shape: int) -> Tensor:
    """Scores without ties."""
    return (torch.randperm(math.prod(shape), generator=generator).float() + 1).view(shape)


# AdaLoRA


def official(init_rank: int, target: int, M: int) -> tuple[RankAllocator, nn.Module]:
    """peft's allocator over bare parameters of ``M`` modules."""
    model = nn.Module()
    for m in range(M):
        module = nn.Module()
        for name, shape in (("A", (init_rank, 3)), ("B", (4, init_rank)), ("E", (init_rank, 1))):
            setattr(module, f"lora_{name}", nn.ParameterDict({"default": nn.Parameter(torch.ones(shape))}))
        model.add_module(f"m{m}", module)
    config = SimpleNamespace(
        beta1=0.85, beta2=0.85, target_r=target, tinit=T_I, tfinal=T_F, total_step=T, deltaT=DELTA_T
    )
    return RankAllocator(model, config, "default"), model


def official_kept(allocator: RankAllocator, model: nn.Module, scores: Tensor, budget: int) -> Tensor:
    """What peft leaves of the triplets when their scores are these: all in E, none in A and B."""
    for name, p in model.named_parameters():
        allocator.exp_avg_unc[name] = torch.ones_like(p)
        value = scores[int(name[1 : name.index(".")])][:, None] if "lora_E" in name else torch.zeros_like(p)
        allocator.exp_avg_ipt[name] = value
    pattern = allocator.mask_to_budget(model, budget)
    return torch.tensor([pattern[f"m{m}.lora_E.default"] for m in range(len(scores))])


@pytest.mark.parametrize(("init_rank", "target", "M"), [(12, 8, 6), (3, 1, 5), (4, 2, 1), (3, 2, 7)])
def test_cubic_budget_keeps_what_peft_keeps(init_rank: int, target: int, M: int) -> None:
    """At every step of a run, boundaries included, dead triplets that come back too."""
    allocator, model = official(init_rank, target, M)
    policy, live = CubicBudget(init_rank=init_rank), torch.ones(M, init_rank, dtype=torch.bool)
    assert policy.span(target * M, M, 9, "initial") == (allocator.init_bgt, allocator.target_bgt)
    generator = torch.Generator().manual_seed(0)
    revived = 0
    for step in range(T_I + 1, T + 1):
        event = Event(0, 1, step, T, T_I, T - T_F, target * M)
        budget, _ = allocator.budget_schedule(step)
        assert cubic_budget(init_rank * M, target * M, event) == budget
        if budget == init_rank * M:
            continue  # peft's k-th value fails for k = 0
        scores = distinct(generator, M, init_rank)
        change = policy(scores, live, free(M, init_rank), event)
        assert change.revived is not None
        assert not change.born.any()
        live = live & ~change.pruned | change.revived
        revived += int(change.revived.sum())
        assert live.tolist() == official_kept(allocator, model, scores, budget).tolist()
    assert revived
    assert live.sum() == target * M


def literal_cubic(b_0: int, b_T: int, t: int, t_i: int, t_f: int, total: int) -> int:
    if t <= t_i:
        return b_0
    if t > total - t_f:
        return b_T
    return math.floor(b_T + (b_0 - b_T) * (1 - Fraction(t - t_i, total - t_f - t_i)) ** 3)


@given(b_T=st.integers(0, 600), more=st.integers(0, 300), t=st.integers(0, T))
def test_cubic_budget_is_the_papers(b_T: int, more: int, t: int) -> None:
    ours = cubic_budget(b_T + more, b_T, Event(0, 1, t, T, T_I, T - T_F))
    assert abs(ours - literal_cubic(b_T + more, b_T, t, T_I, T_F, T)) <= 1  # floats may round
    assert b_T <= ours <= b_T + more


def test_cubic_budget_at_the_boundaries() -> None:
    """MNLI as shipped (rank 1 from 3): warm-up, the first cut, the last, and after it."""
    event = lambda t: Event(0, 1, t, 85_904, 8_000, 35_904)  # noqa: E731
    assert [cubic_budget(216, 72, event(t)) for t in (1, 8_000, 8_001, 8_100)] == [216, 216, 215, 214]
    assert [cubic_budget(216, 72, event(t)) for t in (35_903, 35_904, 35_905, 85_904)] == [72] * 4
    assert cubic_budget(216, 72, event(8_000 + 27_904 // 2)) == 72 + 144 // 8
    assert cubic_budget(72, 72, event(9_000)) == 72  # where the official code fails


# TriAdaptLoRA and IncreLoRA


def root_ceiling(left: int, p: int, q: int) -> int:
    """The least whole k with ``k >= left^(p/q)``: Eq. 14 without floating point."""
    k = 1
    while k**q < left**p:
        k += 1
    return k


def literal_k(policy: Growth, left: int, t: int, t_0: int, total: int, M: int) -> int:
    """Eq. 13, 14, the lower bound below Eq. 12, and the number of modules."""
    if isinstance(policy, Incremental):
        k = min(policy.top_h, left)
    else:
        assert isinstance(policy, ThresholdGrowth)
        alpha = Fraction(t - t_0, total - t_0)
        k = {
            "linear": lambda: math.ceil(left * alpha),
            "nonlinear": lambda: root_ceiling(left, alpha.numerator, alpha.denominator),
            "fixed_k": lambda: policy.k or 0,
        }[policy.threshold]()
    return min(max(k, 1), M)


def literal_growth(ranks: list[int], scores: list[float], k: int, step: int, budget: int, top: int) -> None:
    """Best first, each by Δr, never above its maximum; whoever comes last gets what is left."""
    order = [m for m in sorted(range(len(ranks)), key=lambda m: (-scores[m], m)) if ranks[m] < top]
    for m in order[:k]:
        for _ in range(step):
            if sum(ranks) < budget and ranks[m] < top:
                ranks[m] += 1


GROWTHS: list[Growth] = [
    ThresholdGrowth(),
    ThresholdGrowth(threshold="nonlinear"),
    ThresholdGrowth(threshold="fixed_k", k=3, delta_r=2),
    ThresholdGrowth(delta_r=1, start_rank=2),
    Incremental(top_h=5),
    Incremental(top_h=2, delta_r=3),
]


@pytest.mark.parametrize("policy", GROWTHS)
@pytest.mark.parametrize(("M", "reference", "top"), [(12, 8, 96), (7, 3, 5), (1, 4, 9)])
def test_growth_over_a_whole_course(policy: Growth, M: int, reference: int, top: int) -> None:
    """Every event of a run to its last step, then the budget is spent to the unit."""
    budget, t_0, total, generator = reference * M, 6, 30, torch.Generator().manual_seed(M)
    start, end = policy.span(budget, M, 24, "initial")
    assert (start, end) == (policy.start_rank * M, budget)
    ranks = [policy.start_rank] * M
    step = policy.delta_r or max(reference // 2, 1)
    slots = torch.arange(top)
    for t in range(t_0 + 1, total + 1):
        live = slots < torch.tensor(ranks)[:, None]
        scores = torch.randint(0, 4, (M,), generator=generator).float()  # ties, too
        k = literal_k(policy, budget - sum(ranks), t, t_0, total, M) if sum(ranks) < budget else 0
        literal_growth(ranks, scores.tolist(), k, step, budget, top)
        event = Event(t - t_0 - 1, total - t_0, t, total, t_0, total, budget)
        change = policy(scores[:, None].expand(M, top), live, free(M, top), event)
        assert not change.pruned.any()
        assert change.ranks_after(live).tolist() == ranks
        assert sum(ranks) <= budget
    assert sum(ranks) == budget
    assert max(ranks) <= policy.reach(policy.start_rank, total - t_0, M, budget)


def test_triadapt_by_hand() -> None:
    """Reference rank 8, 72 modules, ranks of 1: 504 are left. A tenth of the time: ceil(50.4) modules."""
    live, limits = (torch.arange(40) < 1).expand(72, 40), free(72, 40)
    scores = torch.arange(72.0)[:, None].expand(72, 40)

    def grown(policy: Growth, step: int) -> list[int]:
        change = policy(scores, live, limits, Event(0, 9, step, 1000, 0, 1000, 576))
        return change.born.tolist()

    assert grown(ThresholdGrowth(), 100) == [0] * 21 + [4] * 51
    assert grown(ThresholdGrowth(rounding="floor"), 100) == [0] * 22 + [4] * 50
    assert grown(ThresholdGrowth(), 1000) == [4] * 72  # 504 are left, but there are 72 modules
    assert grown(ThresholdGrowth(threshold="nonlinear"), 100) == [0] * 70 + [4] * 2  # 504^0.1 = 1.86
    assert grown(ThresholdGrowth(threshold="nonlinear"), 500) == [0] * 49 + [4] * 23  # 22.4
    assert grown(ThresholdGrowth(threshold="fixed_k", k=7), 500) == [0] * 65 + [4] * 7


def test_the_official_codes_overshoot_and_ours_do_not() -> None:
    """IncreLoRA's QNLI: top_h 22, Δr 4, 72 modules from 1 to 8: 600 directions instead of 576."""

    def course(cap: bool) -> int:
        policy, ranks, slots = Incremental(top_h=22, cap=cap), torch.ones(72, dtype=torch.long), 200
        for t in range(1, 20):
            live = torch.arange(slots) < ranks[:, None]
            scores = torch.arange(72.0)[:, None].expand(72, slots)
            change = policy(scores, live, free(72, slots), Event(t - 1, 19, t, 19, 0, 19, 576))
            ranks = change.ranks_after(live)
        return int(ranks.sum())

    assert (course(cap=False), course(cap=True)) == (600, 576)


# La-LoRA


def literal_ranks(c: list[float], budget: float, r: int) -> list[int]:
    """Eq. 8: softmax, raise to 1, largest remainder, cut to r; floating point, no tolerance."""
    weights = [math.exp(x - max(c)) for x in c]
    raised: list[int] = []
    while True:
        rest = sum(w for i, w in enumerate(weights) if i not in raised)
        quotas = [1.0 if i in raised else w / rest * (budget - len(raised)) for i, w in enumerate(weights)]
        short = [i for i, q in enumerate(quotas) if q < 1 - 1e-12 and i not in raised]
        if not short:
            break
        raised += short
    ranks = [math.floor(q + 1e-9) for q in quotas]
    order = sorted(range(len(c)), key=lambda i: (round(ranks[i] - quotas[i], 9), i))
    for i in order[: math.floor(budget) - sum(ranks)]:
        ranks[i] += 1
    return [min(rank, r) for rank in ranks]


@settings(max_examples=60)
@given(
    c=st.lists(st.floats(0, 6, width=32), min_size=1, max_size=12), share=st.floats(0, 1), r=st.integers(1, 9)
)
def test_block_ranks_are_whole_bounded_and_within_the_budget(c: list[float], share: float, r: int) -> None:
    total = len(c) * (1 + share * (r - 1))
    ranks = block_ranks(c, total, 1, [r] * len(c))
    assert all(isinstance(rank, int) and 1 <= rank <= r for rank in ranks)
    assert sum(ranks) <= total
    if max(ranks) < r:  # nothing was cut off: every whole unit is used
        assert sum(ranks) == math.floor(total)
    for (a, rank_a), (b, rank_b) in zip(sorted(zip(c, ranks)), sorted(zip(c, ranks))[1:]):  # noqa: B905
        assert rank_a <= rank_b or b - a < 1e-6  # equal shares to the last bit: the lower block comes first


@pytest.mark.parametrize("seed", range(8))
def test_contribution_budget_over_a_course(seed: int) -> None:
    """Eq. 5-8 step by step: 5 blocks of query and value, reference rank 6."""
    L, r, gamma, generator = 5, 6, 3.0, torch.Generator().manual_seed(seed)
    M, block = 2 * L, torch.arange(2 * L) // 2
    limits = Limits(torch.ones(M, dtype=torch.long), torch.full((M,), r), block=block)
    policy = ContributionBudget(gamma=gamma)
    live, budget, before = torch.arange(r).expand(M, r) < 1, float(L), None
    totals = []
    for t in range(1, 25):
        c = 3 * torch.rand(L, generator=generator, dtype=torch.float64).float()
        s = 1 + torch.rand(L, generator=generator, dtype=torch.float64) * (1 + t / 5)
        if before is not None:
            growth = sum((new - old) / old for new, old in zip(s.tolist(), before, strict=True)) / L
            budget = min(max(budget * (1 + gamma * growth), L), r * L)
        before = s.tolist()
        expected = literal_ranks(c.tolist(), budget, r)
        sizes = torch.rand(
            M, r, generator=generator, dtype=torch.float64
        )  # at other ranks it is not looked at
        sizes[torch.arange(M), live.sum(1) - 1] = s[block]
        event = Event(t - 1, 24, t, 24, 0, 24, r * M, sizes=sizes)
        change = policy(c[block][:, None].expand(M, r), live, limits, event)
        ranks = change.ranks_after(live)
        assert ranks.tolist() == [rank for rank in expected for _ in range(2)]
        live = torch.arange(r) < ranks[:, None]
        totals.append(int(ranks.sum()))
        assert policy.total == pytest.approx(budget)
    assert totals[0] == 2 * L
    assert max(totals) > 2 * L


@pytest.mark.parametrize("seed", range(4))
def test_contribution_budget_compared_at_the_same_rank(seed: int) -> None:
    """Eq. 6 and 7 on matrices: a block's value after a step over that before it, cut alike."""
    L, r, gamma, generator = 4, 5, 2.0, torch.Generator().manual_seed(seed)
    block = torch.arange(2 * L) // 2
    limits = Limits(torch.ones(2 * L, dtype=torch.long), torch.full((2 * L,), r), block=block)
    policy, live, budget = ContributionBudget(gamma=gamma, compare="same_rank"), torch.arange(r) < 1, float(L)
    live = live.expand(2 * L, r)
    rows = torch.rand(2 * L, r, 2, generator=generator, dtype=torch.float64)  # of each slot: ||A_i||, ||B_i||
    ranks, before = [1] * L, None

    def value(rows: Tensor, i: int, rank: int) -> float:
        return sum(frobenius(rows[m, :rank, f].tolist()) for m in (2 * i, 2 * i + 1) for f in (0, 1)) / rank

    for t in range(1, 20):
        rows = rows * (1 + 0.3 * torch.rand(rows.shape, generator=generator, dtype=torch.float64))
        if before is not None:
            rates = [value(rows, i, ranks[i]) / value(before, i, ranks[i]) - 1 for i in range(L)]
            assert min(rates) > 0  # every row has grown, and so has every value
            budget = min(budget * (1 + gamma * sum(rates) / L), r * L)
        c = 3 * torch.rand(L, generator=generator, dtype=torch.float64).float()
        ranks, before = literal_ranks(c.tolist(), budget, r), rows
        sizes = torch.tensor([[value(rows, int(i), k) for k in range(1, r + 1)] for i in block])
        event = Event(t - 1, 20, t, 20, 0, 20, r * 2 * L, sizes=sizes)
        change = policy(c[block][:, None].expand(2 * L, r), live, limits, event)
        assert change.ranks_after(live).tolist() == [rank for rank in ranks for _ in range(2)]
        live = torch.arange(r) < change.ranks_after(live)[:, None]
        assert policy.total == pytest.approx(budget, rel=1e-5)
    assert budget > 2 * L


def frobenius(norms: list[float]) -> float:
    """Of a matrix whose rows have these norms."""
    return math.sqrt(sum(n * n for n in norms))


def test_without_a_growing_budget() -> None:
    """Table 10: r L from the start; what a block cannot take above r is not given to others."""
    assert block_ranks([0.0, 0.0, 0.0], 24.0, 1, [8] * 3) == [8, 8, 8]
    assert block_ranks([math.log(4), 0.0, 0.0], 24.0, 1, [8] * 3) == [8, 4, 4]


# DyLoRA


@pytest.mark.parametrize("distribution", ["uniform", "geometric"])
def test_the_law_of_b(distribution: str) -> None:
    policy, slots, n = Sampled(distribution=distribution, p=0.3), 8, 20_000  # type: ignore[arg-type]
    counts = [0] * slots
    for step in range(1, n + 1):
        counts[policy.window(step, slots, seed=5) - 1] += 1
    weights = [1.0 if distribution == "uniform" else 0.7**b for b in range(slots)]
    expected = [n * w / sum(weights) for w in weights]
    chi_squared = sum((a - e) ** 2 / e for a, e in zip(counts, expected, strict=True))
    assert chi_squared < 24.3  # seven degrees of freedom: one in a thousand is above
