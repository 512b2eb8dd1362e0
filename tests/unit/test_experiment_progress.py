"""How far an experiment is: found from the folders that runs leave, without composing anything."""

from __future__ import annotations

import multiprocessing
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from rankadapt.analysis.report.text import as_text
from rankadapt.errors import BusyError
from rankadapt.papers.cells import Planned, Run, cells
from rankadapt.papers.experiments import Experiment, experiment
from rankadapt.papers.found import find
from rankadapt.papers.progress import all_runs, chosen, due, families, looking, progress, reported
from rankadapt.papers.side_by_side import document
from rankadapt.papers.sweeps import Sweep
from rankadapt.runs.directory import in_use, only_one, run_dir
from tests.records import record, write

TUNED = """# A study
methods: {LoRA: method=lora, HeBiRA: method=hebira}
tasks: {RTE: {}}
grid: {optimizer.lr: [0.1, 0.2]}
tuning_seeds: [9]
seeds: [1, 2]
claims: [{says: HeBiRA beats LoRA, a: HeBiRA, b: LoRA}]
"""


@pytest.fixture
def study(tmp_path: Path) -> Experiment:
    (tmp_path / "study.yaml").write_text(TUNED)
    return experiment(tmp_path, "study")


def folder(output: Path, run: Run, model: str = "minilm") -> Path:
    """Where Hydra would put ``run``: what it hashes is the sorted command without what changes no result."""
    chosen = dict(o.partition("=")[::2] for o in run.overrides)
    dirname = ",".join(sorted(run.arguments))
    return Path(
        run_dir(str(output), chosen["method"], chosen["task"], model, run.seed, False, False, dirname)
    )


def complete(output: Path, run: Run, value: float, **changes: object) -> Path:
    method = next(o for o in run.overrides if o.startswith("method=")).partition("=")[2]
    return write(folder(output, run), record(method, run.seed, value, **changes)).parent


def known(study: Experiment, planned: list[Planned], output: Path) -> list[Run]:
    return all_runs(study, planned, reported(study, planned, looking(output)))


def test_a_run_is_found_whatever_the_order_of_its_overrides(tmp_path: Path) -> None:
    run = Run(("task=glue/rte", "method=lora", "budget=r8"), 3)
    assert families(tmp_path, run) == []
    assert progress(tmp_path, run).state == "missing"
    made = complete(tmp_path, run, 0.5)
    again = Run(("budget=r8", "method=lora", "task=glue/rte", "paths.mirror=x", "trainer.max_time=9"), 3)
    assert families(tmp_path, again) == [made.parent]
    assert progress(tmp_path, again).record["seed"] == 3
    assert progress(tmp_path, Run(run.overrides, 4)).state == "missing"


def test_every_state_that_a_run_can_be_in(tmp_path: Path) -> None:
    runs = [Run(("task=glue/rte", "method=lora"), seed) for seed in range(4)]
    write(folder(tmp_path, runs[0]), record(status="failed", error="The data:\n  no rows"))
    (folder(tmp_path, runs[1]) / "checkpoints").mkdir(parents=True)
    (next(families(tmp_path, runs[1])[0].iterdir()) / "checkpoints/last.ckpt").touch()
    (write(folder(tmp_path, runs[2]), record())).write_text('{"status')
    complete(tmp_path, runs[3], 0.5)
    assert [progress(tmp_path, run).state for run in runs] == [
        "failed",
        "interrupted",
        "unreadable",
        "completed",
    ]
    assert due(runs, looking(tmp_path)) == runs[:3]


def hold(family: Path, held: Event, done: Event) -> None:
    with only_one(family):
        held.set()
        done.wait(20)


def test_what_another_process_runs_is_not_started_and_not_waited_for(tmp_path: Path) -> None:
    run = Run(("task=glue/rte", "method=lora"), 1)
    family = folder(tmp_path, run).parent
    context = multiprocessing.get_context("fork")
    held, done = context.Event(), context.Event()
    other = context.Process(target=hold, args=(family, held, done))
    other.start()
    try:
        assert held.wait(20)
        assert progress(tmp_path, run).state == "running"
        assert due([run], looking(tmp_path)) == []
        with pytest.raises(BusyError, match="another process"), only_one(family):
            pass
    finally:
        done.set()
        other.join()
    assert not in_use(family)
    assert due([run], looking(tmp_path)) == [run]


def test_an_arm_is_reported_with_its_best_trial_once_all_are_there(tmp_path: Path, study: Experiment) -> None:
    planned = cells(study)
    tuning = known(study, planned, tmp_path)
    assert [run.seed for run in tuning] == [9] * 4
    lora = [run for run in tuning if "method=lora" in run.overrides]
    complete(tmp_path, lora[0], 0.4)
    assert reported(study, planned, looking(tmp_path)) == []
    complete(tmp_path, lora[1], 0.6)
    assert chosen(planned, [9], looking(tmp_path)) == {("LoRA", "RTE"): lora[1].overrides}
    final = [run for run in known(study, planned, tmp_path) if run.seed != 9]
    assert final == [Run(lora[1].overrides, 1), Run(lora[1].overrides, 2)]


def test_a_sweep_goes_by_stages_and_starts_nothing_twice(tmp_path: Path, study: Experiment) -> None:
    sweep = Sweep(study, cells(study), tmp_path)
    first = sweep.jobs()
    assert len(first) == 4
    assert all(job[-1] == "resume=true" for job in first)
    for value, job in enumerate(first):
        complete(tmp_path, Run(tuple(job[:-2]), 9), value / 10)
    second = sweep.jobs()
    assert {job[-2] for job in second} == {"seed=1", "seed=2"}
    assert len(second) == 4
    assert sweep.jobs() == []


def test_the_report_has_every_figure_the_claim_and_what_went_wrong(tmp_path: Path, study: Experiment) -> None:
    planned = cells(study)
    for value, run in enumerate(known(study, planned, tmp_path)):
        complete(tmp_path, run, value / 10)
    final = [run for run in known(study, planned, tmp_path) if run.seed != 9]
    for run in final:
        gain = 0.2 if "method=hebira" in run.overrides else 0.0
        complete(tmp_path, run, 0.5 + run.seed / 100 + gain)
    (broken,) = families(tmp_path, final[0])[0].iterdir()
    (broken / "results.json").write_text("{")
    text = as_text(document(find(study, planned, tmp_path, stage="last")), 300)
    assert "unreadable" in text
    assert str(broken) in text
    assert "HeBiRA beats LoRA, on RTE (accuracy): cannot be told with n = 1 seeds" in text
    assert "python train.py -m" in text
    complete(tmp_path, final[0], 0.51)
    text = as_text(document(find(study, planned, tmp_path, stage="last")), 300)
    assert "51.5 ± 0.71 (2)" in text
    assert "HeBiRA beats LoRA, on RTE (accuracy): cannot be told with n = 2 seeds (+20" in text


def test_arms_that_differ_in_more_are_compared_only_if_the_study_says_why(
    tmp_path: Path, study: Experiment
) -> None:
    planned = cells(study)
    total = {"initial": 96, "final": 90, "mean": 96.0}
    for value, run in enumerate(known(study, planned, tmp_path)):
        complete(tmp_path, run, value / 10)
    for run in [r for r in known(study, planned, tmp_path) if r.seed != 9]:
        more = {"rank__total": total} if "method=hebira" in run.overrides else {}
        complete(tmp_path, run, 0.5 + run.seed / 100, **more)
    found = find(study, planned, tmp_path)
    assert "not compared: budget at the end 90 and 96 directions" in as_text(document(found), 300)
    assert "Despite budget at the end 90 and 96" in as_text(document(found, despite=["budget"]), 300)
