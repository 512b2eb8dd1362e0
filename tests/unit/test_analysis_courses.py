"""Ranks over time: by module, block and kind, and averaged over the steps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rankadapt.analysis.courses import grouped_ranks, mean_budget, mean_over_time, of_block, rank_course
from tests.composed import run_small
from tests.simulated import simulate


@pytest.mark.parametrize("seed", range(5))
def test_the_mean_over_time_is_that_over_every_single_step(seed: int) -> None:
    made = simulate(seed)
    means = mean_over_time(made.trace)
    for module in made.trace.module.unique():
        every_step = [made.alive(module, step) for step in range(made.end)]
        assert means[module] == pytest.approx(np.mean(every_step))


def test_a_run_of_no_step_has_its_initial_ranks() -> None:
    trace = pd.DataFrame({"step": [0, 0], "module": ["m.layer.0.a", "m.layer.1.a"], "rank": [3, 5]})
    assert mean_over_time(trace).tolist() == [3.0, 5.0]


def test_modules_stand_in_the_order_of_the_model() -> None:
    trace = simulate(modules=5).trace
    assert list(rank_course(trace).columns) == list(trace.module.unique())


def test_groups_are_means_over_their_modules() -> None:
    trace, wide = simulate(modules=5).trace, rank_course(simulate(modules=5).trace)
    by_kind, by_block = grouped_ranks(trace, "kind"), grouped_ranks(trace, "block")
    assert list(by_kind.columns) == ["query", "output.dense"]
    assert by_kind["query"].tolist() == wide.iloc[:, [0, 2, 4]].mean(axis=1).tolist()
    assert list(by_block.columns) == [0, 1, 2]
    assert by_block[1].tolist() == wide.iloc[:, [2, 3]].mean(axis=1).tolist()
    assert grouped_ranks(trace, "module").equals(wide)
    assert set(of_block(trace, 1).module) == {"m.layer.1.query", "m.layer.1.output.dense"}


@pytest.mark.parametrize("method", ["hebira", "adalora", "increlora", "lalora", "lora"])
def test_the_mean_budget_is_what_the_record_says(method: str, tmp_path: Path) -> None:
    run_small(tmp_path, method)
    record = json.loads((tmp_path / "results.json").read_text())["rank"]
    trace = pd.read_parquet(tmp_path / "ranks.parquet")
    assert mean_budget(trace) == pytest.approx(record["total"]["mean"], abs=1e-6)
    means = mean_over_time(trace)
    assert means.to_dict() == pytest.approx({name: m["mean"] for name, m in record["modules"].items()})
