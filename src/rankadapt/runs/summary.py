"""The table at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def print_summary(results: Mapping[str, Any], directory: Path) -> None:
    """Metrics before and after, ranks, parameters, time, and where the files are."""
    if "metrics" not in results:
        return
    console = Console()
    console.print(_metrics(results))
    console.print(_facts(results))
    console.print(f"files: {directory}", soft_wrap=True, highlight=False)


def _metrics(results: Mapping[str, Any]) -> Table:
    metrics = results["metrics"]
    title = f"{results['method']} on {results['task']} ({results['model']}, seed {results['seed']})"
    table = Table("metric", "before", "best", "last", title=title)
    shown = {stage: metrics[stage] or {} for stage in ("before", "best", "last")}
    names = [k for k in (shown["last"] or shown["before"]) if k != "step"]
    for name in names:
        table.add_row(name, *(_number(shown[stage].get(name)) for stage in shown))
    table.add_row("at step", *(str(shown[stage].get("step", "-")) for stage in shown), style="dim")
    return table


def _facts(results: Mapping[str, Any]) -> Table:
    rank, cost, trained = results["rank"], results["cost"], results["trainable_parameters"]
    finals = [module["final"] for module in rank["modules"].values()]
    moved = sum(m["initial"] != m["final"] for m in rank["modules"].values())
    table = Table(show_header=False)
    table.add_row("status", results["status"])
    where = "directions" if finals else "the adaptation"
    if finals:
        table.add_row("ranks", f"{min(finals)} to {max(finals)}, {moved} of {len(finals)} modules moved")
        table.add_row(
            "directions", f"{rank['total']['initial']} at the start, {rank['total']['final']} at the end"
        )
    table.add_row("trained", f"{trained['budget']:,} parameters in {where}, {trained['head']:,} in the head")
    seconds = f"{cost['train_seconds']:.0f} s of training"
    table.add_row("time", f"{seconds}, {_number(cost['median_step_ms'], 0)} ms per step")
    table.add_row("memory", f"{cost['peak_memory']['host_bytes'] / 2**20:.0f} MiB at most")
    return table


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
