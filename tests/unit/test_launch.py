"""The processes of a run: a signal reaches each of them, whenever it comes; who is done leaves the others."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from rankadapt.runs import launch as module
from rankadapt.runs import worker
from rankadapt.runs.launch import launch
from rankadapt.runs.sweep import EXIT_INTERRUPTED, Ended
from rankadapt.training.validation import parse
from tests.composed import SMALL, composed


class Worker:
    """Ends well after some time, or interrupted if asked to. A signal comes while the second begins."""

    all: list[Worker] = []

    def __init__(self, command: list[str], **_: Any):
        assert Path(command[-2]).is_file()
        self.received: list[int] = []
        self.end = time.monotonic() + 3
        Worker.all.append(self)
        if len(Worker.all) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)  # time for the handler, which another thread lets through

    def send_signal(self, number: int) -> None:
        self.received.append(number)

    def poll(self) -> int | None:
        if self.received:
            return EXIT_INTERRUPTED
        return 0 if time.monotonic() > self.end else None


def test_a_signal_between_two_processes_reaches_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.subprocess, "Popen", Worker)
    monkeypatch.setattr(Worker, "all", [])
    config = composed("method=lora", *SMALL, "trainer.devices=2", "trainer.strategy=ddp")
    done = threading.Event()
    other = threading.Thread(target=done.wait)  # does not share this thread's mask
    other.start()
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert launch(parse(config), tmp_path / "run", config) == EXIT_INTERRUPTED
    finally:
        done.set()
        other.join()
    assert [worker.received for worker in Worker.all] == [[signal.SIGTERM]] * 2
    assert signal.getsignal(signal.SIGTERM) == before
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.parametrize(("code", "left"), [(0, True), (EXIT_INTERRUPTED, False)])
def test_a_process_that_is_done_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, left: bool
) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    monkeypatch.setattr(worker, "guarded", lambda work: (None, Ended(code)))
    (tmp_path / "config.yaml").write_text("{}")
    try:
        assert worker.main(str(tmp_path / "config.yaml"), str(tmp_path)) == code
        assert dist.is_initialized() is not left
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
