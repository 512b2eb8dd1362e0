"""The figures: what they show is in them, whatever the shape of the run; and the reading of module paths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from rankadapt.analysis import plots
from rankadapt.analysis.courses import grouped_ranks, of_block, rank_course
from rankadapt.analysis.importance import module_scores, rankings, ranks_and_rankings
from rankadapt.analysis.names import layer_and_role
from rankadapt.analysis.plots import plot_ranks
from rankadapt.analysis.plots.maps import grid
from rankadapt.analysis.plots.style import short
from tests.simulated import simulate


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
    table = grid(final)
    assert list(table.index) == ["query", "dense"]
    assert list(table.columns) == [0, 2, 10]
    assert table.loc["query"].tolist() == [3, 1, 7]
    assert np.isnan(table.loc["dense", 10])


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


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("attention.self.query_proj", "attention.query"),
        ("attention.output.dense", "attention.output"),
        ("output.dense", "output"),
        ("self_attn.q_proj", "q"),
        ("dense", "dense"),
    ],
)
def test_short_names_tell_kinds_apart(kind: str, expected: str) -> None:
    assert short(kind) == expected


def texts(figure: Figure) -> str:
    """All that is written in a figure."""
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def drawn(figure: Figure, tmp_path: Path) -> np.ndarray:
    """The figure as pixels."""
    plots.save(figure, tmp_path / "figure.png")
    return matplotlib.image.imread(tmp_path / "figure.png")


TRACE = simulate(2, modules=6).trace
EFFECTIVE = pd.DataFrame(
    {"nominal": [4, 2, 0], "effective": [3.0, 1.5, 0.0], "utilisation": [0.75, 0.75, np.nan]},
    index=["m.layer.0.query", "m.layer.0.output.dense", "m.layer.1.query"],
)
SWEPT = pd.DataFrame(
    {"series": ["a", "a", "b"], "value": [4, 12, 4], "mean": [0.5, 0.6, 0.4], "sd": [0.1, np.nan, 0.2]}
).assign(seeds=[3, 1, 3])
SPARSE = pd.DataFrame({"sparsity": [1.0, -np.inf]}, index=[0, 1])
STEPS = pd.Series({10: 1e-3, 20: 0.0, 30: 1e-2})

FIGURES: dict[str, tuple[Callable[[], Figure], list[str]]] = {
    "kinds": (
        lambda: plots.group_curves(grouped_ranks(TRACE, "kind"), "mean rank (directions)", "by kind"),
        ["optimizer step", "query", "output", "mean rank (directions)"],
    ),
    "blocks": (
        lambda: plots.group_curves(grouped_ranks(TRACE, "block"), "mean rank (directions)", "by block"),
        ["block 0", "block 2"],
    ),
    "modules of one block": (
        lambda: plots.group_curves(rank_course(of_block(TRACE, 1)), "rank (directions)", "block 1"),
        ["query", "output"],
    ),
    "rankings": (
        lambda: plots.group_curves(rankings(module_scores(TRACE)), "ranking", "importance", inverted=True),
        ["0 query", "2 output"],
    ),
    "scatter": (
        lambda: plots.importance_scatter(ranks_and_rankings(TRACE), "importance"),
        ["Spearman's ρ = ", "6 modules", "mean rank (directions)"],
    ),
    "curves": (
        lambda: plots.curves({"one": STEPS, "other": STEPS * 2}, "norm", "gradients", log=True),
        ["one", "other", "norm", "optimizer step"],
    ),
    "bars": (
        lambda: plots.utilisation_bars({"dynamic": EFFECTIVE, "fixed": EFFECTIVE}, "the end"),
        ["nominal rank", "dynamic", "fixed", "effective / nominal"],
    ),
    "bars by block": (
        lambda: plots.utilisation_bars({"alone": EFFECTIVE}, "the end", by="block"),
        ["transformer block"],
    ),
    "difference": (
        lambda: plots.utilisation_map(EFFECTIVE["utilisation"] - 0.8, "difference"),
        ["-0.05", "transformer block"],
    ),
    "births": (
        lambda: plots.births_and_deaths_figure(TRACE, "births and deaths"),
        ["came", "went", "mean life (optimizer steps)"],
    ),
    "sensitivity": (
        lambda: plots.sensitivity_curves(SWEPT, "policy.k", "accuracy", "adjustment size"),
        ["policy.k", "accuracy, mean ± sd of 1 to 3 seeds", "4", "12"],
    ),
    "sparsity": (
        lambda: plots.sparsity_and_rank(SPARSE, {"m.layer.0.q": 3, "m.layer.1.q": 5}, "sparsity"),
        ["Eq. 1", "mean rank"],
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_says_what_it_shows(name: str, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    make, expected = FIGURES[name]
    figure = make()
    pixels = drawn(figure, tmp_path)
    assert [word for word in expected if word not in texts(figure)] == []
    assert pixels.std() > 0.05
    assert not [str(w.message) for w in recwarn if issubclass(w.category, UserWarning | RuntimeWarning)]


def test_lines_show_the_values_and_leave_out_what_a_logarithm_has_not() -> None:
    figure = plots.curves({"x": STEPS}, "norm", "gradients", log=True)
    (line,) = figure.axes[0].lines
    assert line.get_xdata().tolist() == [10, 30]
    assert line.get_ydata().tolist() == [1e-3, 1e-2]


def test_differences_have_zero_in_the_middle_and_no_minus_zero() -> None:
    values = pd.Series({"m.layer.0.q": 0.5, "m.layer.1.q": -0.001})
    figure = plots.utilisation_map(values, "difference")
    assert figure.axes[0].images[0].get_clim() == (-0.5, 0.5)
    assert "-0.00" not in texts(figure)


def test_both_halves_of_the_picture_of_ranks_share_their_colours() -> None:
    figure = plots.ranks_figure(frame([0, 5, 9], [[2, 2], [1, 9], [3, 4]]), "a title")
    top, bottom = figure.axes[:2]
    assert top.images[0].get_clim() == bottom.collections[0].get_clim() == (1, 9)


def test_a_run_without_scores_and_events_can_be_drawn(tmp_path: Path) -> None:
    still = frame([0, 9], [[2, 2], [2, 2]]).assign(score_min=np.nan, score_mean=np.nan, born=0, pruned=0)
    assert "has no scores" in texts(plots.importance_scatter(ranks_and_rankings(still), "importance"))
    ranking = plots.group_curves(rankings(module_scores(still)), "ranking", "importance", inverted=True)
    for figure in (ranking, plots.births_and_deaths_figure(still, "births and deaths")):
        assert drawn(figure, tmp_path).std() > 0.01


def test_drawing_leaves_no_window_and_no_state() -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    plots.births_and_deaths_figure(TRACE, "births and deaths")
    assert plt.get_fignums() == before
