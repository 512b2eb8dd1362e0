"""The picture of the ranks, and the reading of module paths behind it."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from rankadapt.analysis.names import layer_and_role
from rankadapt.analysis.plots import _grid, plot_ranks


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("bert.encoder.layer.3.attention.self.query", (3, "attention.self.query")),
        ("deberta.encoder.layer.11.output.dense", (11, "output.dense")),
        ("model.layers.0.mlp.experts.7.up", (0, "mlp.experts.7.up")),
        ("classifier.dense", (0, "classifier.dense")),
    ],
)
def test_block_and_role(path: str, expected: tuple[int, str]) -> None:
    assert layer_and_role(path) == expected


def test_the_grid_keeps_the_models_order_and_marks_what_is_not_there() -> None:
    final = pd.Series(
        {"m.layer.0.query": 3, "m.layer.0.dense": 5, "m.layer.10.query": 7, "m.layer.2.query": 1}
    )
    grid = _grid(final)
    assert list(grid.index) == ["query", "dense"]
    assert list(grid.columns) == [0, 2, 10]
    assert grid.loc["query"].tolist() == [3, 1, 7]
    assert np.isnan(grid.loc["dense", 10])


def frame(steps: list[int], ranks: list[list[int]], modules: int = 2) -> pd.DataFrame:
    names = [f"m.layer.{i}.query" for i in range(modules)]
    rows = [(s, n, r) for s, line in zip(steps, ranks, strict=True) for n, r in zip(names, line, strict=True)]
    return pd.DataFrame(rows, columns=["step", "module", "rank"])


@pytest.mark.parametrize(
    ("steps", "ranks"),
    [([0, 5, 9], [[2, 2], [1, 3], [0, 4]]), ([0, 9], [[2, 2], [2, 2]]), ([0], [[2, 2]])],
    ids=["moving", "static", "stopped at once"],
)
def test_a_picture_is_drawn(steps: list[int], ranks: list[list[int]], tmp_path: Path) -> None:
    plot_ranks(frame(steps, ranks), tmp_path / "ranks.png", "a title")
    assert matplotlib.image.imread(tmp_path / "ranks.png").std() > 0.01


def test_other_ranks_give_another_picture(tmp_path: Path) -> None:
    for name, ranks in (("one", [1, 3]), ("other", [3, 1])):
        plot_ranks(frame([0, 9], [[2, 2], ranks]), tmp_path / f"{name}.png", "a title")
    assert (tmp_path / "one.png").read_bytes() != (tmp_path / "other.png").read_bytes()
