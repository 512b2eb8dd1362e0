"""Requests to stop: signals and the time limit, at step boundaries, or at once where there is none."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rankadapt.runs import run as runs
from rankadapt.runs.trainer import seconds
from rankadapt.tasks.base import Task
from rankadapt.training.checkpoint import read_checkpoint
from rankadapt.training.scoreboard import Scoreboard
from rankadapt.training.stopping import SIGNALS, Interrupted, StopRequests
from tests.composed import run_small

torch.set_num_threads(1)
TRAINER: Any = SimpleNamespace(world_size=1)
MODULE: Any = None


def deliver(number: signal.Signals = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture
def stop() -> Any:
    with StopRequests() as made:
        yield made


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_a_reason(stop: StopRequests, number: signal.Signals) -> None:
    stop.on_train_start(TRAINER, MODULE)
    assert stop.asked() is None
    deliver(number)
    assert stop.asked() == f"received {number.name}"


@pytest.mark.parametrize("number", SIGNALS)
def test_outside_of_training_it_ends_what_goes_on(stop: StopRequests, number: signal.Signals) -> None:
    passed = []

    def work() -> None:
        with stop.at_once():
            passed.append(1)
            deliver(number)
            passed.append(2)

    with pytest.raises(Interrupted, match=f"received {number.name}"):
        work()
    assert passed == [1]


def test_training_waits_for_its_step_and_what_follows_does_not(stop: StopRequests) -> None:
    with stop.at_once():
        stop.on_train_start(TRAINER, MODULE)
        deliver()
        with pytest.raises(Interrupted):  # no step has ended since
            stop.on_train_end(TRAINER, MODULE)


def test_what_is_written_is_written_to_its_end(stop: StopRequests) -> None:
    written = []

    def write() -> None:
        with stop.at_once(), stop.held():
            deliver()
            written.append(1)

    with pytest.raises(Interrupted):
        write()
    assert written


def test_one_that_came_before_is_not_lost(stop: StopRequests) -> None:
    deliver()
    with pytest.raises(Interrupted), stop.at_once():
        pytest.fail("it begins nothing")


def test_a_library_that_mends_errors_does_not_mend_this(stop: StopRequests) -> None:
    def work() -> None:
        with stop.at_once(), contextlib.suppress(Exception):
            deliver()

    with pytest.raises(Interrupted):
        work()


def test_a_second_ctrl_c_does_not_wait(stop: StopRequests) -> None:
    deliver()
    deliver()  # no more than the first
    with pytest.raises(KeyboardInterrupt):
        deliver(signal.SIGINT)


def test_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopRequests():
        assert all(signal.getsignal(n) != b for n, b in zip(SIGNALS, before, strict=True))
    assert [signal.getsignal(number) for number in SIGNALS] == before
    with pytest.raises(ZeroDivisionError), StopRequests():
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_signal_that_was_blocked_until_now_is_noted() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)  # another thread would not hold it back
    with StopRequests() as stop:
        assert stop.reason == "received SIGTERM"


def test_the_time_limit_counts_from_the_start_of_training() -> None:
    stop = StopRequests(0.05)
    time.sleep(0.06)
    stop.on_train_start(TRAINER, MODULE)
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


PLACES: dict[str, tuple[Any, str, int]] = {
    "while the model is built": (runs, "build_session", 0),
    "while data are read": (Task, "join", 0),
    "in the evaluation before training": (Scoreboard, "add", 0),
    "as training begins": (StopRequests, "on_train_start", 0),
    "after the last step": (StopRequests, "on_train_end", 4),
    "in the evaluation after training": (Scoreboard, "add", 4),
    "while records are written": (runs, "_write", 4),
    "in the export": (runs, "export_adapter", 4),
}
"""Where a signal comes -> what is called there, and how many steps have been taken by then."""
LAST = ["evaluation.every_n_steps=null", "evaluation.at_start=true", "trainer.max_steps=4", "logger=csv"]


def signalled(real: Callable[..., Any], when: Callable[[], bool]) -> Callable[..., Any]:
    """``real``, during which a signal comes: before its work, if ``when`` holds."""

    def called(*arguments: Any, **named: Any) -> Any:
        if when():
            deliver()
        return real(*arguments, **named)

    return called


@pytest.mark.parametrize("place", PLACES)
def test_a_signal_anywhere_leaves_a_record_and_a_run_that_goes_on(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, steps = PLACES[place]
    calls = iter(range(100))
    due = 1 if (name, steps) == ("add", 4) else 0  # the second evaluation is the one after training
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, signalled(getattr(owner, name), lambda: next(calls) == due))
        first = run_small(tmp_path, "lora", *LAST)
    assert (first["status"], first["error"]) == ("interrupted", "received SIGTERM")
    assert runs.places.status(tmp_path) == "interrupted"
    assert not list(tmp_path.rglob(".*")), "something is half-written"
    last = tmp_path / "checkpoints/last.ckpt"
    assert last.exists() == bool(steps)
    if steps:
        assert read_checkpoint(last)["global_step"] == first["steps"]["taken"] == steps
    second = run_small(tmp_path, "lora", *LAST, "resume=true")
    assert (second["status"], second["error"], second["steps"]["taken"]) == ("completed", None, 4)
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert len([row for row in rows if row.startswith("4,eval/accuracy")]) == 1
    assert (tmp_path / "adapter/serving").is_dir()
