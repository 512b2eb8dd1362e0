"""The report on any runs: what is an arm, what may be compared, and that text and page say the same."""

from __future__ import annotations

import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rankadapt.analysis.reading import Record, read_records
from rankadapt.analysis.report.arms import studies
from rankadapt.analysis.report.comparable import KINDS, differences
from rankadapt.analysis.report.document import Document, Grid, Heading, Picture
from rankadapt.analysis.report.overview import Choice, overview
from rankadapt.analysis.report.page import as_page
from rankadapt.analysis.report.text import as_text
from rankadapt.cli import main
from tests.records import record, write


def records(*contents: dict[str, Any]) -> list[Record]:
    return [Record(Path(f"run{i}"), content) for i, content in enumerate(contents)]


def told(*contents: dict[str, Any], **choice: Any) -> str:
    return as_text(overview(records(*contents), [], Choice(**choice)), 240)


def test_seeds_make_an_arm_the_optimizer_a_trial_and_all_else_another_arm() -> None:
    (study,) = studies(
        records(
            record(seed=1),
            record(seed=2),
            record(seed=1, config__optimizer={"lr": 3e-3}),
            record("hebira", config__policy={"k": 4}),
            record("hebira", config__policy={"k": 8}),
            record("hebira", config__policy={"k": 8}, config__paths={"output": "elsewhere"}, seed=2),
        )
    )
    assert [arm.name for arm in study.arms] == ["hebira policy.k=4", "hebira policy.k=8", "lora"]
    lora = study.arms[2]
    assert [sorted(trial.runs) for trial in lora.trials] == [[1, 2], [1]]
    assert study.arms[1].seeds == (1, 2)


def test_the_best_trial_is_reported_and_of_two_equal_runs_the_later() -> None:
    (study,) = studies(
        records(
            record(value=0.5),
            record(value=0.7, config__optimizer={"lr": 3e-3}),
            record(value=0.6, config__optimizer={"lr": 3e-3}, finished={"unix": 2000}),
        )
    )
    assert study.arms[0].best("accuracy").values("accuracy", "last") == {1: 0.6}


def test_what_was_run_with_more_seeds_is_reported_before_what_was_only_tried() -> None:
    tried = record(value=0.9, config__optimizer={"lr": 3e-3})
    (study,) = studies(records(record(seed=1), record(seed=2), tried))
    assert sorted(study.arms[0].best("accuracy").runs) == [1, 2]


def test_an_older_record_without_a_key_that_is_null_is_of_the_same_arm() -> None:
    (study,) = studies(
        records(
            record(seed=1),
            record(
                seed=2,
                config__policy={
                    "_target_": "rankadapt.policies.Static",
                    "new": None,
                },
            ),
        )
    )
    assert [arm.seeds for arm in study.arms] == [(1, 2)]


def test_other_tasks_and_models_are_other_studies_and_failed_runs_are_named() -> None:
    text = told(
        record(), record(task="glue/cola"), record(model="big"), record(status="failed", error="no room")
    )
    for name in ("glue/cola, minilm", "glue/rte, big", "glue/rte, minilm", "failed: no room"):
        assert name in text


TOTAL = {"initial": 96, "final": 96, "mean": 96.0}
DATA = {"train": "cccc", "validation": "bbbb"}
SHARED = {"batch_size": 32, "selection_share": 0.1}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("budget", {"rank__total": TOTAL | {"final": 90}}),
        ("mean-budget", {"rank__total": TOTAL | {"mean": 110.0}}),
        ("data", {"provenance": {"data": DATA}}),
        ("length", {"steps": {"taken": 90, "planned": 100}}),
        ("selection", {"config__task": SHARED}),
    ],
)
def test_arms_that_differ_in_more_than_their_method_are_not_compared(
    kind: str, change: dict[str, Any]
) -> None:
    pair = [
        c for s in (1, 2, 3) for c in (record(seed=s, value=s / 10), record("hebira", s, s / 9, **change))
    ]
    refused = told(*pair)
    assert "hebira and lora are not compared" in refused
    assert KINDS[kind] in refused
    allowed = told(*pair, despite=[kind])
    assert "are not compared" not in allowed
    assert f"despite {KINDS[kind]}" in " ".join(allowed.split())


def test_unequal_tuning_is_not_compared_either() -> None:
    pair = [record(), record("hebira"), record("hebira", config__optimizer={"lr": 3e-3})]
    assert "settings tried 2 and 1" in told(*pair)


def test_a_direction_more_in_a_thousand_is_no_difference() -> None:
    (study,) = studies(
        records(
            record(rank__total={"initial": 5000, "final": 5000, "mean": 5000.0}),
            record("hebira", rank__total={"initial": 5000, "final": 5000, "mean": 5001.0}),
        )
    )
    a, b = study.arms
    assert list(differences(a, b, a.trials[0], b.trials[0])) == []


def test_without_directions_parameters_are_the_budget() -> None:
    none = {"initial": 0, "final": 0, "mean": 0}
    full = record("full", rank__total=none, trainable_parameters={"budget": 9000, "head": 10})
    assert "budget at the end 9,000 and 1,000 parameters" in told(record(), full)


def test_a_clear_difference_holds_and_few_seeds_cannot_tell() -> None:
    gains = [0.10, 0.11, 0.09, 0.10, 0.12]
    many = [
        c
        for s, g in enumerate(gains)
        for c in (record(seed=s, value=0.5 + s / 99), record("hebira", s, 0.5 + s / 99 + g))
    ]
    assert " holds " in told(*many)
    assert "cannot be told" in told(*many[:2])


def test_best_is_compared_where_a_split_was_kept_apart_to_choose_it() -> None:
    def kept(method: str, seed: int, value: float) -> dict[str, Any]:
        found = {"step": 50, "selection/accuracy": 0.1, "validation/accuracy": value}
        metrics = {
            "primary": "selection/accuracy",
            "before": None,
            "best": found,
            "last": found | {"step": 100},
        }
        return record(method, seed, metrics=metrics | {"history": [found]})

    text = told(*[c for s in (1, 2) for c in (kept("lora", s, 0.5), kept("hebira", s, 0.6))])
    assert "validation/accuracy: mean" in text
    assert "at the best step" in text


class Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.inside = tag in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.found.append(data)
            self.inside = False


def test_text_and_page_say_the_same() -> None:
    document = Document(
        [Heading("A <b>", 1), Grid("what", ("x [1]", "y"), [["a<b", "[bold]"]]), Picture(b"png", "plot")]
    )
    text, page = as_text(document), as_page(document, "title")
    reader = Cells()
    reader.feed(page)
    assert reader.found == ["x [1]", "y", "a<b", "[bold]"]
    assert all(cell in text for cell in reader.found)
    assert "<b>" not in page.replace("<body>", "")
    assert "data:image/png;base64,cG5n" in page
    assert "plot" in text


def test_the_command_writes_a_page_and_names_what_it_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a", record())
    (tmp_path / "b").mkdir()
    (tmp_path / "b/results.json").write_text('{"some": "other program"}')
    (tmp_path / "c").mkdir()
    (tmp_path / "c/results.json").write_text('{"schema": 1, "sta')
    assert main(["report", str(tmp_path), "--html", str(tmp_path / "page/index.html")]) == 0
    text, page = capsys.readouterr().out, (tmp_path / "page/index.html").read_text()
    for said in (
        "glue/rte, minilm",
        "b/results.json",
        "is not a record of schema 1",
        "c/results.json",
        "cannot be read",
    ):
        assert said in text
        assert said in page


def test_what_the_command_cannot_do_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "none"), "--despite", "budgets"]) == 2
    error = capsys.readouterr().err
    assert "is no folder" in error
    assert "is no such difference" in error


@pytest.mark.slow
def test_five_thousand_records_take_less_than_twenty_seconds(tmp_path: Path) -> None:
    modules = {
        f"encoder.layer.{i}.attention.query": {"initial": 8, "final": 9, "mean": 8.3} for i in range(72)
    }
    for number in range(5000):
        arm, seed = divmod(number, 5)
        method = "lora" if arm % 100 == 0 else "hebira"
        content = record(
            method, seed, 0.5 + seed / 99 + arm / 9999, task=f"glue/t{arm // 100}", rank__modules=modules
        )
        content["config"]["policy"]["k"] = arm % 100
        write(tmp_path / f"r{number}", content)
    start = time.perf_counter()
    found, problems = read_records([tmp_path])
    page = as_page(overview(found, problems, Choice()), "all")
    assert time.perf_counter() - start < 20
    assert page.count("<tr>") > 1900
