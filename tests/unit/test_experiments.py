"""Experiments: every published table has one, every printed figure a run or a reason; what files may say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rankadapt.errors import ConfigError
from rankadapt.papers import tables
from rankadapt.papers.cells import cells, left_out
from rankadapt.papers.experiments import PLOTS, experiment, experiments, merged, names
from rankadapt.papers.figures import COSTS, Figure
from rankadapt.papers.pictures import DRAWERS
from rankadapt.papers.progress import NOT_IDENTITY

FOLDER = Path(__file__).parents[2] / "conf/experiment"
ALL = experiments(FOLDER)
RUN_BY_NOTHING = {"hyperparameters", "datasets"}


def test_every_published_table_of_results_has_an_experiment() -> None:
    given = {experiment(FOLDER, name).published for name in ALL} - {None}
    wanted = {name for name, table in tables().items() if table.kind not in RUN_BY_NOTHING}
    assert given == wanted


@pytest.mark.parametrize("name", ALL)
def test_every_printed_figure_has_a_run_or_a_reason(name: str) -> None:
    found = experiment(FOLDER, name)
    planned = cells(found)
    assert planned or left_out(found)
    if found.published is None:
        return
    printed = tables()[found.published].cells
    figures = [c for c in printed if not c.is_average]
    excused = sum(any(why in found.leave_out for why in (c.model, c.method, c.metric)) for c in figures)
    assert len(planned) + excused == len(figures)


@pytest.mark.parametrize("name", ALL)
def test_a_run_names_its_method_its_task_and_no_key_twice(name: str) -> None:
    for cell in cells(experiment(FOLDER, name)):
        keys = [o.lstrip("+~").partition("=")[0] for o in cell.overrides]
        assert len(set(keys)) == len(keys)
        assert {"method", "task"} <= set(keys), cell


def test_rows_of_one_table_are_runs_of_their_own() -> None:
    """Two rows with the same command would be the same figure twice: an override was forgotten."""
    for name in ALL:
        rows: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
        for cell in cells(experiment(FOLDER, name)):
            row = (cell.model, cell.arm, str(cell.rank))
            rows.setdefault((*cell.overrides,), set()).add(row)
        shared = [found for found in rows.values() if len(found) > 1]
        assert not shared, (name, shared)


def test_every_plot_that_a_file_may_name_is_drawn() -> None:
    assert set(PLOTS) == set(DRAWERS)


def test_what_is_no_part_of_a_command_is_what_hydra_leaves_out_too() -> None:
    job = yaml.safe_load((FOLDER.parent / "config.yaml").read_text())["hydra"]["job"]
    assert set(job["config"]["override_dirname"]["exclude_keys"]) == NOT_IDENTITY


def test_general_names_are_used() -> None:
    """A name that no table has is a slip of the pen."""
    printed = [c for t in tables().values() for c in t.cells]
    assert names()["models"].keys() <= {c.model for c in printed}
    assert names()["methods"].keys() <= {c.method for c in printed}
    assert names()["tasks"].keys() <= {c.task for c in printed}


def test_of_two_values_for_a_key_the_later_one_is_taken() -> None:
    assert merged(["a=1 b=2", 'c="[x,y]" a=3']) == ("b=2", "c=[x,y]", "a=3")
    assert merged(['"model.targets=[a.*.b,c]"', "model=x"]) == ("model.targets=[a.*.b,c]", "model=x")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("metods: {}", "unknown keys metods"),
        ("published: hebira/table99", "is not a published table"),
        ("methods: {A: method=lora}\nclaims: [{says: x, a: A, b: B}]", "is not one of its methods"),
        ("grid: {optimizer.lr: [1]}", "needs seeds to choose on"),
        ("grid: {optimizer.lr: [1]}\ntuning_seeds: [1]\nseeds: [1]", "are also seeds of the report"),
        ("despite: {bugdet: x}", "is no kind of difference"),
        ("figure: rank", "no such plot"),
    ],
)
def test_a_file_that_says_what_it_may_not(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "one.yaml").write_text("# A study\n" + text)
    with pytest.raises(ConfigError, match=says):
        experiment(tmp_path, "one")


def test_a_name_that_is_not_there_is_answered_with_near_ones() -> None:
    with pytest.raises(ConfigError, match="hebira/table03"):
        experiment(FOLDER, "hebira/table3")


def test_like_takes_over_and_common_overrides_add_up(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("# Base\ncommon: a=1\nseeds: [4]\nmethods: {A: method=lora}")
    (tmp_path / "one.yaml").write_text("# One\nlike: base\ncommon: b=2\nmethods: {B: method=dora}")
    found = experiment(tmp_path, "one")
    assert (found.title, found.common, found.seeds) == ("One", "a=1 b=2", (4,))
    assert found.methods == {"B": "method=dora"}


def test_figures_are_read_in_the_printed_unit() -> None:
    record = {
        "metrics": {"best": {"accuracy": 0.5}, "last": None},
        "cost": {"train_seconds": 60.0, "peak_memory": {"device_bytes": None, "host_bytes": 2 * 10**9}},
        "config": {"trainer": {"max_epochs": 4, "max_steps": None}},
    }
    assert Figure.parse("accuracy x 100").read(record, "best") == 50
    assert Figure.parse("accuracy x 100").read(record, "last") is None
    assert Figure.parse("seconds_per_epoch").read(record, "best") == 15
    assert Figure.parse("peak_memory x 1e-9").read(record, "last") == 2
    assert {f.partition(" x ")[0] for units in names()["costs"].values() for f in units.values()} <= set(
        COSTS
    )


def test_a_grid_makes_trials_and_an_override_for_all_runs_wins(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(
        "# One\nmethods: {A: method=lora}\ntasks: {RTE: {}}\n"
        "grid: {optimizer.lr: [0.1, 0.2]}\ntuning_seeds: [9]\nseeds: [1]"
    )
    found = experiment(tmp_path, "one")
    assert [cell.trial for cell in cells(found)] == [("optimizer.lr=0.1",), ("optimizer.lr=0.2",)]
    (fixed,) = cells(found, ("optimizer.lr=0.5",))
    assert fixed.trial == ()
    assert "optimizer.lr=0.5" in fixed.overrides
