"""Extractive QA from a folder of parquet files to results.json, on tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from rankadapt.runs.run import run
from rankadapt.runs.session import build_session
from rankadapt.training.config import RunConfig
from rankadapt.training.validation import parse
from tests.composed import composed

CITIES = ["Paris", "London", "Rome", "Berlin", "Madrid", "Vienna"]
REPOSITORY = {"squad/v1": "squad/plain_text", "squad/v2": "squad_v2/squad_v2"}
TINY = [
    "task.max_length=40",
    "task.doc_stride=8",
    "task.batch_size=4",
    "trainer.max_steps=6",
    "trainer.accelerator=cpu",
    "trainer.progress_bar=false",
    "optimizer.lr=0.005",
    "optimizer.warmup_steps=0",
    "schedule.t_i=1",
    "schedule.delta_t=1",
    "schedule.t_f=2",
    "policy.k=3",
    "form.std=0.2",
]


def rows(unanswerable: bool) -> list[dict[str, Any]]:
    """Questions on texts of one to three windows; every third of v2 has no answer."""
    found = []
    for i in range(12):
        city = CITIES[i % len(CITIES)]
        context = (
            f"{'It rained for days. ' * (1 + i % 5)}Then she moved to {city}, where it was warm and dry."
        )
        answers = {"text": [city], "answer_start": [context.index(city)]}
        if unanswerable and i % 3 == 0:
            answers = {"text": [], "answer_start": []}
        found.append({"question": "Where did she move to?", "context": context, "answers": answers})
    return found


def configured(folder: Path, task: str, model: str, *more: str) -> RunConfig:
    for split in ("train", "validation"):
        file = folder / "datasets/rajpurkar" / REPOSITORY[task] / f"{split}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows(task == "squad/v2")), file)
    places = [f"paths.mirror={folder}", f"paths.cache={folder / 'cache'}"]
    return parse(composed("method=hebira", f"task={task}", f"model={model}", *TINY, *places, *more))


@pytest.mark.parametrize(("task", "model"), [("squad/v1", "tiny_deberta"), ("squad/v2", "tiny_bert")])
def test_trains_moves_ranks_and_is_scored(task: str, model: str, tmp_path: Path) -> None:
    pixel = lambda frame, path, title: Image.new("L", (1, 1)).save(path)  # noqa: E731
    with mock.patch("rankadapt.runs.run.plot_ranks", pixel):
        results = run(configured(tmp_path, task, model), tmp_path / "out", {})
    assert results["status"] == "completed"
    scores = results["metrics"]["last"]
    assert {"exact_match", "f1"} <= scores.keys()
    assert {"has_answer/f1", "no_answer/f1", "best_f1"} <= scores.keys() or task == "squad/v1"
    assert 0 <= scores["f1"] <= 100
    assert results["trainable_parameters"]["head"] == 32 * 2 + 2
    assert any(m["initial"] != m["final"] for m in results["rank"]["modules"].values())


def predicted(config: RunConfig) -> tuple[dict[str, float], int]:
    session = build_session(config)
    task, module, predictions = config.task, session.module.eval(), {}
    with torch.no_grad():
        for batch in session.evaluation[0]:
            found = task.predict(module.model, batch, module.processor)
            predictions |= dict(zip(batch["index"].tolist(), found, strict=True))
    evaluation = session.data.evaluation["validation"]
    return evaluation.score(predictions), len(evaluation)


def test_scores_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    def of(size: int, *more: str) -> tuple[dict[str, float], int]:
        return predicted(configured(tmp_path, "squad/v2", "tiny_bert", f"task.eval_batch_size={size}", *more))

    (one, size), (eight, _) = of(1), of(8)
    assert size == 12
    assert one == pytest.approx(eight, abs=1e-4)
    assert of(8, "task.max_eval_examples=5")[1] == 5
