"""Two gloo processes: the same ranks and weights on both, and those of one process on the same data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.composed import RANK_EVENTS, ROOT, SMALL

NO_DROPOUT = [f"+model.config.{name}_dropout_prob=0.0" for name in ("hidden", "attention_probs")]
NO_DROPOUT += ["model.classifier_dropout=0.0", "form.std=0.2"]  # and gradients well above rounding
WORKER = """
import sys, torch
from pathlib import Path
from rankadapt.runs.session import build_session
from rankadapt.runs.trainer import build_host
from tests.composed import small
torch.set_num_threads(1)
directory, method, *overrides = sys.argv[1:]
session = build_session(small(method, *overrides))
host = build_host(session, Path(directory))
host.trainer.fit(session.module, session.train, session.evaluation)
state = {"ranks": session.adapters.ranks(), "state": session.module.state_dict(),
         "scoreboard": session.module.scoreboard.entries}
torch.save(state, Path(directory) / f"end{session.share.rank}.pt")
"""


def fit(directory: Path, processes: int, *overrides: str) -> list[dict[str, Any]]:
    """Train in so many processes; returns what each of them ended with."""
    directory.mkdir()
    arguments = [str(directory), "hebira", *NO_DROPOUT, *overrides, f"trainer.devices={processes}"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "OMP_NUM_THREADS": "1"}
    if processes > 1:
        port = 20_000 + os.getpid() % 20_000
        environment |= {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    workers = []
    for rank in range(processes):
        ranked = environment | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {})
        workers.append(subprocess.Popen([sys.executable, "-c", WORKER, *arguments], env=ranked, cwd=ROOT))
    assert [worker.wait(timeout=300) for worker in workers] == [0] * processes
    return [torch.load(directory / f"end{rank}.pt") for rank in range(processes)]


@pytest.mark.parametrize("options", [[], ["trainer.accumulate_grad_batches=2", "task.train_size=51"]])
def test_two_processes_equal_one(options: list[str], tmp_path: Path) -> None:
    """Also where the last batch of an epoch (51 = 6 x 8 + 3) has fewer examples than micro-batches."""
    first, second = fit(tmp_path / "two", 2, "trainer.strategy=ddp", *options)
    (alone,) = fit(tmp_path / "one", 1, *options)
    assert first["ranks"] == second["ranks"] == alone["ranks"]
    assert first["scoreboard"] == second["scoreboard"]
    for name, value in first["state"].items():
        assert torch.equal(value, second["state"][name]), name
        if value.is_floating_point():
            torch.testing.assert_close(value, alone["state"][name], atol=2e-4, rtol=1e-3, msg=name)


def test_the_command_line_starts_its_own_processes_and_resumes(tmp_path: Path) -> None:
    """A run on two processes stops at its time limit, is resumed and completes, with one set of records."""
    command = [sys.executable, "train.py", "method=hebira", *SMALL, *RANK_EVENTS]
    command += ["trainer.devices=2", "trainer.strategy=ddp", f"paths.output={tmp_path}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    stopped = subprocess.run([*command, "trainer.max_time=0.01"], cwd=ROOT, env=environment, timeout=300)
    assert stopped.returncode == 75
    (record,) = tmp_path.glob("hebira/*/*/*/results.json")
    assert json.loads(record.read_text())["status"] == "interrupted"
    resumed = subprocess.run([*command, "resume=true"], cwd=ROOT, env=environment, timeout=300)
    assert resumed.returncode == 0
    results = json.loads(record.read_text())
    assert results["status"] == "completed"
    assert results["steps"]["taken"] == 12
    assert results["rank"]["total"]["final"] == results["rank"]["total"]["initial"]


def test_a_signal_while_the_processes_begin(tmp_path: Path) -> None:
    """They do not yet listen to it: it waits until they can leave a record."""
    command = [sys.executable, "train.py", "method=lora", *SMALL, "trainer.devices=2", "trainer.strategy=ddp"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen([*command, f"paths.output={tmp_path}"], cwd=ROOT, env=environment)
    end = time.monotonic() + 120
    while not list(tmp_path.glob("lora/*/*/*/config.yaml")):
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=300) == 75  # the rendezvous may have to try again, which takes 40 s
    (record,) = tmp_path.glob("lora/*/*/*/results.json")
    found = json.loads(record.read_text())
    assert (found["status"], found["error"]) == ("interrupted", "received SIGTERM")
