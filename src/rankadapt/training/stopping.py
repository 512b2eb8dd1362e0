"""Stopping on request: Ctrl-C, SIGTERM and ``trainer.max_time``, at one step boundary on all processes."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist


class Interrupted(Exception):
    """A run was asked to stop. Its checkpoint is written."""


class StopRequests(pl.Callback):
    """Turns signals and the time limit into one question, asked once per optimizer step.

    A second Ctrl-C does not wait for the step to end.

    Args:
        max_seconds: of training in this session; None for no limit.
    """

    def __init__(self, max_seconds: float | None = None):
        self.max_seconds = max_seconds
        self.reason: str | None = None
        self._deadline = float("inf")
        self._handlers: dict[int, Any] = {}
        self._group: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._on_signal)
        if self.max_seconds is not None:
            self._deadline = time.monotonic() + self.max_seconds
        if trainer.world_size > 1:  # on the host: no process waits for its device to learn of a signal
            self._group = dist.new_group(backend="gloo")

    def asked(self) -> str | None:
        """Why to stop now, or None. Every process gets the same answer at the same step."""
        if self.reason is None and time.monotonic() > self._deadline:
            self.reason = "trainer.max_time is over"
        if self._group is None:
            return self.reason
        votes: list[str | None] = [None] * dist.get_world_size()
        mine = torch.tensor([self.reason is not None])
        dist.all_reduce(mine, op=dist.ReduceOp.MAX, group=self._group)
        if not mine.item():
            return None
        dist.all_gather_object(votes, self.reason, group=self._group)
        return next(vote for vote in votes if vote)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.reason is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = f"received {signal.Signals(number).name}"
        os.write(2, f"\n{self.reason}: stopping after this step with a checkpoint\n".encode())

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restore()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._restore()
