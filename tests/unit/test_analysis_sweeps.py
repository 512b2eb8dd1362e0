"""Many runs as one table: what may be compared, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rankadapt.analysis.logged import course, courses, gradients
from rankadapt.analysis.plots import sensitivity_curves
from rankadapt.analysis.reading import Record
from rankadapt.analysis.run_files import RecordError
from rankadapt.analysis.sweeps import sensitivity, setting, sweep_table


def record(k: int = 4, seed: int = 1, figure: float = 0.5, method: str = "hebira", **more: Any) -> Record:
    config = {"policy": {"k": k}, "optimizer": {"lr": more.pop("lr", 0.1)}, "seed": seed, "method": method}
    content = {
        "status": "completed",
        "method": method,
        "task": "demo/entailment",
        "seed": seed,
        "config": config | {"paths": {"output": f"somewhere/{seed}"}},
        "metrics": {"primary": "f1", "best": {"f1": 0.9, "step": 3}, "last": {"f1": figure, "step": 9}},
    }
    return Record(Path(f"runs/{method}-{k}-{seed}"), content | more)


def test_mean_and_spread_over_seeds_by_setting() -> None:
    runs = [record(k, seed, k / 10 + seed / 100) for k in (8, 4) for seed in (1, 2, 3)]
    runs += [record(4, 1, 0.7, method="pedyra", lr=0.2), record(8, 9, status="failed", metrics={})]
    table = sweep_table(runs, "policy.k")
    assert len(table) == 7
    found = sensitivity(table)
    assert found[["series", "value", "seeds"]].to_numpy().tolist() == [
        ["hebira", 4, 3],
        ["hebira", 8, 3],
        ["pedyra", 4, 1],
    ]
    assert found["mean"].tolist() == pytest.approx([0.42, 0.82, 0.7])
    assert found["sd"].tolist()[:2] == pytest.approx([0.01, 0.01])
    assert math.isnan(found["sd"].tolist()[2])
    assert sweep_table(runs[:1], "policy.k", which="best")["metric"].tolist() == [0.9]


def test_words_and_null_are_values_as_numbers_are() -> None:
    runs = [record(k, 1, 0.5) for k in ("auto", 12, None, 4, [1, 2])]  # type: ignore[arg-type]
    found = sensitivity(sweep_table(runs, "policy.k"))
    assert set(found["value"]) == {"auto", 12, "null", 4, "[1, 2]"}
    assert "[1, 2] auto null" in " ".join(
        text.get_text() for text in sensitivity_curves(found, "k", "f1", "").axes[0].get_xticklabels()
    )


def test_runs_that_differ_in_something_else_are_no_curve() -> None:
    with pytest.raises(RecordError, match=r"differ in optimizer\.lr too"):
        sweep_table([record(4), record(8, lr=0.3)], "policy.k")
    told_apart = sweep_table([record(4), record(8, lr=0.3)], "policy.k", series="optimizer.lr")
    assert told_apart["series"].tolist() == [0.1, 0.3]


def test_a_run_counts_once() -> None:
    with pytest.raises(RecordError, match="same setting and seed"):
        sweep_table([record(4, 1), record(4, 1), record(8, 1)], "policy.k")


def test_settings_are_found_by_their_dotted_name() -> None:
    assert (setting(record(7), "policy.k"), setting(record(), "task")) == (7, "demo/entailment")
    with pytest.raises(RecordError, match=r"(?s)scorer\.k.*choose one of policy\.k"):
        setting(record(), "scorer.k")
    with pytest.raises(RecordError, match=r"(?s)accuracy.*it has f1"):
        sweep_table([record()], "policy.k", metric="accuracy")


def test_logged_numbers_by_step() -> None:
    rows = [(5, "grad/A", 0.1), (5, "train/loss", 2.0), (10, "grad/A", 0.2), (10, "grad/e", 3.0)]
    rows += [(10, "grad_rms/A", 0.01)]
    metrics = pd.DataFrame(rows, columns=["step", "metric", "value"])
    assert course(metrics, "train/loss").to_dict() == {5: 2.0}
    assert course(metrics, "none").empty
    found = gradients(metrics, per_entry=False)
    assert list(found.columns) == ["A", "e"]
    assert found["A"].tolist() == [0.1, 0.2]
    assert math.isnan(found.loc[5, "e"])
    assert gradients(metrics)["A"].to_dict() == {10: 0.01}
    assert courses(metrics, "rank/").empty
