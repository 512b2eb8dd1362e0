"""The Lightning Trainer of a session, with this library's callbacks and loggers."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.strategies import DDPStrategy

from rankadapt.errors import ConfigError, Problem
from rankadapt.runs.session import Session
from rankadapt.runs.spectrum import Spectrum, refuse_unfolded
from rankadapt.training.checkpoint import AtomicCheckpointIO, Keeper
from rankadapt.training.clock import Clock
from rankadapt.training.config import RunConfig
from rankadapt.training.generations import GenerationsWriter
from rankadapt.training.metrics_file import MetricsFile
from rankadapt.training.progress import StepMetrics
from rankadapt.training.ranks import RankCallback
from rankadapt.training.stopping import StopRequests


@dataclass
class Host:
    """A Trainer and the parts of it that the run asks afterwards."""

    trainer: pl.Trainer
    clock: Clock
    loggers: list[Logger]


def build_host(
    session: Session, directory: Path, steps: int | None = None, stop: StopRequests | None = None
) -> Host:
    """A Trainer for the session's run, which ``stop`` may end, or for its first ``steps`` optimizer steps (a
    dry run: no logs)."""
    config, trainer = session.config, session.config.trainer
    clock, stop = Clock(), stop or StopRequests(seconds(trainer.max_time))
    loggers = [] if steps else build_loggers(config, directory)
    keeper = Keeper(
        directory / "checkpoints",
        session.identity(),
        stop,
        config.checkpoint.every_n_steps,
        config.checkpoint.best,
        trainer.log_every_n_steps,
    )
    ranks = RankCallback(session.controller, session.horizon.steps)
    metrics = StepMetrics(trainer.log_every_n_steps, session.controller)
    texts = GenerationsWriter(directory / "generations")  # before the keeper, which may end the run
    callbacks: list[pl.Callback] = [clock, ranks] if steps else [clock, ranks, metrics, texts, keeper]
    if every := None if steps else config.evaluation.spectrum_every_n_steps:
        refuse_unfolded(session.module.model, every)
        callbacks.append(Spectrum(every, session.adapters))
    if trainer.progress_bar:
        callbacks.append(TQDMProgressBar(refresh_rate=5))
    if not steps:
        callbacks.append(stop)
    world = session.share.world
    host = pl.Trainer(
        accelerator=trainer.accelerator,
        devices=trainer.devices,
        num_nodes=max(world // trainer.devices, 1),
        strategy=DDPStrategy(broadcast_buffers=False) if world > 1 else "auto",
        precision=trainer.precision,
        max_epochs=1,  # the loader is the whole run; epochs are its business
        max_steps=steps or -1,
        accumulate_grad_batches=trainer.accumulate_grad_batches,
        gradient_clip_val=config.optimizer.gradient_clip,
        log_every_n_steps=trainer.log_every_n_steps,
        val_check_interval=_interval(session),
        logger=loggers or False,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=trainer.progress_bar,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=directory,
    )
    return Host(host, clock, loggers)


def _interval(session: Session) -> int | None:
    """Micro-batches between two evaluations; None for none while training."""
    every = session.config.evaluation.every_n_steps
    if every is None or every > session.horizon.steps:
        return None
    return every * session.share.accumulate


def build_loggers(config: RunConfig, directory: Path) -> list[Logger]:
    """``metrics.csv`` always, unless there is to be none; TensorBoard or W&B besides.

    Raises:
        ConfigError: the logger's package is not installed.
    """
    kind = config.logger.name
    if kind in ("tensorboard", "wandb") and find_spec(kind) is None:
        remedy = f"pip install 'rankadapt[{kind}]', or logger=csv"
        raise ConfigError(Problem("logger.name", kind, f"the package {kind} is not installed", remedy))
    if kind == "none":
        return []
    loggers: list[Logger] = [MetricsFile(directory / "metrics.csv")]
    if kind == "tensorboard":
        loggers.append(TensorBoardLogger(directory, name="", version="tensorboard"))
    if kind == "wandb":
        loggers.append(_wandb(config, directory))
    return loggers


def _wandb(config: RunConfig, directory: Path) -> WandbLogger:
    """One W&B run per run directory: a resumed run goes on in it."""
    run_id = "-".join(directory.parts[-2:]).replace("_", "-")
    settings: dict[str, Any] = {"entity": config.logger.entity, "group": config.logger.group}
    return WandbLogger(
        project=config.logger.project,
        name=f"{config.method}-{config.task.name}-{config.model.name}-seed{config.seed}",
        id=run_id,
        resume="allow",
        save_dir=directory,
        offline=config.logger.mode == "offline",
        **settings,
    )


def finish_loggers(loggers: list[Logger], plot: Path | None, ok: bool) -> None:
    """Hand over the picture of the ranks and close each logger with how the run ended."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            if plot is not None:
                logger.log_image("ranks", [str(plot)])
            logger.experiment.finish(exit_code=0 if ok else 1)
        if isinstance(logger, TensorBoardLogger) and plot is not None:
            import matplotlib.image

            logger.experiment.add_image("ranks", matplotlib.image.imread(plot)[..., :3], dataformats="HWC")
            logger.finalize("success" if ok else "failed")


def seconds(limit: str | float | None) -> float | None:
    """``HH:MM:SS`` or seconds -> seconds."""
    if not isinstance(limit, str):
        return limit
    hours, minutes, rest = (int(part) for part in limit.split(":"))
    return 3600.0 * hours + 60 * minutes + rest
