"""Importance against rank: Spearman's correlation, the rankings, the variance of the allocation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rankadapt.analysis.allocation import allocation_ratios, cross_layer_variance
from rankadapt.analysis.importance import (
    correlation_by_event,
    module_scores,
    rankings,
    ranks_and_rankings,
    spearman,
)
from rankadapt.analysis.run_files import open_run
from tests.composed import run_small
from tests.simulated import simulate

SEEDS = pytest.mark.parametrize("seed", range(4))


def places(values: list[float]) -> list[float]:
    """Mean places from 1, ascending, one comparison at a time."""
    return [sum(w < v for w in values) + (1 + sum(w == v for w in values)) / 2 for v in values]


@SEEDS
def test_spearman_is_pearsons_correlation_of_places(seed: int) -> None:
    draw = np.random.default_rng(seed)
    x, y = draw.integers(0, 6, 15).astype(float), draw.integers(0, 6, 15).astype(float)
    found = spearman(pd.Series(x), pd.Series(y))
    assert found == pytest.approx(np.corrcoef(places(list(x)), places(list(y)))[0, 1])
    assert found == pytest.approx(stats.spearmanr(x, y).statistic)


def test_spearman_goes_by_name_and_leaves_gaps_out() -> None:
    x = pd.Series({"a": 1.0, "b": 2.0, "c": 3.0, "d": np.nan})
    y = pd.Series({"c": 30.0, "b": 20.0, "a": 10.0, "d": 5.0, "e": 1.0})
    assert spearman(x, y) == pytest.approx(1.0)
    assert np.isnan(spearman(x, pd.Series(4.0, index=x.index)))
    assert np.isnan(spearman(x[:1], y))


@SEEDS
@pytest.mark.parametrize(("importance", "reduce"), [("mean", np.mean), ("min", min), ("sum", sum)])
def test_scores_are_over_the_directions_that_the_event_found(seed: int, importance: str, reduce) -> None:
    made = simulate(seed)
    wide = module_scores(made.trace, importance)  # type: ignore[arg-type]
    assert len(wide) == 6  # neither the start nor the end
    for (step, module), scores in made.scored.items():
        if scores:
            assert wide.loc[step, module] == pytest.approx(reduce(scores))
        elif importance != "sum":
            assert np.isnan(wide.loc[step, module])


def test_rankings_begin_with_the_most_important() -> None:
    scores = pd.DataFrame([[3.0, 9.0, 3.0, 1.0]], columns=list("abcd"))
    assert rankings(scores).iloc[0].tolist() == [2.5, 1.0, 2.5, 4.0]


def test_correlations_are_with_the_ranks_around_the_event() -> None:
    names = [f"m.layer.{i}.q" for i in range(3)]
    nan = float("nan")
    rows = [(0, n, r, nan, nan, 0, 0) for n, r in zip(names, [2, 3, 4], strict=True)]
    rows += [(5, n, r, s, s, 0, 0) for n, r, s in zip(names, [4, 3, 2], [1.0, 2.0, 3.0], strict=True)]
    rows += [(9, n, r, nan, nan, 0, 0) for n, r in zip(names, [3, 2, 4], strict=True)]
    trace = pd.DataFrame(
        rows, columns=["step", "module", "rank", "score_min", "score_mean", "born", "pruned"]
    )
    found = correlation_by_event(trace)
    assert found.index.tolist() == [5]
    assert found.loc[5].tolist() == pytest.approx([1.0, -1.0, 0.5])


@SEEDS
def test_mean_ranks_and_rankings(seed: int) -> None:
    made = simulate(seed, modules=4)
    found = ranks_and_rankings(made.trace)
    for module, row in found.iterrows():
        assert row["mean_rank"] == pytest.approx(np.mean([made.alive(module, t) for t in range(made.end)]))
        mine = []
        for step in {step for step, _ in made.scored}:
            means = {n: np.mean(s) for (t, n), s in made.scored.items() if t == step and s}
            if module in means:
                above = sum(other > means[module] for other in means.values())
                mine.append(1 + above)
        assert row["mean_ranking"] == pytest.approx(np.mean(mine))


@SEEDS
@pytest.mark.parametrize("alpha", [0.5, 0.2])
def test_variance_of_the_allocation(seed: int, alpha: float) -> None:
    """HeBiRA Fig. 7, one layer at a time."""
    made = simulate(seed)
    found = cross_layer_variance(made.trace, alpha=alpha)
    for step, row in found.iterrows():
        ratios = [
            sum(scores) ** (1 / (alpha + 1)) / len(scores)
            for (t, _), scores in made.scored.items()
            if t == step and scores
        ]
        mean = sum(ratios) / len(ratios)
        variance = sum((r - mean) ** 2 for r in ratios) / len(ratios)
        assert row["variance"] == pytest.approx(variance)
        assert row["relative"] == pytest.approx(variance / mean**2)


def test_the_optimal_allocation_has_no_variance_and_units_do_not_matter() -> None:
    names, ranks = ["m.layer.0.q", "m.layer.1.q", "m.layer.2.q"], [1, 4, 9]
    rows = [(0, n, r, float("nan"), 0, 0) for n, r in zip(names, ranks, strict=True)]
    rows += [(5, n, r, 7 * r**1.5 / r, 0, 0) for n, r in zip(names, ranks, strict=True)]
    trace = pd.DataFrame(rows, columns=["step", "module", "rank", "score_mean", "born", "pruned"])
    assert allocation_ratios(trace).loc[5].tolist() == pytest.approx([7 ** (2 / 3)] * 3)
    assert cross_layer_variance(trace)["variance"].tolist() == pytest.approx([0], abs=1e-12)
    other = simulate(1).trace
    small = other.assign(score_mean=other["score_mean"] / 1000)
    assert cross_layer_variance(small)["relative"].tolist() == pytest.approx(
        cross_layer_variance(other)["relative"].tolist()
    )


def test_fixed_ranks_have_scores_where_a_scorer_has_nowhere_to_go(tmp_path: Path) -> None:
    """What the papers compare with: the same form and scores, ranks that stay."""
    run_small(tmp_path, "hebira", "budget.min_rank=8", "budget.max_rank=8")
    trace = open_run(tmp_path).trace()
    assert set(trace["rank"]) == {8}
    scores = module_scores(trace)
    assert scores.index.tolist() == [4, 6, 8, 10]
    assert scores.gt(0).all(axis=None)
    assert cross_layer_variance(trace)["variance"].gt(0).all()
