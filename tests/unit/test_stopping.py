"""Requests to stop: signals and the time limit, asked for at step boundaries."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rankadapt.runs.trainer import seconds
from rankadapt.training.stopping import StopRequests
from tests.composed import run_small

torch.set_num_threads(1)
TRAINER: Any = SimpleNamespace(world_size=1)


@pytest.fixture
def stop() -> Any:
    made = StopRequests()
    made.on_train_start(TRAINER, None)  # type: ignore[arg-type]
    yield made
    made._restore()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_reason(stop: StopRequests, number: signal.Signals) -> None:
    assert stop.asked() is None
    os.kill(os.getpid(), number)
    assert stop.asked() == f"received {number.name}"


def test_a_second_ctrl_c_does_not_wait(stop: StopRequests) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    stop = StopRequests()
    stop.on_train_start(TRAINER, None)  # type: ignore[arg-type]
    assert signal.getsignal(signal.SIGTERM) != before[0]
    stop.on_exception(TRAINER, None, KeyboardInterrupt())  # type: ignore[arg-type]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_the_time_limit_counts_from_the_start_of_training() -> None:
    stop = StopRequests(0.05)
    time.sleep(0.06)
    stop.on_train_start(TRAINER, None)  # type: ignore[arg-type]
    stop._restore()
    assert stop.asked() is None
    time.sleep(0.06)
    assert stop.asked() == "trainer.max_time is over"


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, None), (1.5, 1.5), ("00:00:07", 7), ("26:01:02", 93662)]
)
def test_limits_in_seconds(limit: str | float | None, expected: float | None) -> None:
    assert seconds(limit) == expected


def test_stopped_at_the_very_last_step_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left to train, but the run is not complete before its records say so."""
    taken = iter(range(1, 100))
    with monkeypatch.context() as patched:
        patched.setattr(StopRequests, "asked", lambda self: "a test" if next(taken) == 12 else None)
        first = run_small(tmp_path, "hebira", "evaluation.every_n_steps=null")
    assert (first["status"], first["steps"]["taken"]) == ("interrupted", 12)
    assert first["metrics"]["last"] is None
    second = run_small(tmp_path, "hebira", "evaluation.every_n_steps=null", "resume=true")
    assert (second["status"], second["steps"]["taken"]) == ("completed", 12)
    assert second["metrics"]["last"]["step"] == 12
