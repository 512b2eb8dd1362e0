"""What people get wrong: one clear error for each, and nothing lost or half-written."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rankadapt.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    ModelError,
    RankAdaptError,
    TrainingError,
)
from rankadapt.runs.run import run
from rankadapt.training.checkpoint import read_checkpoint
from rankadapt.training.module import FineTuner
from rankadapt.training.stopping import StopRequests
from rankadapt.training.validation import parse
from tests.commands import started
from tests.composed import SMALL, composed, run_small

torch.set_num_threads(1)


def command_line(folder: Path, *arguments: str) -> str:
    """The error of a command line that cannot be run; nothing of it is left."""
    code, output = started(folder / "output", f"paths.output={folder / 'runs'}", *arguments).wait()
    assert code == 2, output
    assert "Traceback" not in output
    assert output.count("cannot be used:") == 1
    assert not [*(folder / "runs").rglob("results.json"), *(folder / "runs").rglob("*.ckpt")]
    return " ".join(output.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (
            "method=lorra",
            ["method = 'lorra': there is no such choice", "method=lora?", "choices: adalora, adapterdrop"],
        ),
        ("task=glue/rtee", ["task = 'glue/rtee'", "did you mean task=glue/rte?", "glue/wnli"]),
        ("task=imdb", ["task = 'imdb'", "demo/entailment, glue/cola"]),
        ("rank=four", ["rank = 'four': is not a known key", "did you mean budget.rank?"]),
        ("budget.rnak=4", ["budget.rnak = '4': is not a known key", "did you mean budget.rank?"]),
        ("trainer.zzz=1", ["trainer.zzz", "known keys: trainer.max_steps, trainer.max_epochs"]),
        ("+learning_rate=1", ["learning_rate: is not a known key", "known keys: adapter"]),
        ("+rank=4", ["rank: is not a known key", "did you mean budget.rank?"]),
        ("budget.rank=four", ["budget.rank = 'four': input should be a valid integer"]),
        ("optimizer.lr=${nowhere}", ["Interpolation key 'nowhere' not found"]),
        ("trainer.max_steps", ["command line: Error parsing override 'trainer.max_steps'", "missing EQUAL"]),
    ],
)
def test_the_command_line_names_what_is_wrong(argument: str, expected: list[str], tmp_path: Path) -> None:
    output = command_line(tmp_path, argument)
    for part in expected:
        assert part in output


@pytest.mark.slow
@pytest.mark.parametrize("sweep", [[], ["-m", "seed=1,2"]], ids=["run", "sweep"])
def test_an_output_folder_that_cannot_be_written(sweep: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    output = command_line(tmp_path, f"paths.output={tmp_path / 'file/below'}", *reversed(sweep))
    assert f"paths.output = '{tmp_path / 'file/below'}': cannot be written to" in output
    assert (tmp_path / "file").read_text() == "mine"


def problems(error: RankAdaptError) -> dict[str, str]:
    """Path -> value, reason and remedy of everything that an error reports."""
    return {p.path: f"{p.value!r}: {p.reason} -> {p.remedy}" for p in error.problems}


@pytest.mark.parametrize(
    ("overrides", "path", "expected"),
    [
        (["scorer.beta=2"], "scorer.beta", "less than"),
        (["policy.aggregator=median"], "policy.aggregator", "'min' or 'mean'"),
        (["+policy.kk=3"], "policy.kk", "not a known key -> did you mean policy.k?"),
        (["form.std=broad"], "form.std", "'broad': input should be a valid number"),
        (["scorer._target_=rankadapt.scorers.Hebb"], "scorer._target_", "cannot be imported"),
        (["scorer._target_=no.such.Thing"], "scorer._target_", "cannot be imported (No module named 'no')"),
        (["scorer._target_=Hebbian"], "scorer._target_", "cannot be imported"),
        (["policy._target_=rankadapt.adapters.BA"], "policy._target_", "not a dataclass derived from Policy"),
        (["policy._target_=os.getcwd"], "policy._target_", "not a dataclass derived from Policy"),
        (["policy._target_=rankadapt.policies.Policy"], "policy._target_", "not a dataclass derived"),
        (["trainer.max_time=1h"], "trainer.max_time", "'1h': "),
        (["budget.max_rank=4"], "budget.rank", "between budget.min_rank = 1 and budget.max_rank = 4"),
        (["budget.min_rank=9"], "budget.rank", "between budget.min_rank = 9"),
        (["scorer=none"], "scorer", "policy Bidirectional moves ranks and needs one -> choose one"),
        (["schedule=none"], "schedule", "policy Bidirectional moves ranks and needs one"),
        (["trainer.max_steps=null"], "trainer.max_steps", "neither max_steps nor max_epochs"),
        (["trainer.accumulate_grad_batches=64"], "task.batch_size", "cannot be cut into 64 micro-batches"),
        (["task.primary=f1"], "task", "is not among metrics"),
        (["task.batch_size=0"], "task.batch_size", "greater than 0"),
        (["logger.name=mlflow"], "logger.name", "'mlflow': "),
        (["seed=one"], "seed", "'one': input should be a valid integer"),
        (["model.targets=query"], "model.targets", "valid list"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be(overrides: list[str], path: str, expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse(composed(*overrides))
    assert list(problems(raised.value)) == [path]
    assert expected in problems(raised.value)[path]


def test_all_problems_are_reported_at_once() -> None:
    wrong = ["budget.rank=four", "optimizer.lr=-1", "+policy.kk=3", "scorer.beta=2", "+nothing=1"]
    with pytest.raises(ConfigError) as raised:
        parse(composed(*wrong))
    found = problems(raised.value)
    assert sorted(found) == ["budget.rank", "nothing", "optimizer.lr", "policy.kk", "scorer.beta"]
    assert "-1" in found["optimizer.lr"]
    assert str(raised.value).count("\n  - ") == 5


@pytest.mark.parametrize(
    ("overrides", "path", "expected"),
    [
        (["schedule.t_i=8", "schedule.t_f=5"], "schedule", "t_i + t_f = 13 leaves no step of 12"),
        (["schedule.delta_t=9"], "schedule.delta_t", "choose schedule.delta_t <= 8"),
        (["policy.k=96"], "policy.k", "96: moves as many directions per event as there are (96)"),
        (["policy=prune_only", "policy.k=30"], "budget", "ends with -24 directions, below 12"),
        (
            ["policy=expand_only", "policy.k=30", "budget.match=final"],
            "budget",
            "starts with -24 directions, below 12",
        ),
    ],
)
def test_sums_that_do_not_work_out(overrides: list[str], path: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        run_small(tmp_path, "hebira", *overrides)
    assert list(problems(raised.value)) == [path]
    assert expected in problems(raised.value)[path]
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["status"] == "failed"
    assert record["error"] == str(raised.value)
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


RTE = {"sentence1": ["a man eats"] * 9, "sentence2": ["he eats"] * 9, "idx": list(range(9))}


def mirror(folder: Path, **train: Any) -> Path:
    """A mirror of GLUE's RTE with nine examples in each split."""
    files = folder / "datasets/nyu-mll/glue/rte"
    files.mkdir(parents=True)
    for split, changes in (("train", train), ("validation", {})):
        columns = {**RTE, "label": [0, 1, 1] * 3, **changes}
        pq.write_table(pa.table(columns), files / f"{split}-00000-of-00001.parquet")
    return files / "train-00000-of-00001.parquet"


def on_rte(folder: Path, *overrides: str) -> dict[str, Any]:
    """Four steps on the mirror in ``folder``."""
    own = [o for o in SMALL if not o.startswith("task")]
    everything = [
        "method=lora",
        *own,
        "task=glue/rte",
        "model=tiny_bert",
        f"paths.mirror={folder}",
        *overrides,
    ]
    config = parse(composed(*everything, "trainer.max_steps=4", "task.batch_size=4", "logger=none"))
    return run(config, folder / "run", {})


def test_the_mirror_of_these_tests_is_sound(tmp_path: Path) -> None:
    mirror(tmp_path)
    assert on_rte(tmp_path)["status"] == "completed"


@pytest.mark.parametrize("damage", ["missing", "truncated", "label", "text"])
def test_data_that_cannot_be_read(damage: str, tmp_path: Path) -> None:
    bad: dict[str, Any] = {"label": {"label": [0, 1, 7] * 3}, "text": {"sentence2": [None, *["he"] * 8]}}
    file = mirror(tmp_path, **bad.get(damage, {}))
    if damage == "missing":
        file.unlink()
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(DataError) as raised:
        on_rte(tmp_path)
    (path, reason), *rest = problems(raised.value).items()
    assert not rest
    where = {
        "missing": (str(file.parent / "train-*.parquet"), "validation-00000-of-00001.parquet"),
        "truncated": (str(file), "is not a whole parquet file"),
        "label": (f"{file}, row 2, column label", "7: classes are 0 to 1"),
        "text": (f"{file}, row 0, column sentence2", "is not a text"),
    }[damage]
    assert path == where[0]
    assert where[1] in reason
    assert json.loads((tmp_path / "run/results.json").read_text())["error"] == str(raised.value)


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError) as raised:
        run_small(tmp_path / "file/below", "lora")
    assert "cannot be written to" in problems(raised.value)["paths.output"]
    assert (tmp_path / "file").read_text() == "mine"


def interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> Path:
    """A run that was stopped after step 5; returns its checkpoint."""
    taken = iter(range(1, 100))
    with monkeypatch.context() as patched:
        patched.setattr(StopRequests, "asked", lambda self: "a test" if next(taken) == 5 else None)
        assert run_small(folder, "hebira", *overrides)["status"] == "interrupted"
    return folder / "checkpoints/last.ckpt"


def test_a_checkpoint_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = interrupted(tmp_path, monkeypatch)
    cut = checkpoint.read_bytes()[:-1000]
    checkpoint.write_bytes(cut)
    with pytest.raises(CheckpointError) as raised:
        run_small(tmp_path, "hebira", "resume=true")
    assert list(problems(raised.value)) == [str(checkpoint)]
    assert "is damaged or cut short" in problems(raised.value)[str(checkpoint)]
    assert "without resume=true" in problems(raised.value)[str(checkpoint)]
    assert checkpoint.read_bytes() == cut
    assert (tmp_path / "metrics.csv").exists()


def test_a_checkpoint_of_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = interrupted(tmp_path, monkeypatch)
    before = checkpoint.read_bytes(), (tmp_path / "metrics.csv").read_bytes()
    with pytest.raises(CheckpointError) as raised:
        run_small(tmp_path, "hebira", "resume=true", "model=tiny_deberta", "seed=2", "policy=prune_only")
    found = problems(raised.value)
    assert "this run has 2" in found["last.ckpt: seed"]
    assert "'Bidirectional': this run has 'PruneOnly'" in found["last.ckpt: policy"]
    assert (checkpoint.read_bytes(), (tmp_path / "metrics.csv").read_bytes()) == before
    assert run_small(tmp_path, "hebira", "resume=true")["status"] == "completed"


def test_a_checkpoint_of_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two random models with the same tokenizer are told apart."""
    interrupted(tmp_path, monkeypatch)
    with pytest.raises(CheckpointError):
        run_small(tmp_path, "hebira", "resume=true", "model=tiny_deberta")


def test_a_loss_that_overflows_names_the_step(tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as raised:
        run_small(tmp_path, "lora", "optimizer.lr=1e30", "trainer.log_every_n_steps=1")
    found = problems(raised.value)
    assert list(found) == ["step 2"]
    assert "loss is not finite -> lower optimizer.lr" in found["step 2"]
    record = json.loads((tmp_path / "results.json").read_text())
    assert (record["status"], record["error"]) == ("failed", str(raised.value))
    assert not (tmp_path / "checkpoints").exists()
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_numbers_that_overflow_keep_the_last_good_checkpoint(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At step 7, with a checkpoint after every step: that of step 6 stays, and a run can go on from it."""
    with monkeypatch.context() as patched:
        original = FineTuner.training_step

        def overflowing(self: FineTuner, batch: Any, batch_idx: int) -> torch.Tensor:
            loss = original(self, batch, batch_idx)
            if self.global_step != 6:
                return loss
            if what == "loss":
                self.bad_step.fill_(7)
                return loss * float("nan")
            loss.register_hook(lambda gradient: gradient * float("inf"))
            return loss

        patched.setattr(FineTuner, "training_step", overflowing)
        with pytest.raises(TrainingError) as raised:
            run_small(tmp_path, "lora", "checkpoint.every_n_steps=1")
    assert list(problems(raised.value)) == ["step 7"]
    checkpoint = read_checkpoint(tmp_path / "checkpoints/last.ckpt")
    assert checkpoint["global_step"] == 6
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())
    assert run_small(tmp_path, "lora", "checkpoint.every_n_steps=1", "resume=true")["status"] == "completed"


def test_missing_weights_stop_at_once_and_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # as by the environment at import
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RANKADAPT_MIRROR", raising=False)
    began = time.monotonic()
    with pytest.raises(ModelError) as raised:
        on_rte(tmp_path, "model=deberta_v3_base", "paths.mirror=null")
    assert time.monotonic() - began < 10
    (found,) = problems(raised.value).items()
    assert found[0] == "model"
    for part in ("'microsoft/deberta-v3-base'", "three ways on", "paths.mirror=", "model=minilm", "HF_TOKEN"):
        assert part in found[1]
    assert json.loads((tmp_path / "run/results.json").read_text())["error"] == str(raised.value)
