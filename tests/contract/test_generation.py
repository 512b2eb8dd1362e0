"""Tasks whose answers are generated, from rows to records, on tiny models; and the switches of large ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rankadapt.adapters.collection import adapted_layers
from rankadapt.errors import ModelError
from rankadapt.runs.run import run
from rankadapt.runs.session import Session, build_session
from rankadapt.tasks.math import Mathematics
from rankadapt.training.config import RunConfig
from rankadapt.training.validation import parse
from tests.composed import composed
from tests.contract.test_resume import stop_after

torch.set_num_threads(1)

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
GSM8K = [
    {"question": f"How much is {a} and {b}?", "answer": f"{a} + {b} = {a + b}\n#### {a + b}"}
    for a in range(4)
    for b in range(4)
]
XSUM = [
    {"document": " ".join(WORDS[i % 7 :]) + ".", "summary": f"{WORDS[i % 7]} is first.", "id": str(i)}
    for i in range(16)
]
CNN = [{"article": row["document"], "highlights": row["summary"], "id": row["id"]} for row in XSUM]
BOOLQ = [
    {
        "instruction": f"Is {WORDS[i % 10]} a number?",
        "input": "",
        "output": "the correct answer is true",
        "answer": "true",
    }
    for i in range(16)
]
MBPP = [
    {
        "task_id": i,
        "text": f"Write a function that adds {i}.",
        "code": f"def add(x):\r\n    return x + {i}",
        "test_list": [f"assert add(1) == {i + 1}"],
        "test_setup_code": "",
        "challenge_test_list": [],
    }
    for i in range(16)
]
FAMILIES: dict[str, tuple[str, str, list[dict[str, Any]], str, str]] = {
    "math/gsm8k": ("openai/gsm8k", "main", GSM8K, "tiny_llama", "accuracy"),
    "summarization/xsum": ("EdinburghNLP/xsum", "default", XSUM, "tiny_bart", "rouge2"),
    "summarization/cnn_dailymail": ("abisee/cnn_dailymail", "3.0.0", CNN, "tiny_t5", "rouge2"),
    "commonsense/boolq": ("llm-adapters/commonsense", "boolq", BOOLQ, "tiny_llama", "accuracy"),
    "code/mbpp": ("google-research-datasets/mbpp", "full", MBPP, "tiny_llama", "parses"),
}
"""Task -> data set, configuration, rows, model, metric."""

DROPOUT = {"tiny_bart": "dropout", "tiny_t5": "dropout_rate"}
"""Model -> what its configuration calls the dropout that it has unless told otherwise."""
ENDS = ("last", "best")
LINE = {"step", "example", "row", "prompt", "generated", "reference", "verdict"}
SCORES: dict[str, tuple[Callable[[dict[str, Any]], float], str]] = {
    "math/gsm8k": (lambda line: 100 * line["verdict"]["right"], "accuracy"),
    "summarization/xsum": (lambda line: line["verdict"]["rouge2"], "rouge2"),
    "summarization/cnn_dailymail": (lambda line: line["verdict"]["rouge2"], "rouge2"),
    "commonsense/boolq": (lambda line: 100 * line["verdict"]["right"], "accuracy"),
    "code/mbpp": (lambda line: 100 * line["verdict"]["parses"][0], "parses"),
}
"""Task -> the score of an example in percent, and the metric that is its mean."""

QUICK = {
    "trainer": {"max_steps": 4, "max_epochs": None, "accelerator": "cpu", "progress_bar": False}
    | {"precision": "32-true", "gradient_checkpointing": False},
    "optimizer": {"lr": 0.01, "warmup_steps": 0, "warmup_ratio": 0.0},
    "evaluation": {"every_n_steps": None, "at_start": True},
    "schedule": {"t_i": 1, "delta_t": 1, "t_f": 1},
    "adapter": {"dropout": 0.0},
    "logger": {"name": "none"},
}


def config(folder: Path, name: str, method: str = "hebira", **changes: dict[str, Any]) -> RunConfig:
    dataset, part, rows, model, _ = FAMILIES[name]
    for split in ("train", "validation", "test"):
        file = folder / "mirror/datasets" / dataset / part / f"{split}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), file)
    cfg = composed(f"method={method}", f"task={name}", f"model={model}", "budget=r4")
    cfg["paths"] |= {"mirror": str(folder / "mirror"), "cache": str(folder / "cache")}
    cfg["task"] |= {"batch_size": 8, "eval_batch_size": 4, "max_eval_examples": 5, "max_length": 128}
    cfg["task"]["decoding"] |= {"max_new_tokens": 6}
    if model in DROPOUT:
        cfg["model"]["config"][DROPOUT[model]] = 0.0
    for section, values in [*QUICK.items(), *changes.items()]:
        for key, value in values.items():
            if key in cfg[section] or section == "model":
                cfg[section][key] = value
    return parse(cfg)


@pytest.mark.parametrize("task", FAMILIES)
def test_a_family_from_rows_to_records(task: str, tmp_path: Path) -> None:
    results = run(config(tmp_path, task), tmp_path / "run", {})
    metric = FAMILIES[task][-1]
    assert results["status"] == "completed"
    assert results["metrics"]["primary"].rpartition("/")[2] == metric
    assert 0 <= results["metrics"]["last"][results["metrics"]["primary"]] <= 100
    assert "pass@1" not in results["metrics"]["last"]
    assert results["data"]["train_examples"] == 16
    assert (tmp_path / "run/adapter").is_dir()
    check_generations(tmp_path / "run/generations", task, results)


def check_generations(folder: Path, task: str, results: dict[str, Any]) -> None:
    """One line per example, whose verdicts add up to the metrics."""
    sets = results["data"]["evaluation_examples"]
    assert {file.name for file in folder.iterdir()} == {f"{s}-{end}.jsonl" for s in sets for end in ENDS}
    for name, size in sets.items():
        lines = [json.loads(line) for line in (folder / f"{name}-last.jsonl").read_text().split("\n")[:-1]]
        assert [line["example"] for line in lines] == list(range(size))
        assert {line["step"] for line in lines} == {4}
        assert all(set(line) == LINE and len(line["generated"]) == 1 for line in lines)
        assert all(re.search(r"/(test|validation)-0.*parquet, row \d+$", line["row"]) for line in lines)
        score, metric = SCORES[task]
        wanted = results["metrics"]["last"][metric if len(sets) == 1 else f"{name}/{metric}"]
        assert sum(map(score, lines)) / size == pytest.approx(wanted)
        assert all(line["prompt"] and line["reference"] for line in lines)


def test_generations_of_the_best_evaluation_and_of_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluations after each of four steps, of which the second is best; stopped and resumed in between."""
    scores = iter([0.0, 10.0, 30.0, 20.0, 20.0])  # the first one is before the first step
    monkeypatch.setattr(Mathematics, "metrics", lambda *_: {"accuracy": next(scores)})
    often = {"evaluation": {"every_n_steps": 1, "at_start": True}}
    with monkeypatch.context() as patched:
        stop_after(patched, 3)
        stopped = run(config(tmp_path, "math/gsm8k", **often), tmp_path / "run", {})
    assert stopped["status"] == "interrupted"
    assert steps(tmp_path) == {"gsm8k-last.jsonl": {3}, "gsm8k-best.jsonl": {2}}
    resumed = replace(config(tmp_path, "math/gsm8k", **often), resume=True)
    assert run(resumed, tmp_path / "run", {})["status"] == "completed"
    assert steps(tmp_path) == {"gsm8k-last.jsonl": {4}, "gsm8k-best.jsonl": {2}}


def steps(folder: Path) -> dict[str, set[int]]:
    return {
        file.name: {json.loads(line)["step"] for line in file.open()}
        for file in (folder / "run/generations").iterdir()
    }


def test_peft_generates_too(tmp_path: Path) -> None:
    results = run(config(tmp_path, "math/gsm8k", "peft"), tmp_path / "run", {})
    assert results["status"] == "completed"


def test_large_models_switches_together(tmp_path: Path) -> None:
    """bfloat16, gradient checkpointing, packing, micro-batches: it trains, and answers with its cache."""
    switches = {"precision": "bf16-mixed", "gradient_checkpointing": True, "accumulate_grad_batches": 2}
    changed = {"trainer": switches, "task": {"packing": True, "pack_length": 256}}
    results = run(config(tmp_path, "math/gsm8k", **changed), tmp_path / "run", {})
    assert results["status"] == "completed"


def gradients(session: Session) -> dict[str, torch.Tensor]:
    """Those of the first global batch, with its loss as ``loss``."""
    task, found = session.config.task, torch.zeros(())
    session.module.train()
    for micro in range(session.share.accumulate):
        batch = session.train.micro_batch(micro)
        share, weight = batch.pop("share"), batch.pop("weight")
        losses = task.losses(session.module.model(**task.model_inputs(batch)), batch)
        loss = (losses * weight).sum() / weight.sum() * share / session.share.accumulate
        loss.backward()
        found = found + loss.detach()
    trained = {n: p.grad for n, p in session.module.named_parameters() if p.grad is not None}
    assert len(trained) >= len(dict(adapted_layers(session.module.model)))
    return {**trained, "loss": found}


@pytest.mark.parametrize(
    "changed",
    [
        {"trainer": {"gradient_checkpointing": True}},
        {"trainer": {"accumulate_grad_batches": 4}},
        {"task": {"packing": True, "pack_length": 200}},
        {
            "task": {"packing": True},
            "trainer": {"gradient_checkpointing": True, "accumulate_grad_batches": 2},
        },
        {"model": {"attention": "eager"}},
    ],
    ids=["checkpointing", "micro-batches", "packing", "together", "eager"],
)
def test_a_switch_changes_no_gradient(changed: dict[str, Any], tmp_path: Path) -> None:
    plain = gradients(build_session(config(tmp_path, "math/gsm8k")))
    other = gradients(build_session(config(tmp_path, "math/gsm8k", **changed)))
    assert plain.keys() == other.keys()
    for name, values in plain.items():
        torch.testing.assert_close(
            other[name], values, atol=1e-6, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_micro_batches_of_summaries_change_no_gradient(tmp_path: Path) -> None:
    plain = gradients(build_session(config(tmp_path, "summarization/xsum")))
    changed = {"trainer": {"accumulate_grad_batches": 8, "gradient_checkpointing": True}}
    other = gradients(build_session(config(tmp_path, "summarization/xsum", **changed)))
    for name, values in plain.items():
        torch.testing.assert_close(other[name], values, atol=1e-6, rtol=1e-4)


def test_an_attention_that_cannot_be_had_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model = 'tiny_llama': .*[Ff]lash"):
        build_session(config(tmp_path, "math/gsm8k", model={"attention": "flash_attention_2"}))
