"""What a run costs: time per optimizer step, without evaluations, and memory."""

from __future__ import annotations

import contextlib
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from rankadapt.training.steps import OptimizerStepCallback


class Clock(OptimizerStepCallback):
    """Times optimizer steps. Durations are seconds; they survive a resume.

    On a GPU the host runs ahead of the device, but not for long: over many steps both keep one pace.
    """

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.examples = 0
        self._since = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        self._since = time.perf_counter()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.examples += len(batch["labels"]) * trainer.world_size

    def on_optimizer_step_end(self, trainer: pl.Trainer, pl_module: Any, batch_idx: int) -> None:
        now = time.perf_counter()
        self.steps.append(now - self._since)
        self._since = now

    def on_validation_start(self, *_: Any) -> None:
        self._paused = time.perf_counter()

    def on_validation_end(self, *_: Any) -> None:
        self._since += time.perf_counter() - self._paused

    def report(self) -> dict[str, float | None]:
        """``train_seconds``, ``median_step_ms``, ``examples_per_second``."""
        total = sum(self.steps)
        return {
            "train_seconds": round(total, 3),
            "median_step_ms": round(1e3 * statistics.median(self.steps), 3) if self.steps else None,
            "examples_per_second": round(self.examples / total, 2) if total else None,
        }

    def state_dict(self) -> dict[str, Any]:
        return {"steps": list(self.steps), "examples": self.examples}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps, self.examples = list(state_dict["steps"]), state_dict["examples"]


def reset_peak_memory() -> None:
    """Forget the peak of what ran in this process before (the jobs of a sweep share it)."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):  # not Linux: the peak of the whole process is all there is
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> dict[str, int | None]:
    """Bytes: ``host`` of this process since :func:`reset_peak_memory`, ``device`` allocated on the GPU."""
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        host = int(lines["VmHWM"].split()[0]) * 1024
    device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return {"host_bytes": host, "device_bytes": device}
