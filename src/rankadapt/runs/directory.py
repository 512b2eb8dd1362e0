"""Where a run lives: one directory per run, found again by the same command."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from rankadapt.errors import BusyError, ConfigError, Problem

LOCK = ".lock"


def run_dir(
    output: str, method: str, task: str, model: str, seed: int, resume: bool, dry_run: bool, overrides: str
) -> str:
    """``<output>/<method>/<task>/<model>-seed<seed>-<hash of the command>/<time>``, absolute.

    With ``resume``, the latest directory of the same command, if there is one.

    Raises:
        ConfigError: nothing can be written below ``output``. Hydra makes the directory before the run can.
    """
    refuse_unwritable(Path(output).absolute())
    family = Path(output).absolute() / method / filed(task) / f"{model}-seed{seed}-{digest(overrides)}"
    if resume and (earlier := latest(family)):
        return str(earlier)
    name = datetime.now().strftime("%Y%m%d-%H%M%S") + ("-dry" if dry_run else "")
    return str(_free(family / name))


def digest(overrides: str) -> str:
    """What tells commands apart: of their overrides, sorted, with commas between them."""
    return hashlib.sha256(overrides.encode()).hexdigest()[:6]


def filed(task: str) -> str:
    """A task's name as that of a folder."""
    return task.replace("/", "-")


@contextmanager
def only_one(family: Path) -> Iterator[None]:
    """Hold the runs of one command, so that two processes do not go on with the same one. The operating
    system gives the hold back when a process dies.

    Raises:
        BusyError: another process holds them.
    """
    family.mkdir(parents=True, exist_ok=True)
    lock = FileLock(family / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        remedy = "wait for it, or leave resume=true away to start a run of its own"
        problem = Problem(str(family), None, "another process is running this command", remedy)
        raise BusyError(problem) from None
    try:
        yield
    finally:
        lock.release()


def in_use(family: Path) -> bool:
    """Whether a process holds the runs of this command."""
    if not (family / LOCK).exists():
        return False
    try:
        with only_one(family):
            return False
    except BusyError:
        return True


def latest(family: Path) -> Path | None:
    """The latest run of a command that has something to go on with: a checkpoint, or its results."""
    if not family.is_dir():
        return None
    runs = [d for d in family.iterdir() if (d / "checkpoints/last.ckpt").exists() or status(d) == "completed"]
    return max(runs, default=None)


def status(directory: Path) -> str | None:
    """The status in a run's ``results.json``; None if it has none that can be read."""
    try:
        return json.loads((directory / "results.json").read_text()).get("status")
    except (OSError, ValueError):
        return None


def prepare(directory: Path) -> None:
    """Make sure that files can be written there.

    Raises:
        ConfigError: they cannot.
    """
    probe = directory / ".writable"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise ConfigError(_unwritable(directory, error.strerror)) from error


def refuse_unwritable(folder: Path) -> None:
    """Raise a ConfigError if no folder can be made there. Nothing is made."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not there.is_dir():
        raise ConfigError(_unwritable(folder, f"{there} is a file"))
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(_unwritable(folder, f"no permission for {there}"))


def _unwritable(folder: Path, why: str | None) -> Problem:
    return Problem("paths.output", str(folder), f"cannot be written to ({why})", "paths.output=<folder>")


def _free(directory: Path) -> Path:
    candidates = [directory, *(directory.with_name(f"{directory.name}-{n}") for n in range(2, 1000))]
    return next(d for d in candidates if not d.exists())


def register() -> None:
    """Let ``conf/config.yaml`` call :func:`run_dir`."""
    OmegaConf.register_new_resolver("run_dir", run_dir, replace=True)
