"""Runs that are told to stop, and runs that are killed: what they leave, and how they go on."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from rankadapt.training.checkpoint import read_checkpoint
from tests.commands import Command, started
from tests.composed import RANK_EVENTS, SMALL

RUN = [*SMALL, *RANK_EVENTS, "method=hebira", "trainer.threads=1", "trainer.log_every_n_steps=1"]
LONG = [*RUN, "trainer.max_steps=100000", "schedule.t_f=99990", "logger=none"]
"""Far too long to end by itself."""


def start(folder: Path, *arguments: str) -> Command:
    return started(folder / "output", *arguments, f"paths.output={folder / 'runs'}")


def only_run(folder: Path) -> Path:
    (directory,) = (d for d in (folder / "runs").glob("*/*/*/*") if d.is_dir())
    return directory


def results(folder: Path) -> dict[str, Any]:
    return json.loads((only_run(folder) / "results.json").read_text())


def has(folder: Path, pattern: str) -> bool:
    return any((folder / "runs").glob(f"*/*/*/*/{pattern}"))


def interrupted(command: Any, folder: Path, number: signal.Signals) -> dict[str, Any]:
    """The record of a run that says how it ended, as its command has."""
    code, output = command.wait()
    assert code == 75, output
    assert "resume=true" in output
    assert "Traceback" not in output
    record = results(folder)
    assert record["status"] == "interrupted"
    assert record["error"] == f"received {number.name}"
    return record


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_a_checkpoint_and_says_so(number: signal.Signals, tmp_path: Path) -> None:
    command = start(tmp_path, *LONG, "checkpoint.every_n_steps=5")
    command.send(number, lambda: has(tmp_path, "checkpoints/last.ckpt"))
    record = interrupted(command, tmp_path, number)
    checkpoint = read_checkpoint(only_run(tmp_path) / "checkpoints/last.ckpt")
    assert checkpoint["global_step"] == record["steps"]["taken"] > 0
    assert (only_run(tmp_path) / "ranks.parquet").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_before_training_says_so_too(number: signal.Signals, tmp_path: Path) -> None:
    """In the evaluation before the first step, which is long enough to be met."""
    command = start(tmp_path, *RUN, "evaluation.at_start=true", "task.eval_size=40000", "logger=tensorboard")
    command.send(number, lambda: has(tmp_path, "tensorboard/hparams.yaml"))
    record = interrupted(command, tmp_path, number)
    assert record["steps"]["taken"] == 0
    assert not has(tmp_path, "checkpoints/last.ckpt")
    assert not has(tmp_path, "adapter")


@pytest.mark.slow
def test_killed_after_a_checkpoint_and_resumed_ends_like_one_that_was_not(tmp_path: Path) -> None:
    """SIGKILL at any moment after the first checkpoint, while there is more to do."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run = [*RUN, "trainer.max_steps=100", "schedule.delta_t=5", "checkpoint.every_n_steps=2"]
    for folder in (whole, parts):
        folder.mkdir()
    killed = start(parts, *run)
    killed.send(signal.SIGKILL, lambda: has(parts, "checkpoints/last.ckpt"))
    assert killed.wait()[0] == -signal.SIGKILL
    assert not has(parts, "results.json")
    stopped_at = read_checkpoint(only_run(parts) / "checkpoints/last.ckpt")["global_step"]
    assert stopped_at < 100
    resumed, alone = start(parts, *run, "resume=true"), start(whole, *run)
    assert resumed.wait()[0] == alone.wait()[0] == 0
    assert results(parts)["status"] == "completed"
    assert results(parts)["metrics"] == results(whole)["metrics"]
    ends = [read_checkpoint(only_run(f) / "checkpoints/last.ckpt")["state_dict"] for f in (whole, parts)]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    for file in ("serving", "compact"):
        one, other = (only_run(f) / "adapter" / file / "adapter_model.safetensors" for f in (whole, parts))
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.slow
def test_the_time_limit_stops_with_a_checkpoint_and_resume_completes(tmp_path: Path) -> None:
    run = [*RUN, "trainer.max_steps=30", "schedule.t_f=20"]
    code, output = start(tmp_path, *run, "trainer.max_time=0.02").wait()
    assert code == 75, output
    record = results(tmp_path)
    assert (record["status"], record["error"]) == ("interrupted", "trainer.max_time is over")
    assert 0 < record["steps"]["taken"] < 30
    code, output = start(tmp_path, *run, "resume=true").wait()
    assert code == 0, output
    record = results(tmp_path)
    assert (record["status"], record["error"], record["steps"]["taken"]) == ("completed", None, 30)
