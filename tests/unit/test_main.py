"""Exit codes and messages of the command line, by how a run ends."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from rankadapt.errors import BusyError, ConfigError, Problem
from rankadapt.runs import main as commands
from rankadapt.runs.directory import status
from rankadapt.runs.records import write_json
from rankadapt.runs.sweep import Ended, SweepSummary


def ended_by(work: Any, every_error: bool = False) -> Ended:
    return commands.guarded(work, every_error)[1]


def raising(error: BaseException) -> Any:
    def work() -> None:
        raise error

    return work


WRONG = ConfigError(Problem("a.b", 3, "is wrong", "do this"))


def test_codes_by_how_a_run_ends() -> None:
    assert ended_by(lambda: {"status": "completed"}) == Ended(0)
    assert ended_by(lambda: None) == Ended(0)  # a dry run
    assert ended_by(lambda: {"status": "interrupted", "error": "why"}) == Ended(75, "why")
    assert ended_by(raising(WRONG)) == Ended(2, str(WRONG))
    taken = BusyError(Problem("folder", None, "another process is running this command"))
    assert ended_by(raising(taken)) == Ended(75, str(taken))
    assert ended_by(raising(commands.ProcessFailed(-9))).code == 1
    assert ended_by(raising(commands.ProcessFailed(2))).code == 2


def test_what_a_user_can_mend_shows_without_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    ended_by(raising(WRONG))
    shown = capsys.readouterr().err
    assert "a.b = 3: is wrong\n      -> do this" in shown
    assert "Traceback" not in shown


def test_a_defect_shows_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        ended_by(lambda: 1 / 0)
    assert ended_by(lambda: 1 / 0, every_error=True) == Ended(1, "ZeroDivisionError('division by zero')")
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mode", "results", "code"),
    [
        ("RUN", {"status": "completed"}, None),
        ("RUN", {"status": "interrupted", "error": "received SIGTERM"}, 75),
        ("RUN", {"status": "interrupted", "error": "trainer.max_time is over"}, 75),
        ("RUN", WRONG, 2),
        ("MULTIRUN", {"status": "interrupted", "error": "received SIGINT"}, 75),  # Ctrl-C ends the sweep
        ("MULTIRUN", {"status": "interrupted", "error": "trainer.max_time is over"}, None),
        ("MULTIRUN", WRONG, None),
        ("MULTIRUN", ValueError("a defect"), None),
    ],
)
def test_when_the_process_exits(
    mode: str, results: Any, code: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hydra = SimpleNamespace(mode=commands.RunMode[mode], runtime=SimpleNamespace(output_dir=str(tmp_path)))
    monkeypatch.setattr(commands.HydraConfig, "get", lambda: hydra)
    work = raising(results) if isinstance(results, Exception) else lambda: results
    monkeypatch.setattr(commands, "start", lambda cfg, directory: work())
    if code is None:
        ended = commands.main(OmegaConf.create({}))
        assert bool(ended.code) == (results != {"status": "completed"})
        return
    with pytest.raises(SystemExit) as raised:
        commands.main(OmegaConf.create({}))
    assert raised.value.code == code


@pytest.mark.parametrize(("before", "after"), [("interrupted", "failed"), ("failed", "failed"), (None, None)])
def test_a_process_that_fails_fails_the_run(
    before: str | None, after: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Process 0, ended with a signal because another one had failed, has said that it was interrupted."""
    if before:
        write_json(tmp_path / "results.json", {"status": before, "error": "its own words"})
    monkeypatch.setattr(commands, "launch", lambda *_: 3)
    config: Any = None
    with pytest.raises(commands.ProcessFailed):
        commands._in_processes(config, tmp_path, {})
    assert status(tmp_path) == after
    if before == "failed":
        assert "its own words" in (tmp_path / "results.json").read_text()


def job(directory: Path, value: Any, *overrides: str) -> JobReturn:
    status = JobStatus.FAILED if isinstance(value, Exception) else JobStatus.COMPLETED
    hydra = OmegaConf.create({"hydra": {"runtime": {"output_dir": str(directory)}}})
    made = JobReturn(overrides=list(overrides), hydra_cfg=hydra, status=status)
    made.return_value = value
    return made


def test_the_table_of_a_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "one").mkdir()
    results = '{"status": "completed", "metrics": {"primary": "f1", "best": {"f1": 0.75}, "last": null}}'
    (tmp_path / "one/results.json").write_text(results)
    summary = SweepSummary()
    summary.on_job_end(OmegaConf.create({}), job(tmp_path / "one", Ended(0), "task=t", "seed=1"))
    summary.on_job_end(OmegaConf.create({}), job(tmp_path / "two", Ended(2, str(WRONG)), "task=t", "seed=2"))
    summary.on_job_end(OmegaConf.create({}), job(tmp_path / "three", KeyError("x"), "task=t", "seed=3"))
    with pytest.raises(SystemExit) as raised:
        summary.on_multirun_end(OmegaConf.create({}))
    assert raised.value.code == 1
    lines = ["│".join(" ".join(line.split()).split(" │ ")) for line in capsys.readouterr().out.splitlines()]
    assert any("seed=1│completed│f1│0.7500│-" in line for line in lines)
    assert any("seed=2│failed│-│-│-" in line for line in lines)
    assert any("seed=3│failed" in line for line in lines)
    assert not any("task=t" in line for line in lines)  # all jobs share it
    assert f"2: {tmp_path / 'two'}" in lines
    assert "- a.b = 3: is wrong" in lines
    assert "KeyError('x')" in lines


def test_a_sweep_without_failures_exits_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = SweepSummary()
    summary.on_job_end(OmegaConf.create({}), job(tmp_path, Ended(0), "seed=1"))
    summary.on_multirun_end(OmegaConf.create({}))
    assert "seed=1" in capsys.readouterr().out
