"""Records of runs as they are left, without running anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def record(method: str = "lora", seed: int = 1, value: float = 0.5, **changes: Any) -> dict[str, Any]:
    """The content of a ``results.json``; ``changes`` by dotted key, a dot as two underscores."""
    content: dict[str, Any] = {
        "schema": 1,
        "status": "completed",
        "method": method,
        "task": "glue/rte",
        "model": "minilm",
        "seed": seed,
        "config": {
            "seed": seed,
            "method": method,
            "task": {"batch_size": 32, "selection_share": 0.0},
            "optimizer": {"lr": 1e-3},
            "trainer": {"max_steps": 100, "max_epochs": None},
            "policy": {"_target_": "rankadapt.policies.Static"},
            "paths": {"output": "outputs"},
        },
        "error": None,
        "steps": {"taken": 100, "planned": 100},
        "metrics": {
            "primary": "accuracy",
            "before": None,
            "best": {"step": 50, "accuracy": value + 0.01},
            "last": {"step": 100, "accuracy": value},
            "history": [{"step": 50, "accuracy": value + 0.01}, {"step": 100, "accuracy": value}],
        },
        "trainable_parameters": {"budget": 1000, "allocated": 1000, "head": 10, "base": 5000},
        "rank": {"slots": 8, "modules": {}, "total": {"initial": 96, "final": 96, "mean": 96.0}},
        "cost": {
            "train_seconds": 10.0,
            "median_step_ms": 100.0,
            "peak_memory": {"device_bytes": None, "host_bytes": 1},
        },
        "provenance": {"data": {"train": "aaaa", "validation": "bbbb"}},
        "finished": {"unix": 1000, "wall_seconds": 12.0},
    }
    for path, new in changes.items():
        *sections, key = path.split("__")
        place = content
        for section in sections:
            place = place[section]
        place[key] = new
    return content


def write(folder: Path, content: dict[str, Any]) -> Path:
    """Leave ``content`` as the record of the run in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "results.json"
    file.write_text(json.dumps(content))
    return file
