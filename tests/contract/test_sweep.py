"""``python train.py -m ...``: every job on its own, one table, one exit code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.commands import started
from tests.composed import SMALL

JOBS = [*SMALL, "trainer.max_steps=4", "trainer.threads=1", "logger=none"]


def sweep(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run a sweep from an empty working directory; its runs go to ``folder/runs``."""
    cwd = folder / "cwd"
    cwd.mkdir(exist_ok=True)
    command = started(folder / "output", "-m", *JOBS, f"paths.output={folder / 'runs'}", *arguments, cwd=cwd)
    code, output = command.wait()
    assert list(cwd.iterdir()) == [], "nothing but paths.output is written to"
    return code, output


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """Directory -> results of every run."""
    return {
        str(file.parent): json.loads(file.read_text()) for file in (folder / "runs").rglob("results.json")
    }


def table_of(output: str) -> str:
    """What is printed once all jobs have ended."""
    return output[output.rindex("  sweep  ") :]


@pytest.mark.slow
def test_every_job_has_its_directory_and_resume_runs_only_what_is_missing(tmp_path: Path) -> None:
    jobs = ["method=lora,hebira", "seed=1,2"]
    code, output = sweep(tmp_path, *jobs)
    assert code == 0, output
    first = results(tmp_path)
    assert sorted((r["method"], r["seed"]) for r in first.values()) == [
        ("hebira", 1),
        ("hebira", 2),
        ("lora", 1),
        ("lora", 2),
    ]
    assert {r["status"] for r in first.values()} == {"completed"}
    assert re.search(r"method=lora seed=2 +│ completed │ accuracy │ 0\.\d{4}", table_of(output))
    for directory, record in first.items():
        assert directory in output
        assert f"{record['metrics']['best']['accuracy']:.4f}" in output
    (gone,) = (d for d, r in first.items() if (r["method"], r["seed"]) == ("lora", 2))
    (Path(gone) / "results.json").unlink()
    code, output = sweep(tmp_path, *jobs, "resume=true")
    assert code == 0, output
    second = results(tmp_path)
    assert second.keys() == first.keys()
    again = {d for d, r in second.items() if r["finished"] != first[d]["finished"] or d == gone}
    assert again == {gone}
    assert second[gone]["metrics"]["last"] == first[gone]["metrics"]["last"]


@pytest.mark.slow
def test_a_job_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    code, output = sweep(tmp_path, "method=lora", "budget.rank=99,4,none,2")
    assert code == 1
    ranks = {r["config"]["budget"]["rank"]: r["status"] for r in results(tmp_path).values()}
    assert ranks == {99: "failed", 4: "completed", 2: "completed"}
    table = table_of(output)
    assert table.count("failed") == 2
    assert table.count("completed") == 2
    assert "the rank does not fit 99 slots of a 32x32 layer" in table
    assert "budget.rank = 'none': input should be a valid integer" in table
    assert "Traceback" not in output
