"""Every figure of every table of the papers, with its conditions (``data/<paper>/<table>.csv``)."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

DATA = Path(__file__).parent / "data"
KINDS = ("results", "ablation", "cost", "hyperparameters", "datasets")


@dataclass(frozen=True)
class Cell:
    """One printed figure.

    Attributes:
        model, method, task, variant: as the paper names them; empty where the table does not say. ``variant``
            is what an ablation changes.
        metric: what was measured; in a table of settings, the setting.
        value: as printed, without its spread; ``sd``: the standard deviation, if there is one.
        rank: of the budget; parameters: the column for them, with its unit.
        unit: ``percent``, a unit of time or memory, or ``setting``.
    """

    model: str
    method: str
    variant: str
    rank: int | None
    task: str
    metric: str
    parameters: str
    value: str
    sd: float | None
    unit: str

    @property
    def number(self) -> float:
        """The value as a number; a ValueError for a setting in words."""
        return float(self.value)

    @property
    def is_average(self) -> bool:
        """Whether it is the mean over a row, which no run gives."""
        return self.task == "average"


@dataclass(frozen=True)
class Table:
    """A table: its ``name`` (``hebira/table03_glue_r8``), ``number`` in the ``paper``, ``kind`` (one of
    :data:`KINDS`), what it shows, over how many ``seeds`` if the paper says so, and ``notes`` of ours."""

    name: str
    paper: str
    number: str
    kind: str
    caption: str
    seeds: str
    notes: str
    cells: tuple[Cell, ...]

    @property
    def source(self) -> str:
        """``HeBiRA, Table 3``."""
        return f"{self.paper}, Table {self.number}"


@cache
def tables() -> dict[str, Table]:
    """All tables, by name."""
    return {table.name: table for file in sorted(DATA.glob("*/tables.yaml")) for table in _of(file)}


def _of(file: Path) -> Iterator[Table]:
    content: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    for name, about in content["tables"].items():
        cells = tuple(_cells(file.with_name(f"{name}.csv")))
        yield Table(
            f"{file.parent.name}/{name}",
            content["title"],
            about["number"],
            about["kind"],
            about["caption"],
            about["seeds"],
            about.get("notes", ""),
            cells,
        )


def _cells(file: Path) -> Iterator[Cell]:
    with file.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            texts = {field.name: row[field.name] for field in fields(Cell)}
            rank = int(row["rank"]) if row["rank"] else None
            sd = float(row["sd"]) if row["sd"] else None
            yield Cell(**{**texts, "rank": rank, "sd": sd})  # type: ignore[arg-type]
