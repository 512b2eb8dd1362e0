"""Stopping on request: Ctrl-C, SIGTERM, SIGUSR1 and ``trainer.max_time``.

While a run trains, it stops at one step boundary on all processes, with a checkpoint. Before and after (the
model is built, evaluated, exported) there is no step to wait for: a signal ends what is going on where it
arrives. What writes records is let finish.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Requests to stop: of a terminal, of who manages the machine, and Slurm's warning that time is almost up."""


class Interrupted(BaseException):
    """A run was asked to stop. Not an ``Exception``: who mends errors must not mend this."""


class StopRequests(pl.Callback):
    """Turns signals and the time limit into one question, asked once per optimizer step, and outside of
    training into :class:`Interrupted`.

    A context: signals are this object's from its beginning to its end. A second Ctrl-C does not wait.
    Among a trainer's callbacks it must be the last, so that training ends for it when all others are done.

    Args:
        max_seconds: of training in this session; None for no limit.
    """

    def __init__(self, max_seconds: float | None = None):
        self.max_seconds = max_seconds
        self.reason: str | None = None
        self.trained = False
        self._deadline = float("inf")
        self._raises = False
        self._handlers: dict[int, Any] = {}
        self._group: Any = None

    reason: str | None
    """Why to stop; None as long as nobody asked."""
    trained: bool
    """Whether training has begun: from then on a stop leaves a checkpoint."""

    def __enter__(self) -> StopRequests:
        self._handlers = {number: signal.getsignal(number) for number in SIGNALS}
        self._listen()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # a process of several starts with them blocked
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._handlers.clear()

    def _listen(self) -> None:
        for number in self._handlers:
            signal.signal(number, self._on_signal)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Where a signal raises :class:`Interrupted`, but for what is :meth:`held` and for training."""
        try:
            self._raises = True
            self.check()
            yield
        finally:
            self._raises = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Where a signal waits for the end, because something is written there."""
        raises, asked = self._raises, self.reason
        self._raises = False
        yield
        self._raises = raises
        if raises and asked is None:
            self.check()

    def check(self) -> None:
        """Raise :class:`Interrupted` if a stop was asked for: also where a library let nothing through."""
        if self.reason is not None:
            raise Interrupted(self.reason)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._listen()  # Lightning has just put its own handler before ours

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._raises, self.trained = False, True
        self._listen()
        if self.max_seconds is not None:
            self._deadline = time.monotonic() + self.max_seconds
        if trainer.world_size > 1:  # on the host: no process waits for its device to learn of a signal
            self._group = dist.new_group(backend="gloo")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._raises = True
        self.check()

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
        if self.reason is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.reason = f"received {signal.Signals(number).name}"
        if self._raises:
            os.write(2, f"\n{self.reason}: stopping\n".encode())
            raise Interrupted(self.reason)
        os.write(2, f"\n{self.reason}: stopping after this step with a checkpoint\n".encode())
