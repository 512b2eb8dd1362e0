"""Births, deaths and life spans against directions that have names."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from rankadapt.analysis.courses import mean_budget
from rankadapt.analysis.life import births_and_deaths, changes, life_spans
from tests.composed import run_small
from tests.simulated import Simulated, simulate

both_kinds = pytest.mark.parametrize("revive", [False, True], ids=["born", "revived"])


@both_kinds
@pytest.mark.parametrize("seed", range(5))
def test_spans_are_those_of_the_directions(seed: int, revive: bool) -> None:
    made = simulate(seed, revive=revive)
    spans = life_spans(made.trace)
    assert list(spans.index) == list(made.trace.module.unique())
    for module, row in spans.iterrows():
        mine = [d for d in made.directions if d.module == module]
        lives = [(made.end if d.went is None else d.went) - d.came for d in mine]
        assert row["alive_steps"] == sum(lives)
        assert row["mean_life"] == pytest.approx(sum(lives) / len(lives))
        assert row["initial"] == sum(d.came == 0 for d in mine)
        assert row["came"] == sum(d.came > 0 for d in mine)
        assert row["pruned"] == sum(d.went is not None for d in mine)
        assert row["final"] == sum(d.went is None for d in mine)
        left = sum(d.came == 0 and d.went is None for d in mine)
        assert row["first_left_min"] <= left <= row["first_left_max"]


def test_the_bounds_are_met() -> None:
    """Oldest first and youngest first are the two ends of what the counts allow."""
    rows = [(0, "m", 4, 0, 0), (5, "m", 4, 2, 2), (9, "m", 4, 1, 1), (10, "m", 4, 0, 0)]
    trace = pd.DataFrame(rows, columns=["step", "module", "rank", "born", "pruned"])
    row = life_spans(trace).loc["m"]
    assert (row["first_left_min"], row["first_left_max"]) == (1, 2)


def test_totals_by_step() -> None:
    made: Simulated = simulate(3)
    found = births_and_deaths(made.trace)
    for step, row in found.iterrows():
        came = sum(d.came == step and step > 0 for d in made.directions)
        assert (row["came"], row["pruned"]) == (came, sum(d.went == step for d in made.directions))
        assert row["came_so_far"] == sum(0 < d.came <= step for d in made.directions)
        assert row["pruned_so_far"] == sum(d.went is not None and d.went <= step for d in made.directions)
        assert row["alive"] == sum(made.alive(m, int(step)) for m in made.trace.module.unique())


@pytest.mark.parametrize(
    ("method", "revives"), [("hebira", False), ("adalora", True), ("triadaptlora", False)]
)
def test_a_real_course_balances(method: str, revives: bool, tmp_path: Path) -> None:
    """What the file counts as born is all that came, but where directions live again in place."""
    run_small(tmp_path, method)
    trace = pd.read_parquet(tmp_path / "ranks.parquet")
    frame, spans = changes(trace), life_spans(trace)
    assert (frame["revived"] >= 0).all()
    assert revives or not frame["revived"].any()
    assert (spans["initial"] + spans["came"] - spans["pruned"] == spans["final"]).all()
    assert spans["came"].sum() > 0
    assert spans["alive_steps"].sum() == pytest.approx(12 * mean_budget(trace))
