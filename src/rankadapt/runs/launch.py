"""More than one process: each run gets its own processes and port, from its composed configuration.

The processes do not compose the configuration again, so a sweep starts each of its jobs once.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rankadapt.runs.sweep import EXIT_INTERRUPTED
from rankadapt.training.config import RunConfig
from rankadapt.training.stopping import SIGNALS


def needs_launch(config: RunConfig) -> bool:
    """Whether this process should start the run's processes (not if torchrun or Slurm did)."""
    return config.trainer.devices > 1 and "WORLD_SIZE" not in os.environ and not config.dry_run


def launch(config: RunConfig, directory: Path, resolved: dict[str, Any]) -> int:
    """Run in ``config.trainer.devices`` processes on this machine; returns 0, or the first bad exit code.

    Signals go to all of them; a process that waited for another one may then fail, and the run is interrupted
    all the same. If one fails by itself, the others are ended.
    """
    group = Processes()
    previous = {number: signal.signal(number, group.note) for number in SIGNALS}
    # The processes begin with signals blocked: in each of them they wait until it can leave a record.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        composed = directory / "config.yaml"
        OmegaConf.save(OmegaConf.create(resolved), composed)
        command = [sys.executable, "-m", "rankadapt.runs.worker", str(composed), str(directory)]
        common = _environment(config)
        for r in range(config.trainer.devices):
            own = common | {"RANK": str(r), "LOCAL_RANK": str(r)}
            group.workers.append(subprocess.Popen(command, env=own, start_new_session=True))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return group.wait()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        for number, handler in previous.items():
            signal.signal(number, handler)
        group.send(signal.SIGKILL)


def _environment(config: RunConfig) -> dict[str, str]:
    devices = config.trainer.devices
    environment = os.environ | {
        "WORLD_SIZE": str(devices),
        "LOCAL_WORLD_SIZE": str(devices),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
    }
    environment.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // devices, 1)))
    return environment


class Processes:
    """The processes of a run, and the signals on their way to them.

    A signal is noted when it comes and sent on by who waits. The handler could not send it: it also runs
    while only some of the processes are there, since a mask holds for one thread of this process alone.
    """

    def __init__(self) -> None:
        self.workers: list[subprocess.Popen[bytes]] = []
        self.received: list[int] = []
        self.sent = 0

    def note(self, number: int, _: object) -> None:
        """Handle a signal."""
        self.received.append(number)

    def wait(self) -> int:
        """Until all have ended, or one has failed: 0, or its exit code."""
        while True:
            codes = self.codes()
            bad = [code for code in codes if code]
            if bad:
                if not self.over(60 if self.received else 2):  # let the others end and say why
                    self.send(signal.SIGTERM)
                    self.over(60)
                interrupted = self.received and EXIT_INTERRUPTED in self.codes()
                return EXIT_INTERRUPTED if interrupted else bad[0]
            if all(code == 0 for code in codes):
                return 0
            time.sleep(0.1)

    def over(self, seconds: float) -> bool:
        """Whether all end within so many seconds; waits no longer than it takes."""
        end = time.monotonic() + seconds
        while None in self.codes():
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True

    def codes(self) -> list[int | None]:
        """The exit code of each, None if it has none yet. What was received is sent on first."""
        for number in self.received[self.sent :]:
            self.send(number)
            self.sent += 1
        return [worker.poll() for worker in self.workers]

    def send(self, number: int) -> None:
        """A signal to all that are alive."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
