"""Rows of the real data in the optional mirror beside the checkout; tests skip where it is absent."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

HUB = Path(__file__).parents[2] / "shared" / "hub" / "datasets"


def rows(pattern: str, *columns: str) -> list[tuple]:
    """``columns`` of all files that match ``pattern`` below the mirror's ``datasets``, row by row."""
    files = sorted(HUB.glob(pattern))
    if not files:
        pytest.skip(f"no mirror with {pattern} at {HUB}")
    table = pd.concat([pd.read_parquet(file, columns=list(columns)) for file in files])
    return list(table.itertuples(index=False, name=None))
