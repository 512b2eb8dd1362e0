"""Records of many runs are read; what is corrupt or foreign is named and left out."""

from __future__ import annotations

import json
import time

import pytest

from rankadapt.analysis.reading import read_records


def content(seed=1):
    modules = {f"layer.{i}": {"initial": 8, "final": 8, "mean": 8.0} for i in range(72)}
    return {
        "schema": 1,
        "status": "complete",
        "method": "lora",
        "seed": seed,
        "config": {},
        "metrics": {"primary": "f1"},
        "rank": {"slots": 8, "modules": modules},
    }


def write(root, name, text):
    (root / name).mkdir()
    (root / name / "results.json").write_text(text)


def test_records_come_once_and_by_path(tmp_path):
    for seed in (2, 1):
        write(tmp_path, f"run{seed}", json.dumps(content(seed)))
    records, problems = read_records([tmp_path, tmp_path / "run1"])
    assert [record.content["seed"] for record in records] == [1, 2]
    assert not problems


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"accuracy": 1}', "[" * 100_000, json.dumps({**content(), "rank": None})],
    ids=["empty", "cut", "list", "null", "foreign", "deep", "no-rank"],
)
def test_what_is_no_record_is_named(tmp_path, text):
    write(tmp_path, "bad", text)
    write(tmp_path, "good", json.dumps(content()))
    records, problems = read_records([tmp_path])
    assert [record.folder.name for record in records] == ["good"]
    assert problems[0].path.endswith("bad/results.json")


def test_five_thousand_records_would_take_few_seconds(tmp_path):
    for seed in range(200):
        write(tmp_path, f"run{seed}", json.dumps(content(seed)))
    began = time.perf_counter()
    assert len(read_records([tmp_path])[0]) == 200
    assert (time.perf_counter() - began) * 25 < 10
