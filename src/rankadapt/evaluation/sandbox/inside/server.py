"""One worker: takes programs from its standard input, one a line, and writes a verdict a line.

For each program it starts a fresh interpreter that locks itself in (:mod:`jail`) and a judge (:mod:`judge`),
itself without files, network and other processes; then it waits, and ends both.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from rankadapt.evaluation.sandbox.inside import jail, judge, launch, locked_in, wire
from rankadapt.evaluation.sandbox.inside.kernel import KernelError


class Case:
    """One program being judged."""

    def __init__(self, job: dict[str, Any]):
        self.job, self.limits = job, job["limits"]
        self.directory = tempfile.mkdtemp(prefix="rankadapt-")
        self._judge: int | None = None
        to_jail, self._out = os.pipe()
        self._in, from_jail = os.pipe()
        bounds = (self.limits[name] for name in locked_in.BOUNDS)
        arguments = (to_jail, from_jail, self.directory, *bounds)
        self._jail = subprocess.Popen(
            launch.interpreter("locked_in", "locked_in", *map(str, arguments)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(to_jail, from_jail),
            env={},
            cwd=self.directory,
            start_new_session=True,
        )
        os.close(to_jail)
        os.close(from_jail)

    def verdict(self) -> str:
        """Why it failed, or that it passed; "timeout" after the limit."""
        end = time.monotonic() + self.limits["seconds"]
        if not select.select([self._in], [], [], 10 + self.limits["seconds"])[0]:
            return "sandbox: it was not ready in time"
        said = wire.decode(wire.receive(self._in, 1 << 16))
        if said != locked_in.READY:
            return str(said)
        result, answer = os.pipe()
        self._judge = os.fork()
        if not self._judge:
            self._judged(answer)
        os.close(answer)
        try:
            waited = max(0.0, end - time.monotonic())
            if not select.select([result], [], [], waited)[0]:
                return "timeout"
            return os.read(result, 4096).decode() or "the tests ended their process"
        finally:
            os.close(result)

    def _judged(self, answer: int) -> None:
        try:
            jail.limit(4 * self.limits["memory"], self.limits["cpu"] + 5, 0)
            jail.locked(None)
        except (KernelError, OSError) as error:
            os.write(answer, f"sandbox: {error}".encode())
            os._exit(1)
        judge.main(answer, self._in, self._out, self.limits["message"], self.job)

    def end(self) -> None:
        """Kill all that is left, and leave no file."""
        if self._judge:
            os.kill(self._judge, signal.SIGKILL)
            os.waitpid(self._judge, 0)
        os.killpg(self._jail.pid, signal.SIGKILL)
        self._jail.wait()
        os.close(self._in)
        os.close(self._out)
        shutil.rmtree(self.directory, ignore_errors=True)


def main() -> None:
    """Verdicts until there are no more programs."""
    for line in sys.stdin:
        started, case = time.monotonic(), Case(json.loads(line))
        try:
            reason = case.verdict()
        except (wire.Closed, wire.WireError) as error:
            reason = f"sandbox: it ended before it was ready ({error})"
        finally:
            case.end()
        seconds = round(time.monotonic() - started, 4)
        print(json.dumps({"reason": reason, "seconds": seconds}), flush=True)
