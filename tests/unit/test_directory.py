"""One directory per run, found again by the same command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rankadapt.errors import ConfigError
from rankadapt.runs.directory import latest, prepare, run_dir, status


def place(root: Path, **changes: Any) -> Path:
    values: dict[str, Any] = {
        "output": str(root),
        "method": "lora",
        "task": "glue/rte",
        "model": "minilm",
        "seed": 1,
        "resume": False,
        "dry_run": False,
        "overrides": "a=1",
    }
    return Path(run_dir(**{**values, **changes}))


def finish(directory: Path, how: str = "completed") -> Path:
    directory.mkdir(parents=True)
    (directory / "results.json").write_text(json.dumps({"status": how}))
    return directory


def test_the_directory_says_what_ran(tmp_path: Path) -> None:
    parts = place(tmp_path).relative_to(tmp_path).parts
    assert parts[:2] == ("lora", "glue-rte")
    assert parts[2].startswith("minilm-seed1-")
    assert place(tmp_path).is_absolute()
    assert place(tmp_path, dry_run=True).name.endswith("-dry")


def test_two_runs_never_share_a_directory(tmp_path: Path) -> None:
    made = set()
    for _ in range(4):  # within one second, perhaps
        directory = place(tmp_path)
        assert not directory.exists()
        made.add(finish(directory))
    assert len(made) == 4


@pytest.mark.parametrize("change", [{"overrides": "a=2"}, {"seed": 2}, {"method": "hebira"}, {"model": "x"}])
def test_resume_takes_no_other_commands_run(change: dict[str, Any], tmp_path: Path) -> None:
    done = finish(place(tmp_path))
    assert place(tmp_path, resume=True) == done
    assert place(tmp_path, resume=True, **change) != done


def test_resume_takes_the_latest_with_something_to_go_on_with(tmp_path: Path) -> None:
    family = place(tmp_path).parent
    early, late = finish(family / "20260101-000000", "interrupted"), family / "20260102-000000"
    assert place(tmp_path, resume=True).parent == family
    assert place(tmp_path, resume=True) not in (early, late)  # neither checkpoint nor results: from the start
    for directory in (early, late):
        (directory / "checkpoints").mkdir(parents=True)
        (directory / "checkpoints/last.ckpt").write_text("")
    finish(family / "20260103-000000", "failed")
    (family / "20260104-000000-dry").mkdir()
    assert latest(family) == late
    assert place(tmp_path, resume=True) == late
    assert place(tmp_path) not in (early, late)


def test_status(tmp_path: Path) -> None:
    assert status(tmp_path) is None
    (tmp_path / "results.json").write_text('{"status": "comp')
    assert status(tmp_path) is None
    assert status(finish(tmp_path / "run", "failed")) == "failed"


def test_prepare_makes_the_directory_and_leaves_nothing_in_it(tmp_path: Path) -> None:
    prepare(tmp_path / "a/b")
    assert list((tmp_path / "a/b").iterdir()) == []


@pytest.mark.parametrize("output", ["file", "file/below/it"])
def test_an_output_that_is_a_file(output: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for attempt in (lambda: prepare(tmp_path / output), lambda: place(tmp_path / output)):
        with pytest.raises(ConfigError) as raised:
            attempt()
        (problem,) = raised.value.problems
        assert (problem.path, problem.value) == ("paths.output", str(tmp_path / output))
        assert "cannot be written to" in problem.reason
