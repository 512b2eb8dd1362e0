"""One run: from a typed configuration to the files in its directory."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rankadapt.analysis.plots import plot_ranks
from rankadapt.errors import RankAdaptError
from rankadapt.export.peft import export_adapter
from rankadapt.runs import directory as places
from rankadapt.runs.provenance import provenance
from rankadapt.runs.records import (
    SCHEMA,
    metrics_record,
    parameter_record,
    rank_record,
    write_json,
    write_trace,
)
from rankadapt.runs.session import Session, build_session
from rankadapt.runs.trainer import Host, build_host, finish_loggers, seconds
from rankadapt.training.checkpoint import check_identity, read_checkpoint
from rankadapt.training.clock import peak_memory, reset_peak_memory
from rankadapt.training.config import RunConfig
from rankadapt.training.files import replacing
from rankadapt.training.metrics_file import MetricsFile
from rankadapt.training.stopping import Interrupted, StopRequests

Results = dict[str, Any]


def run(config: RunConfig, directory: Path, resolved: Mapping[str, Any]) -> Results:
    """Train as configured and leave the records in ``directory``.

    Args:
        resolved: the configuration as plain values, for the record.

    Returns:
        What is in ``results.json``. Its ``status`` is ``completed`` or ``interrupted``.

    Raises:
        RankAdaptError: what a user can mend. ``results.json`` then says ``failed``, if the directory can be
            written to.
    """
    places.prepare(directory)
    if config.resume and places.status(directory) == "completed":
        return json.loads((directory / "results.json").read_text())
    _quiet()
    reset_peak_memory()
    record: Results = {
        "schema": SCHEMA,
        "status": "failed",
        "method": config.method,
        "task": config.task.name,
    }
    record |= {"model": config.model.name, "seed": config.seed, "config": resolved, "error": None}
    started, writes = time.time(), True
    with StopRequests(seconds(config.trainer.max_time)) as stop:
        try:
            with stop.at_once():
                session = build_session(config)
                writes = session.share.rank == 0
                record["status"] = _train(session, directory, record, stop)
        except BaseException as error:
            if isinstance(error, Interrupted) or _left_alone(error, stop):
                record["status"], record["error"] = "interrupted", stop.reason or str(error)
            else:
                record["error"] = str(error) if isinstance(error, RankAdaptError) else repr(error)
                raise
        finally:
            ended = time.time()
            record["finished"] = {"unix": round(ended), "wall_seconds": round(ended - started, 1)}
            if writes:
                write_json(directory / "results.json", record)
    return record


def _left_alone(error: BaseException, stop: StopRequests) -> bool:
    """Whether this process failed because another one, with which it was to exchange something, has stopped
    on a signal that came to both."""
    return isinstance(error, RuntimeError) and stop.reason is not None and "WORLD_SIZE" in os.environ


def _train(session: Session, directory: Path, record: Results, stop: StopRequests) -> str:
    """Fit, evaluate, write; returns the status.

    Raises:
        Interrupted: by a signal outside of training: there may be no checkpoint of this session.
    """
    stop.check()
    host, writes = build_host(session, directory, stop=stop), session.share.rank == 0
    last = directory / "checkpoints/last.ckpt"
    checkpoint = _checkpoint(session, host, last) if session.config.resume and last.exists() else None
    completed = False
    try:
        if checkpoint is None and session.config.evaluation.at_start:
            host.trainer.validate(session.module, session.evaluation, verbose=False)
        record["error"] = _fit(session, host, checkpoint, stop)
        if record["error"] is None:
            _evaluate_at_end(session, host, directory / "checkpoints")
            stop.check()
            completed = True
    finally:
        with stop.held():
            loaded = checkpoint is None or host.trainer.global_step  # else an earlier session's say more
            plot = _write(session, host, directory, record) if writes and loaded else None
            finish_loggers(host.loggers, plot, completed)
    if writes:
        export_adapter(
            session.module.model,
            session.config.model.source,
            directory / "adapter",
            session.config.form,
            session.module.head_names(),
        )
    return "completed" if completed else "interrupted"


def _fit(session: Session, host: Host, checkpoint: Path | None, stop: StopRequests) -> str | None:
    """Train; returns why it was stopped, with a checkpoint, or None if it came to its end."""
    during = session.evaluation if session.config.evaluation.every_n_steps else None
    try:
        host.trainer.fit(session.module, session.train, during, ckpt_path=checkpoint, weights_only=True)
    except Interrupted as reason:
        if not stop.trained:
            raise
        return str(reason)
    return None


def _checkpoint(session: Session, host: Host, path: Path) -> Path:
    checkpoint = read_checkpoint(path)
    check_identity(checkpoint, session.identity(), path)
    step, entries = checkpoint["global_step"], checkpoint["scoreboard"]
    for logger in host.loggers:
        if isinstance(logger, MetricsFile):
            logger.resume_from(step, evaluated=any(entry["step"] == step for entry in entries))
    return path


def _evaluate_at_end(session: Session, host: Host, checkpoints: Path) -> None:
    board, steps = session.module.scoreboard, session.horizon.steps
    if board.last is None or board.last["step"] != steps:
        host.trainer.validate(session.module, session.evaluation, verbose=False)
        if session.config.checkpoint.best and board.best is board.last and session.share.rank == 0:
            with replacing(checkpoints / "best.ckpt") as beside:
                shutil.copy(checkpoints / "last.ckpt", beside)


def _write(session: Session, host: Host, directory: Path, record: Results) -> Path | None:
    """Fill ``record`` and write the course of the ranks; returns the plot, if there are ranks."""
    step = host.trainer.global_step
    adapters, trace = session.adapters, session.controller.trace
    trace.mark(step, adapters.ranks())
    record["steps"] = {"taken": step, "planned": session.horizon.steps}
    record["metrics"] = metrics_record(session.module.scoreboard)
    record["trainable_parameters"] = parameter_record(adapters, session.parameters)
    record["rank"] = rank_record(adapters, trace, step)
    record["cost"] = host.clock.report() | {"peak_memory": peak_memory()}
    record["data"] = {
        "train_examples": len(session.data.train),
        "evaluation_examples": {name: len(e) for name, e in session.data.evaluation.items()},
        "truncated": {name: split.truncated for name, split in session.data.splits.items()},
        "skipped": {name: split.skipped for name, split in session.data.splits.items()},
    }
    record["provenance"] = provenance(session.data.fingerprint)
    frame = write_trace(directory / "ranks.parquet", trace)
    if frame.empty:
        return None
    title = f"{record['method']} on {record['task']} ({record['model']}, seed {record['seed']})"
    plot_ranks(frame, directory / "ranks.png", title)
    return directory / "ranks.png"


def _quiet() -> None:
    """Keep the libraries' advice out of the way of what the run says."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for name in ("utilities.rank_zero", "accelerators.cuda", "trainer.connectors.checkpoint_connector"):
        logging.getLogger(f"pytorch_lightning.{name}").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*treespec.*",
        ".*have no `val_dataloader`.*",
        ".*`broadcast_buffers` is deprecated.*",
        ".*is a wandb run already in progress.*",
    ):
        warnings.filterwarnings("ignore", message)
