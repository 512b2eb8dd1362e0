"""``python train.py ...`` in processes of their own that need not import everything again.

A server process has imported the library once and is forked for each command; the fork runs ``train.py`` as
``__main__``, with its own standard streams, signals and exit code.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.composed import ROOT

_CONTEXT: Any = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["rankadapt.runs.main", "tests.composed"])


@dataclass
class Command:
    """A command that was started."""

    process: Any
    output: Path

    def wait(self, timeout: float = 120) -> tuple[int, str]:
        """(exit code, all that it printed)."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(self.output.read_text())
        return self.process.exitcode, self.output.read_text()

    def send(self, number: signal.Signals, when: Callable[[], bool], timeout: float = 60) -> None:
        """Send a signal as soon as ``when`` holds."""
        end = time.monotonic() + timeout
        while not when():
            assert time.monotonic() < end, f"it did not come to it: {self.output.read_text()}"
            assert self.process.exitcode is None, f"it ended too early: {self.output.read_text()}"
            time.sleep(0.01)
        os.kill(self.process.pid, number)


def started(output: Path, *arguments: str, cwd: Path = ROOT) -> Command:
    """Start ``python train.py <arguments>`` in ``cwd``; what it prints goes to the file ``output``."""
    process = _CONTEXT.Process(target=_train, args=(str(output), list(arguments), str(cwd)))
    process.start()
    return Command(process, output)


def forked(function: Callable[..., None], *arguments: Any, **environment: str) -> Any:
    """A process that calls ``function`` with ``environment`` in its environment; it was started."""
    process = _CONTEXT.Process(target=_called, args=(environment, function, arguments))
    process.start()
    return process


def _called(environment: dict[str, str], function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ.update(environment)
    function(*arguments)


def _train(output: str, arguments: list[str], cwd: str) -> None:
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(cwd)
    os.environ["COLUMNS"] = "200"
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    sys.argv = ["train.py", *arguments]
    runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
