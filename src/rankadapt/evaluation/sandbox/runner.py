"""Programs judged in parallel, each in a sandbox of its own."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from queue import Empty, SimpleQueue

from rankadapt.errors import EvaluationError, Problem
from rankadapt.evaluation.sandbox.inside import launch
from rankadapt.evaluation.sandbox.inside.judge import PASSED

REFUSED = "sandbox: "
REMEDY = (
    "a Linux kernel with Landlock, seccomp and user namespaces for whoever runs this (docs/sandbox.md); "
    "or evaluation.run_generated_code=false"
)


@dataclass(frozen=True)
class Program:
    """A program and its tests.

    Attributes:
        name: how it is called in the verdict.
        candidate: all that the model wrote, with what it completes. It runs locked in.
        tests: the data set's test code, which fails by raising. It runs apart from the candidate.
        functions: names in ``tests`` that are the candidate's functions and classes.
        values: names in ``tests`` that are other values of the candidate's.
    """

    name: str
    candidate: str
    tests: str
    functions: tuple[str, ...]
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    Attributes:
        seconds: of the clock, until its tests are through.
        memory: bytes of address space. cpu: seconds of processor time.
        file_size, disk: bytes of one file, and of all of them.
        message: bytes of one value that goes between program and tests.
    """

    seconds: float = 10.0
    memory: int = 512 << 20
    cpu: int = 10
    file_size: int = 1 << 20
    disk: int = 8 << 20
    message: int = 16 << 20


@dataclass(frozen=True)
class Verdict:
    """``reason``: "passed", "wrong answer", "timeout", or what was raised."""

    name: str
    passed: bool
    reason: str
    seconds: float


def run_programs(
    programs: Sequence[Program], limits: Limits | None = None, workers: int | None = None
) -> list[Verdict]:
    """Verdicts in the order of ``programs``.

    Args:
        workers: programs at a time; None for one per core.

    Raises:
        EvaluationError: the sandbox cannot be had. No program was run outside of it.
    """
    waiting: SimpleQueue[int] = SimpleQueue()
    for number in range(len(programs)):
        waiting.put(number)
    verdicts: list[Verdict | None] = [None] * len(programs)
    count = min(workers or len(os.sched_getaffinity(0)), max(len(programs), 1))
    bounds = limits or Limits()
    threads = [
        threading.Thread(target=_work, args=(programs, bounds, waiting, verdicts)) for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [
        v or Verdict(p.name, False, f"{REFUSED}its worker died", 0.0)
        for v, p in zip(verdicts, programs, strict=True)
    ]
    refused = next((v for v in found if v.reason.startswith(REFUSED)), None)
    if refused is not None:
        raise EvaluationError(Problem(refused.name, None, refused.reason, REMEDY))
    return found


def missing_features() -> list[str]:
    """What of the sandbox this machine lacks; empty where it can be had. A program is locked in to see."""
    try:
        run_programs([Program("probe", "def f(): return 1", "assert f() == 1", ("f",))], workers=1)
    except EvaluationError as error:
        return [problem.reason for problem in error.problems]
    return []


def _work(
    programs: Sequence[Program], limits: Limits, waiting: SimpleQueue[int], verdicts: list[Verdict | None]
) -> None:
    command, pipe = launch.interpreter("server", "main"), subprocess.PIPE
    worker = subprocess.Popen(command, stdin=pipe, stdout=pipe, env={}, text=True, cwd="/")
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        while True:
            number = waiting.get_nowait()
            program = programs[number]
            job = {k: v for k, v in asdict(program).items() if k != "name"} | {"limits": asdict(limits)}
            worker.stdin.write(json.dumps(job) + "\n")
            worker.stdin.flush()
            said = json.loads(worker.stdout.readline())
            reason = said["reason"]
            verdicts[number] = Verdict(program.name, reason == PASSED, reason, said["seconds"])
    except (Empty, OSError, ValueError):  # no more programs; or the worker died, and has left no verdict
        pass
    finally:
        worker.stdin.close()
        worker.wait()
