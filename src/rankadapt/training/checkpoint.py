"""Checkpoints: small (adapters, head, optimizer), whole or not there, and enough to go on bit for bit."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.plugins.io import TorchCheckpointIO

from rankadapt.errors import CheckpointError, Problem
from rankadapt.training.files import replacing
from rankadapt.training.steps import OptimizerStepCallback
from rankadapt.training.stopping import Interrupted, StopRequests

FORMAT = 1


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames; reads with ``weights_only=True``."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside, beside.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: Any = True
    ) -> dict[str, Any]:
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        CheckpointError: it is missing, cut short, or not one of this library.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(Problem(str(path), None, "there is no such file")) from error
    except Exception as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        reason = f"is damaged or cut short ({why[:120]})"
        remedy = "name another checkpoint, or move it away and start again without resume=true"
        raise CheckpointError(Problem(str(path), None, reason, remedy)) from error
    if not isinstance(checkpoint, dict) or checkpoint.get("rankadapt", {}).get("format") != FORMAT:
        raise CheckpointError(Problem(str(path), None, "is not a checkpoint of this version of rankadapt"))
    return checkpoint


def check_identity(checkpoint: dict[str, Any], identity: dict[str, Any], path: Path) -> None:
    """Make sure that a checkpoint belongs to the run that is to go on from it.

    Raises:
        CheckpointError: naming all that differs.
    """
    theirs = checkpoint["rankadapt"]["identity"]
    differing = [
        Problem(f"{path.name}: {key}", theirs.get(key), f"this run has {value!r}")
        for key, value in identity.items()
        if theirs.get(key) != value
    ]
    if differing:
        raise CheckpointError(differing)


class Keeper(OptimizerStepCallback):
    """Writes checkpoints of a :class:`rankadapt.training.module.FineTuner` at step boundaries, and stops the
    run where that was asked for.

    Args:
        folder: of ``last.ckpt`` and ``best.ckpt``.
        identity: plain facts that a checkpoint must share with the run that goes on from it.
        stop: requests to stop.
        every: optimizer steps between two ``last.ckpt``; None for only when stopped and at the end.
        best: whether to keep ``best.ckpt``.
        check_every: optimizer steps between two looks at whether the loss was finite.
    """

    def __init__(
        self,
        folder: Path,
        identity: dict[str, Any],
        stop: StopRequests,
        every: int | None,
        best: bool,
        check_every: int,
    ):
        self.folder, self.identity, self.stop = folder, identity, stop
        self.every, self.best, self.check_every = every, best, check_every
        self._due = False
        self._reason: str | None = None
        self._random: list[dict[str, Any]] | None = None

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if self._random is not None:  # the last moment before a step draws random numbers
            set_random_state(self._random[trainer.global_rank])
            self._random = None

    def on_optimizer_step_end(self, trainer: pl.Trainer, pl_module: Any, batch_idx: int) -> None:
        step = trainer.global_step
        self._reason = self.stop.asked()
        self._due = self._reason is not None or bool(self.every and step % self.every == 0)
        if self._due:
            pl_module.refuse_bad_weights()
        elif step % self.check_every == 0:
            pl_module.refuse_bad_loss()
        if self._due and not self._validates(trainer, batch_idx):
            self._keep(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        pl_module.refuse_bad_weights()
        board = pl_module.scoreboard
        if self.best and board.best is board.last:
            trainer.save_checkpoint(self.folder / "best.ckpt")
        if self._due:
            self._keep(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        pl_module.refuse_bad_weights()
        trainer.save_checkpoint(self.folder / "last.ckpt")

    def _validates(self, trainer: pl.Trainer, batch_idx: int) -> bool:
        """Whether an evaluation follows this batch: then the checkpoint is written behind it."""
        interval = trainer.val_check_batch
        return bool(trainer.num_val_batches and interval) and (batch_idx + 1) % (interval or 1) == 0

    def _keep(self, trainer: pl.Trainer) -> None:
        self._due = False
        trainer.save_checkpoint(self.folder / "last.ckpt")
        if self._reason is not None:
            raise Interrupted(self._reason)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        states: list[Any] = [random_state()]
        if trainer.world_size > 1:
            states = [None] * trainer.world_size
            dist.all_gather_object(states, random_state())
        checkpoint["rankadapt"] = {"format": FORMAT, "random": states, "identity": self.identity}

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self._random = checkpoint["rankadapt"]["random"]


def random_state() -> dict[str, Any]:
    """The states of all random number generators, as plain values and tensors."""
    version, keys, gauss = random.getstate()
    name, state, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 (libraries draw from it)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "python": [version, list(keys), gauss],
        "numpy": [name, torch.from_numpy(np.array(state, dtype=np.int64)), position, has_gauss, cached],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """The inverse of :func:`random_state`."""
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
