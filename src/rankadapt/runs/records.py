"""What a run leaves behind: ``results.json``, ``ranks.parquet``, ``ranks.png``, ``adapter/``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from rankadapt.adapters import Adapters
from rankadapt.control import Trace
from rankadapt.training.files import replacing
from rankadapt.training.scoreboard import Scoreboard

SCHEMA = 1


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` whole or not at all; numbers that are not finite become null."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(_finite(content), indent=2, allow_nan=False) + "\n")


def write_trace(path: Path, trace: Trace) -> pd.DataFrame:
    """Write the rows of ``trace`` as parquet: one per (event step, module), start and end included."""
    frame = pd.DataFrame(trace.rows, columns=list(_TYPES)).astype(_TYPES)
    with replacing(path) as beside:
        frame.to_parquet(beside, index=False)
    return frame


_TYPES = {
    "step": "int64",
    "module": "string",
    "rank": "int64",
    "score_min": "float64",
    "score_mean": "float64",
    "born": "int64",
    "pruned": "int64",
}


def metrics_record(board: Scoreboard) -> dict[str, Any]:
    """Evaluations: before training, best by the primary metric, last, and all of them."""
    return {
        "primary": board.primary,
        "before": board.before,
        "best": board.best,
        "last": board.last,
        "history": board.entries,
    }


def rank_record(adapters: Adapters, trace: Trace, step: int) -> dict[str, Any]:
    """Ranks per module and in all: initial, final, and the mean over the ``step`` steps that were taken."""
    modules: dict[str, dict[str, Any]] = {}
    for name in adapters.names:
        rows = [row for row in trace.rows if row["module"] == name]
        modules[name] = {
            "initial": rows[0]["rank"] if rows else None,
            "final": rows[-1]["rank"] if rows else None,
            "mean": _mean_over_time([(row["step"], row["rank"]) for row in rows], step),
        }
    known = [m for m in modules.values() if m["initial"] is not None]
    total = {key: round(sum(m[key] for m in known), 6) for key in ("initial", "final", "mean")}
    return {"slots": adapters.slots, "modules": modules, "total": total}


def parameter_record(adapters: Adapters, counts: dict[str, int]) -> dict[str, int]:
    """Trainable parameters: of live directions (what the papers count), of all slots, and ``counts`` of the
    head and the base. An adaptation without slots has one number for both, ``counts["adapter"]``."""
    live = allocated = 0
    for layer in adapters.layers:
        extra = sum(p.numel() for p in layer.extra_parameters().values())
        live += layer.form.count(layer.rank, layer.in_features, layer.out_features) + extra
        allocated += sum(p.numel() for p in layer.slot_parameters().values() if p.requires_grad) + extra
    rest = {key: number for key, number in counts.items() if key != "adapter"}
    if not len(adapters):
        live = allocated = counts["adapter"]
    return {"budget": live, "allocated": allocated, **rest}


def _mean_over_time(course: list[tuple[int, int]], step: int) -> float | None:
    """Mean of a step function given as (from this step on, value), up to ``step``."""
    if not course or not step:
        return float(course[0][1]) if course else None
    ends = [start for start, _ in course[1:]] + [step]
    return sum((end - start) * rank for (start, rank), end in zip(course, ends, strict=True)) / step


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
