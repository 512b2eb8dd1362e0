"""What a run would be, without running it: modules, parameters, events, memory, and one real step."""

from __future__ import annotations

import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rankadapt.runs.plan import BYTES_TRAINED
from rankadapt.runs.records import parameter_record
from rankadapt.runs.session import Session, build_session
from rankadapt.runs.trainer import build_host
from rankadapt.training.clock import peak_memory, reset_peak_memory
from rankadapt.training.config import RunConfig


def dry_run(config: RunConfig, directory: Path) -> None:
    """Print the plan of a run and take its first optimizer step. Nothing is kept.

    Raises:
        RankAdaptError: whatever would stop the run.
    """
    reset_peak_memory()
    session = build_session(config)
    console = Console()
    console.print(_modules(session))
    console.print(_plan(session))
    with tempfile.TemporaryDirectory() as scratch:
        host = build_host(session, Path(scratch), steps=1)
        host.trainer.fit(session.module, session.train)
    session.module.refuse_bad_loss()
    peak = peak_memory()
    where = peak["device_bytes"] or peak["host_bytes"] or 0
    seconds = host.clock.report()["train_seconds"]
    console.print(f"one real step: {seconds} s, peak memory {where / 2**20:.0f} MiB. Nothing was kept.")


def _modules(session: Session) -> Table:
    table = Table("module", "shape", "rank", title=f"{len(session.adapters)} adapted modules")
    for name, layer in zip(session.adapters.names, session.adapters.layers, strict=True):
        table.add_row(name, f"{layer.out_features} x {layer.in_features}", str(layer.rank))
    return table


def _plan(session: Session) -> Table:
    counts = parameter_record(session.adapters, session.parameters)
    trained = counts["allocated"] + counts["head"]
    weights = sum(
        p.numel() * p.element_size() for p in session.module.model.parameters() if not p.requires_grad
    )
    horizon = session.horizon
    events = list(horizon.timetable.events()) if horizon.timetable else []
    table = Table(show_header=False)
    table.add_row("examples", f"{len(session.data.train)} for training")
    table.add_row("steps", f"{horizon.steps}, {horizon.steps_per_epoch} per epoch")
    table.add_row("rank events", f"{len(events)}: after steps {', '.join(map(str, events)) or '-'}")
    table.add_row("budget", f"{session.ranks.budget} directions, {session.ranks.slots} slots per module")
    table.add_row("trainable", f"{counts['budget']:,} in directions, {counts['head']:,} in the head")
    table.add_row(
        "total", f"{counts['base'] + counts['head'] + counts['allocated']:,} parameters with all slots"
    )
    memory = (weights + trained * BYTES_TRAINED) / 2**20
    table.add_row("memory", f"{memory:.0f} MiB for weights, gradients and optimizer, before activations")
    return table
