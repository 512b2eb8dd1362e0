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

Workers = list["subprocess.Popen[bytes]"]


def needs_launch(config: RunConfig) -> bool:
    """Whether this process should start the run's processes (not if torchrun or Slurm did)."""
    return config.trainer.devices > 1 and "WORLD_SIZE" not in os.environ and not config.dry_run


def launch(config: RunConfig, directory: Path, resolved: dict[str, Any]) -> int:
    """Run in ``config.trainer.devices`` processes on this machine; returns 0, or the first bad exit code.

    Signals go to all of them; a process that waited for another one may then fail, and the run is interrupted
    all the same. If one fails by itself, the others are ended.
    """
    directory.mkdir(parents=True, exist_ok=True)
    composed = directory / "config.yaml"
    OmegaConf.save(OmegaConf.create(resolved), composed)
    command = [sys.executable, "-m", "rankadapt.runs.worker", str(composed), str(directory)]
    common = _environment(config)
    workers: Workers = []
    received: list[int] = []

    def forward(number: int, _: object) -> None:
        received.append(number)
        _send(workers, number)

    previous = {number: signal.signal(number, forward) for number in SIGNALS}
    # Signals wait until all processes are there, and, in each of them, until it can leave a record.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        for r in range(config.trainer.devices):
            own = common | {"RANK": str(r), "LOCAL_RANK": str(r)}
            workers.append(subprocess.Popen(command, env=own, start_new_session=True))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return _wait(workers, received)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        for number, handler in previous.items():
            signal.signal(number, handler)
        _send(workers, signal.SIGKILL)


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


def _wait(workers: Workers, received: list[int]) -> int:
    while True:
        codes = [worker.poll() for worker in workers]
        bad = [code for code in codes if code]
        if bad:
            if not _over(workers, 60 if received else 2):  # let the others end by themselves and say why
                _send(workers, signal.SIGTERM)
                _over(workers, 60)
            interrupted = received and any(worker.poll() == EXIT_INTERRUPTED for worker in workers)
            return EXIT_INTERRUPTED if interrupted else bad[0]
        if all(code == 0 for code in codes):
            return 0
        time.sleep(0.1)


def _over(workers: Workers, seconds: float) -> bool:
    """Whether all processes end within so many seconds; waits no longer than it takes."""
    end = time.monotonic() + seconds
    while any(worker.poll() is None for worker in workers):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _send(workers: Workers, number: int) -> None:
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
