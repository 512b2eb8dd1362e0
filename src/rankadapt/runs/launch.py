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

from rankadapt.training.config import RunConfig


def needs_launch(config: RunConfig) -> bool:
    """Whether this process should start the run's processes (not if torchrun or Slurm did)."""
    return config.trainer.devices > 1 and "WORLD_SIZE" not in os.environ and not config.dry_run


def launch(config: RunConfig, directory: Path, resolved: dict[str, Any]) -> int:
    """Run in ``config.trainer.devices`` processes on this machine; returns the first bad exit code, or 0.

    Signals go to all of them. If one fails, the others are ended.
    """
    directory.mkdir(parents=True, exist_ok=True)
    composed = directory / "config.yaml"
    OmegaConf.save(OmegaConf.create(resolved), composed)
    command = [sys.executable, "-m", "rankadapt.runs.worker", str(composed), str(directory)]
    common = _environment(config)
    workers = [
        subprocess.Popen(command, env=common | {"RANK": str(r), "LOCAL_RANK": str(r)}, start_new_session=True)
        for r in range(config.trainer.devices)
    ]
    previous = {
        n: signal.signal(n, lambda number, _: _send(workers, number)) for n in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        return _wait(workers)
    finally:
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


def _wait(workers: list[subprocess.Popen[bytes]]) -> int:
    while True:
        codes = [worker.poll() for worker in workers]
        bad = [code for code in codes if code]
        if bad:
            time.sleep(2)  # let the others fail by themselves and say why
            _send(workers, signal.SIGTERM)
            for worker in workers:
                worker.wait(timeout=60)
            return bad[0]
        if all(code == 0 for code in codes):
            return 0
        time.sleep(0.1)


def _send(workers: list[subprocess.Popen[bytes]], number: int) -> None:
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
