"""Two gloo processes on images and on summaries: one set of predictions, metrics, ranks and files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from rankadapt.runs.session import build_session
from rankadapt.runs.trainer import build_host
from rankadapt.training.config import RunConfig
from rankadapt.training.gather import united
from tests.commands import forked
from tests.composed import DIGITS, small
from tests.contract.test_generation import config as summaries

torch.set_num_threads(1)

SIZES = {"tiny_vit": [41], "tiny_t5": [5, 5]}
"""Model -> examples of each evaluation set: odd, so that two processes have different shares."""


def configured(data: Path, model: str, processes: int) -> RunConfig:
    """Twelve steps of HeBiRA on digits (ViT) or summaries (T5), evaluated after the sixth and the last."""
    changes: dict[str, dict[str, Any]] = {
        "trainer": {"devices": processes, "strategy": "ddp" if processes > 1 else "auto", "max_steps": 12},
        "task": {"max_eval_examples": SIZES[model][0], "eval_batch_size": 4},
        "evaluation": {"every_n_steps": 6, "at_start": False},
        "form": {"std": 0.2},
    }
    if model == "tiny_vit":
        values = [
            f"{section}.{key}={value}" for section in changes for key, value in changes[section].items()
        ]
        return small("hebira", *values, on=DIGITS)
    changes["schedule"] = {"t_i": 2, "delta_t": 2, "t_f": 2}
    changes["policy"] = {"k": 3}
    return summaries(data, "summarization/cnn_dailymail", **changes)


def fit(directory: Path, model: str, processes: int, rank: int) -> dict[str, Any]:
    """Train as process ``rank``; returns what it ends with, and for each evaluation set of each
    evaluation the examples that it predicted itself and the predictions of all."""
    gathered: list[tuple[list[int], dict[int, Any]]] = []

    def noted(mine: Mapping[int, Any]) -> dict[int, Any]:
        everyone = united(mine)
        gathered.append((sorted(mine), everyone))
        return everyone

    session = build_session(configured(directory / f"data{rank}", model, processes))
    host = build_host(session, directory)
    with mock.patch("rankadapt.training.module.united", noted):
        host.trainer.fit(session.module, session.train, session.evaluation)
    ranks, board = session.adapters.ranks(), session.module.scoreboard.entries
    return {"ranks": ranks, "scoreboard": board, "gathered": gathered}


def fit_two(directory: Path, model: str) -> list[dict[str, Any]]:
    """What each of two processes ends with."""
    port = 30_000 + os.getpid() % 20_000
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    workers = [
        forked(one_of_two, directory, model, rank, **shared, RANK=str(rank), LOCAL_RANK=str(rank))
        for rank in range(2)
    ]
    for worker in workers:
        worker.join(timeout=120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    return [torch.load(directory / f"end{rank}.pt") for rank in range(2)]


def one_of_two(directory: Path, model: str, rank: int) -> None:
    """Process ``rank`` of two."""
    torch.save(fit(directory, model, 2, rank), directory / f"end{rank}.pt")


@pytest.mark.parametrize("model", SIZES)
def test_two_processes_predict_every_example_once_and_decide_alike(model: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    first, second = fit_two(tmp_path / "two", model)
    alone = fit(tmp_path / "one", model, 1, 0)
    assert first["ranks"] == second["ranks"] == alone["ranks"]
    assert len(set(first["ranks"])) > 1, "ranks moved"
    assert first["scoreboard"] == second["scoreboard"] == alone["scoreboard"]
    assert [entry["step"] for entry in first["scoreboard"]] == [6, 12]
    assert len(first["gathered"]) == 2 * len(SIZES[model])
    for number, (mine, everyone) in enumerate(first["gathered"]):
        theirs, same = second["gathered"][number]
        assert everyone == same == alone["gathered"][number][1]
        assert sorted([*mine, *theirs]) == list(range(SIZES[model][number % len(SIZES[model])]))
        assert abs(len(mine) - len(theirs)) == 1
    assert texts(tmp_path / "two") == texts(tmp_path / "one")
    assert bool(texts(tmp_path / "two")) == (model == "tiny_t5")


def texts(directory: Path) -> dict[str, list[dict[str, Any]]]:
    """All lines of ``generations/``, without the file that a row is in."""
    lines = {
        file.name: [json.loads(line) | {"row": ""} for line in file.open()]
        for file in directory.glob("generations/*")
    }
    for found in lines.values():
        assert [line["example"] for line in found] == list(range(len(found)))
    return lines
