"""Checkpoints: whole or not there, refused where they do not belong, random numbers included."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rankadapt.errors import CheckpointError
from rankadapt.runs.session import build_session
from rankadapt.training.checkpoint import (
    AtomicCheckpointIO,
    check_identity,
    random_state,
    read_checkpoint,
    set_random_state,
)
from rankadapt.training.module import FineTuner
from tests.composed import small

torch.set_num_threads(1)
SOUND: dict[str, Any] = {"rankadapt": {"format": 1, "identity": {"seed": 1, "task": "a"}}, "x": torch.ones(2)}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    AtomicCheckpointIO().save_checkpoint(SOUND, tmp_path / "new/last.ckpt")
    assert torch.equal(read_checkpoint(tmp_path / "new/last.ckpt")["x"], torch.ones(2))
    assert [f.name for f in (tmp_path / "new").iterdir()] == ["last.ckpt"]


def test_a_write_that_fails_half_way_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, io = tmp_path / "last.ckpt", AtomicCheckpointIO()
    io.save_checkpoint(SOUND, path)

    def full(checkpoint: Any, file: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        io.save_checkpoint(SOUND, path)
    assert read_checkpoint(path)["rankadapt"]["format"] == 1
    assert [f.name for f in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("content", [b"", b"PK not a zip", "cut", "code", "other", "old"])
def test_what_is_no_checkpoint_is_refused(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "cut":
        torch.save(SOUND, path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        others = {"code": {**SOUND, "f": Path}, "other": [1, 2], "old": {"rankadapt": {"format": 0}}}
        torch.save(others[content], path)  # "code" needs pickle, which could run anything
    with pytest.raises(CheckpointError) as raised:
        read_checkpoint(path)
    assert [p.path for p in raised.value.problems] == [str(path)]


def test_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such file"):
        read_checkpoint(tmp_path / "last.ckpt")


def test_all_that_differs_is_named() -> None:
    path = Path("x/last.ckpt")
    check_identity(SOUND, {"seed": 1, "task": "a"}, path)
    with pytest.raises(CheckpointError) as raised:
        check_identity(SOUND, {"seed": 2, "task": "a", "slots": 4}, path)
    assert [(p.path, p.value) for p in raised.value.problems] == [
        ("last.ckpt: seed", 1),
        ("last.ckpt: slots", None),
    ]


def test_random_numbers_go_on_where_they_were() -> None:
    def draw() -> list[float]:
        return [torch.rand(1).item(), random.gauss(0, 1), float(np.random.normal())]  # noqa: NPY002

    draw()
    state = random_state()
    first = draw()
    assert draw() != first
    set_random_state(state)
    assert draw() == first


def test_the_random_state_survives_a_file(tmp_path: Path) -> None:
    torch.save(random_state(), tmp_path / "state")
    expected = torch.rand(3), random.random()
    set_random_state(torch.load(tmp_path / "state", weights_only=True))
    assert torch.equal(torch.rand(3), expected[0])
    assert random.random() == expected[1]


@pytest.fixture(scope="module")
def module() -> FineTuner:
    return build_session(small("hebira")).module


def test_a_state_of_other_names_and_shapes(module: FineTuner) -> None:
    state = module.state_dict()
    names = sorted(state)
    wrong = {**state, "model.extra.A": torch.zeros(1)}
    del wrong[names[0]]
    wrong[names[1]] = torch.zeros(1, 2, 3)
    with pytest.raises(CheckpointError) as raised:
        module.load_state_dict(wrong)
    found = {p.path: (p.value, p.reason) for p in raised.value.problems}
    assert found[names[0]] == (None, "is missing in the checkpoint")
    assert found["model.extra.A"] == (None, "is not in this model")
    assert found[names[1]] == ([1, 2, 3], f"has the shape {list(state[names[1]].shape)} in this model")
    assert len(found) == 3


def test_a_state_of_another_model_altogether_is_short_to_read(module: FineTuner) -> None:
    with pytest.raises(CheckpointError) as raised:
        module.load_state_dict({})
    assert len(raised.value.problems) == 6
    assert f"{len(module.state_dict()) - 5} more" in str(raised.value)


def test_loading_brings_ranks_back(module: FineTuner) -> None:
    state = {name: value.clone() for name, value in module.state_dict().items()}
    name = next(n for n in state if n.endswith(".live"))
    state[name][2:] = False
    module.load_state_dict(state)
    assert module.adapters is not None
    assert module.adapters.ranks()[0] == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    made = build_session(small("lora")).module
    made.trainer = type("Trainer", (), {"global_step": 3})()  # type: ignore[assignment]
    made.refuse_bad_weights()
    with torch.no_grad():
        next(p for p in made.parameters() if p.requires_grad).view(-1)[0] = value
    with pytest.raises(Exception, match="step 3: the step left weights that are not finite"):
        made.refuse_bad_weights()
