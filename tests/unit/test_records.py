"""Files that are whole or not there, and sums over ranks."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from rankadapt.adapters import Adapters
from rankadapt.control import Trace
from rankadapt.runs.records import parameter_record, rank_record, write_json, write_trace
from tests import tiny


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    write_json(
        tmp_path / "a.json", {"a": float("nan"), "b": [1, float("inf"), {"c": -float("inf")}], "d": 0.5}
    )
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {"a": None, "b": [1, None, {"c": None}], "d": 0.5}
    assert "NaN" not in text


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
    assert [f.name for f in tmp_path.iterdir()] == ["a.json"]


def trace(adapters: Adapters, *marks: tuple[int, list[int]]) -> Trace:
    made = Trace(adapters.names)
    for step, ranks in marks:
        made.mark(step, ranks)
    return made


def test_ranks_over_time() -> None:
    adapters = Adapters(tiny.mlp(depth=2, slots=4, rank=2))
    course = trace(adapters, (0, [2, 2]), (3, [1, 3]), (8, [0, 4]), (10, [0, 4]))
    found = rank_record(adapters, course, 10)
    assert found["slots"] == 4
    first, second = found["modules"].values()
    assert (first["initial"], first["final"]) == (2, 0)
    assert first["mean"] == pytest.approx((2 * 3 + 1 * 5 + 0 * 2) / 10)
    assert second["mean"] == pytest.approx((2 * 3 + 3 * 5 + 4 * 2) / 10)
    assert found["total"] == {"initial": 4, "final": 4, "mean": 4}


def test_ranks_of_a_run_that_took_no_step() -> None:
    adapters = Adapters(tiny.mlp(depth=2, slots=4, rank=2))
    found = rank_record(adapters, trace(adapters, (0, [2, 2])), 0)
    assert [m["mean"] for m in found["modules"].values()] == [2, 2]
    empty = rank_record(adapters, trace(adapters), 0)
    assert empty["total"] == {"initial": 0, "final": 0, "mean": 0}


def test_parameters_count_live_directions_and_all_slots() -> None:
    adapters = Adapters(tiny.mlp(depth=2, width=6, slots=4, rank=[1, 3]))  # 6 -> 7 -> 6, form BEA
    found = parameter_record(adapters, {"head": 5, "base": 9})
    assert found == {"budget": 4 * (6 + 7 + 1), "allocated": 8 * (6 + 7 + 1), "head": 5, "base": 9}


def test_the_course_as_parquet(tmp_path: Path) -> None:
    adapters = Adapters(tiny.mlp(depth=2, slots=4, rank=2))
    written = write_trace(tmp_path / "ranks.parquet", trace(adapters, (0, [2, 2]), (5, [1, 3])))
    read = pd.read_parquet(tmp_path / "ranks.parquet")
    assert list(read.step) == list(written.step) == [0, 0, 5, 5]
    assert list(read["rank"]) == [2, 2, 1, 3]
    assert str(read["rank"].dtype) == "int64"
    assert str(read.score_min.dtype) == "float64"
    assert [f.name for f in tmp_path.iterdir()] == ["ranks.parquet"]
    assert len(write_trace(tmp_path / "empty.parquet", trace(adapters))) == 0
