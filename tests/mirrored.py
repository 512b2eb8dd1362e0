"""Rows of the real data in the optional mirror beside the checkout; tests skip where it is absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

HUB = Path(__file__).parents[2] / "shared" / "hub" / "datasets"


def rows(pattern: str, *columns: str) -> list[tuple]:
    """``columns`` of all files that match ``pattern`` below the mirror's ``datasets``, row by row."""
    table = pd.concat([pd.read_parquet(file, columns=list(columns)) for file in _files(pattern)])
    return list(table.itertuples(index=False, name=None))


def records(pattern: str) -> list[dict[str, Any]]:
    """All rows with all their columns, lists as lists."""
    return [row for file in _files(pattern) for row in pq.read_table(file).to_pylist()]


def _files(pattern: str) -> list[Path]:
    files = sorted(HUB.glob(pattern))
    if not files:
        pytest.skip(f"no mirror with {pattern} at {HUB}")
    return files
