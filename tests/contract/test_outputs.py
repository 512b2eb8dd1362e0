"""What a run leaves in its directory."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.image
import pandas as pd
import pytest
import torch

from rankadapt.errors import ConfigError
from rankadapt.runs.dry_run import dry_run
from rankadapt.runs.run import run
from rankadapt.training.stopping import StopRequests
from rankadapt.training.validation import parse
from tests.composed import SMALL, composed, run_small, small

torch.set_num_threads(1)

KEYS = {
    "schema",
    "status",
    "method",
    "task",
    "model",
    "seed",
    "config",
    "error",
    "finished",
    "steps",
    "metrics",
}
KEYS |= {"trainable_parameters", "rank", "cost", "data", "provenance"}
MODULES = 12  # of tiny_bert: 2 blocks of 6 linear layers


def strict(path: Path) -> dict[str, Any]:
    """Read JSON without NaN and Infinity, which are none of it."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.fixture(scope="module", params=["hebira", "lora"])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a complete run, evaluated before training too."""
    directory = tmp_path_factory.mktemp(request.param)
    run_small(directory, request.param, "evaluation.at_start=true", "trainer.log_every_n_steps=2", drawn=True)
    return directory


def test_results(finished: Path) -> None:
    found = strict(finished / "results.json")
    assert set(found) == KEYS
    assert (found["schema"], found["status"], found["error"], found["seed"]) == (1, "completed", None, 1)
    assert (found["task"], found["model"]) == ("demo/entailment", "tiny_bert")
    assert found["steps"] == {"taken": 12, "planned": 12}
    assert found["data"]["train_examples"] == 120
    assert found["data"]["evaluation_examples"] == {"validation": 40}
    assert found["data"]["truncated"] == {"train": 0, "validation": 0}
    assert found["finished"]["wall_seconds"] > 0


def test_metrics_before_best_and_last_are_apart(finished: Path) -> None:
    metrics = strict(finished / "results.json")["metrics"]
    assert set(metrics) == {"primary", "before", "best", "last", "history"}
    assert metrics["primary"] == "accuracy"
    assert [entry["step"] for entry in metrics["history"]] == [0, 4, 8, 12]
    assert metrics["before"] == metrics["history"][0]
    assert metrics["last"] == metrics["history"][-1]
    trained = metrics["history"][1:]
    assert metrics["best"] == max(trained, key=lambda entry: entry["accuracy"])
    assert all(0 <= entry["accuracy"] <= 1 for entry in metrics["history"])


def test_parameters_of_the_budget_and_of_the_head_are_apart(finished: Path) -> None:
    found = strict(finished / "results.json")
    counts, core = found["trainable_parameters"], found["method"] == "hebira"
    shapes = {"intermediate": (32, 64), "output": (64, 32)}
    per_rank = {n: sum(shapes.get(n.split(".")[4], (32, 32))) + core for n in found["rank"]["modules"]}
    finals = {name: module["final"] for name, module in found["rank"]["modules"].items()}
    assert counts["budget"] == sum(finals[name] * size for name, size in per_rank.items())
    assert counts["allocated"] == found["rank"]["slots"] * sum(per_rank.values())
    assert counts["head"] == (32 * 32 + 32) + (32 * 2 + 2)  # pooler, classifier


def test_ranks_agree_with_their_course(finished: Path) -> None:
    found = strict(finished / "results.json")
    rank, frame = found["rank"], pd.read_parquet(finished / "ranks.parquet")
    assert list(frame.columns) == ["step", "module", "rank", "score_min", "score_mean", "born", "pruned"]
    events = [4, 6, 8, 10] if found["method"] == "hebira" else []
    steps = [0, *events, 12]
    assert len(frame) == len(steps) * MODULES
    assert sorted(frame.step.unique()) == steps
    assert set(rank["modules"]) == set(frame.module)
    assert rank["slots"] >= frame["rank"].max()
    for name, module in rank["modules"].items():
        course = frame[frame.module == name].set_index("step")["rank"]
        assert (module["initial"], module["final"]) == (course[0], course[12])
        lasting = pairwise(steps)
        assert module["mean"] == pytest.approx(sum(course[a] * (b - a) for a, b in lasting) / 12)
    assert rank["total"] == {"initial": 8 * MODULES, "final": 8 * MODULES, "mean": 8 * MODULES}
    at_event = frame[frame.step.isin(events)]
    assert at_event.score_min.le(at_event.score_mean).all()
    assert frame[~frame.step.isin(events)][["score_min", "score_mean"]].isna().all(axis=None)


def test_births_and_prunings_account_for_every_rank(finished: Path) -> None:
    frame = pd.read_parquet(finished / "ranks.parquet")
    wide = {
        c: frame.pivot_table(index="step", columns="module", values=c) for c in ("rank", "born", "pruned")
    }
    moved = wide["rank"].diff().iloc[1:]
    assert (moved == (wide["born"] - wide["pruned"]).iloc[1:]).all(axis=None)
    per_event = frame.groupby("step")[["born", "pruned"]].sum().iloc[1:-1]
    assert (per_event == 3).all(axis=None)  # policy.k


def test_cost(finished: Path) -> None:
    cost = strict(finished / "results.json")["cost"]
    assert set(cost) == {"train_seconds", "median_step_ms", "examples_per_second", "peak_memory"}
    assert cost["train_seconds"] > 0
    assert cost["median_step_ms"] * 6 / 1e3 <= cost["train_seconds"]  # half of twelve steps take as long
    assert cost["examples_per_second"] == pytest.approx(12 * 8 / cost["train_seconds"], rel=0.1)
    assert 50e6 < cost["peak_memory"]["host_bytes"] < 100e9
    assert cost["peak_memory"]["device_bytes"] is None or torch.cuda.is_available()


def test_provenance(finished: Path) -> None:
    found = strict(finished / "results.json")["provenance"]
    assert set(found) == {"git", "versions", "hardware", "data"}
    assert found["git"] is None or re.fullmatch("[0-9a-f]{40}", found["git"]["commit"])
    assert found["git"] is None or isinstance(found["git"]["dirty"], bool)
    assert torch.__version__.startswith(found["versions"]["torch"].split("+")[0])
    assert {"rankadapt", "python", "torch", "transformers", "pytorch-lightning"} <= set(found["versions"])
    assert found["hardware"]["cpus"] >= 1
    assert all(re.fullmatch("[0-9a-f]{16}", found["data"][split]) for split in ("train", "validation"))
    assert found["data"]["train"] != found["data"]["validation"]


def test_the_picture_of_the_ranks(finished: Path) -> None:
    assert (finished / "ranks.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    pixels = matplotlib.image.imread(finished / "ranks.png")
    assert min(pixels.shape[:2]) > 500
    assert pixels.std() > 0.05


def test_metrics_csv(finished: Path) -> None:
    frame = pd.read_csv(finished / "metrics.csv")
    assert list(frame.columns) == ["step", "metric", "value"]
    found = strict(finished / "results.json")
    history = frame[frame.metric == "eval/accuracy"]
    assert list(history.step) == [0, 4, 8, 12]
    logged = [entry["accuracy"] for entry in found["metrics"]["history"]]
    assert list(history.value) == pytest.approx(logged)
    assert list(frame[frame.metric == "train/loss"].step) == [2, 4, 6, 8, 10, 12]
    assert frame[frame.metric == "train/lr"].value.is_monotonic_decreasing
    ranks = frame[frame.metric.str.startswith("rank/")]
    if found["method"] == "hebira":
        assert {f"rank/{name}" for name in found["rank"]["modules"]} <= set(ranks.metric)
    assert not frame.duplicated(["step", "metric"]).any()


def test_the_configuration_is_in_the_results(tmp_path: Path) -> None:
    resolved = composed("method=lora", *SMALL, "trainer.max_steps=1", "seed=7", "logger=none")
    run(parse(resolved), tmp_path, resolved)
    assert strict(tmp_path / "results.json")["config"] == resolved
    assert resolved["seed"] == 7
    assert not (tmp_path / "metrics.csv").exists()  # logger=none


def test_the_seed_decides_the_run(tmp_path: Path) -> None:
    options = ["trainer.max_steps=4", "logger=csv", "trainer.log_every_n_steps=1"]
    frames = []
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        run_small(tmp_path / name, "lora", *options, f"seed={seed}")
        frames.append(pd.read_csv(tmp_path / name / "metrics.csv"))
    assert frames[0].equals(frames[1])
    assert not frames[0].equals(frames[2])


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    taken = iter(range(1, 10_000))
    monkeypatch.setattr(StopRequests, "asked", lambda self: "a test" if next(taken) == step else None)


def test_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_small(tmp_path, "hebira", "logger=tensorboard", "trainer.log_every_n_steps=4", drawn=True)
    events = next(tmp_path.rglob("events.out.tfevents*"))
    log = EventAccumulator(str(events.parent))
    log.Reload()
    assert [e.step for e in log.Scalars("eval/accuracy")] == [4, 8, 12]
    assert [e.step for e in log.Scalars("train/loss")] == [4, 8, 12]
    assert log.Tags()["images"] == ["ranks"]
    assert (tmp_path / "metrics.csv").exists()


@pytest.mark.slow
def test_wandb_offline_needs_no_account_and_resumes_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("HOME", str(tmp_path))  # no login of anyone's
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    directory = tmp_path / "tiny-seed1" / "20260101-000000"
    with monkeypatch.context() as patched:
        stop_after(patched, 5)
        run_small(directory, "hebira", "logger=wandb")
    assert wandb.run is None, "the run is finished: the next job of a sweep gets its own"
    (first,) = directory.rglob("run-*.wandb")
    assert run_small(directory, "hebira", "logger=wandb", "resume=true")["status"] == "completed"
    assert wandb.run is None
    files = list(directory.rglob("run-*.wandb"))
    assert len(files) == 2
    assert {file.name for file in files} == {first.name} == {"run-tiny-seed1-20260101-000000.wandb"}
    other = tmp_path / "tiny-seed2" / "20260101-000000"
    run_small(other, "lora", "logger=wandb", "trainer.max_steps=2")
    assert [file.name for file in other.rglob("run-*.wandb")] == ["run-tiny-seed2-20260101-000000.wandb"]


@pytest.mark.parametrize(("kind", "package"), [("wandb", "wandb"), ("tensorboard", "tensorboard")])
def test_a_logger_that_is_not_installed(
    kind: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rankadapt.runs.trainer.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=f"(?s)logger.name = '{kind}'.*pip install 'rankadapt\\[{package}\\]'"
    ):
        run_small(tmp_path, "lora", f"logger={kind}")


def test_dry_run_prints_the_plan_and_keeps_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    dry_run(small("hebira"), tmp_path)
    printed = capsys.readouterr().out
    assert "12 adapted modules" in printed
    assert "bert.encoder.layer.1.intermediate.dense" in printed
    assert "64 x 32" in printed
    for row, value in {
        "examples": "120 for training",
        "steps": "12, 15 per epoch",
        "rank events": "4: after steps 4, 6, 8, 10",
        "budget": "96 directions, 12 slots per module",
        "trainable": r"7,264 in directions, 1,122 in the head",
        "memory": r"\d+ MiB for weights, gradients and optimizer",
    }.items():
        assert re.search(rf"{row} +│ {value}", printed), printed
    assert re.search(r"one real step: 0\.\d+ s, peak memory \d{2,} MiB", printed)
    assert list(tmp_path.iterdir()) == []


def test_a_defect_is_recorded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("rankadapt.training.scoreboard.Scoreboard.add", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        run_small(tmp_path, "hebira")
    found = strict(tmp_path / "results.json")
    assert (found["status"], found["error"]) == ("failed", "RuntimeError('a defect')")
    assert found["steps"]["taken"] == 4
    assert found["rank"]["total"]["final"] == 8 * MODULES
    assert not (tmp_path / "adapter").exists()
