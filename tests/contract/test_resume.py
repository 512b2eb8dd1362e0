"""Law 6: a run stopped at any step and resumed ends bit for bit like one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from rankadapt.training.checkpoint import read_checkpoint
from rankadapt.training.stopping import StopRequests
from tests.composed import METHODS, run_small


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Ask the run to stop once it has taken ``step`` optimizer steps."""
    taken = iter(range(1, 10_000))
    monkeypatch.setattr(StopRequests, "asked", lambda self: "a test" if next(taken) == step else None)


def same(a: Any, b: Any, path: str = "") -> None:
    """Equal to the bit, however deep."""
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), path
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{path}/{index}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b, path


def end_of(directory: Path) -> dict[str, Any]:
    """All of the last checkpoint that decides what comes next, and the records."""
    checkpoint = read_checkpoint(directory / "checkpoints/last.ckpt")
    callbacks = {k: v for k, v in checkpoint["callbacks"].items() if "Clock" not in k}
    kept = ("state_dict", "optimizer_states", "lr_schedulers", "scoreboard", "global_step", "rankadapt")
    metrics = pd.read_csv(directory / "metrics.csv")
    return {
        **{key: checkpoint[key] for key in kept},
        "callbacks": callbacks,
        "loader": checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"],
        "ranks": pd.read_parquet(directory / "ranks.parquet").fillna(-1).to_dict("list"),
        "metrics": metrics.sort_values(["step", "metric"]).to_dict("list"),
    }


# After step 5: between events. After step 8: an event, an evaluation and a stop.
@pytest.mark.parametrize(
    ("method", "step"), [(m, 5) for m in METHODS] + [(m, s) for m in ("hebira", "lora") for s in (1, 8)]
)
def test_stopped_and_resumed_ends_like_one_that_was_not(
    method: str, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["trainer.log_every_n_steps=1"]
    run_small(tmp_path / "whole", method, *options)
    with monkeypatch.context() as patched:
        stop_after(patched, step)
        first = run_small(tmp_path / "parts", method, *options)
    assert first["status"] == "interrupted"
    assert first["steps"]["taken"] == step
    second = run_small(tmp_path / "parts", method, *options, "resume=true")
    assert second["status"] == "completed"
    same(end_of(tmp_path / "parts"), end_of(tmp_path / "whole"))
    assert second["metrics"] == run_small(tmp_path / "whole", method, *options, "resume=true")["metrics"]


def test_with_accumulation_and_over_the_end_of_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["trainer.accumulate_grad_batches=2", "task.train_size=36", "control.count_padding=false"]
    run_small(tmp_path / "whole", "hebira", *options)
    for step in (3, 7):
        with monkeypatch.context() as patched:
            stop_after(patched, step if step == 3 else step - 3)
            assert run_small(tmp_path / "parts", "hebira", *options, "resume=true")["steps"]["taken"] == step
    run_small(tmp_path / "parts", "hebira", *options, "resume=true")
    same(end_of(tmp_path / "parts"), end_of(tmp_path / "whole"))


def test_in_the_middle_of_a_restarted_warm_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directions born after step 4 warm up in steps 5 to 7."""
    options = ["optimizer.warmup_steps=3", "control.restart_warmup=true", "trainer.log_every_n_steps=1"]
    run_small(tmp_path / "whole", "hebira", *options)
    with monkeypatch.context() as patched:
        stop_after(patched, 5)
        run_small(tmp_path / "parts", "hebira", *options)
    kept = read_checkpoint(tmp_path / "parts/checkpoints/last.ckpt")["callbacks"]
    (rates,) = (state["rates"] for state in kept.values() if "rates" in state)
    assert set(rates["lived"].unique().tolist()) == {0, 4}
    run_small(tmp_path / "parts", "hebira", *options, "resume=true")
    same(end_of(tmp_path / "parts"), end_of(tmp_path / "whole"))
    run_small(tmp_path / "plain", "hebira", *options, "control.restart_warmup=false")
    assert not torch.equal(*(_first(tmp_path / name) for name in ("whole", "plain")))


def _first(directory: Path) -> torch.Tensor:
    state = read_checkpoint(directory / "checkpoints/last.ckpt")["state_dict"]
    return next(value for name, value in state.items() if name.endswith(".A"))


def test_what_is_complete_is_not_run_again(tmp_path: Path) -> None:
    first = run_small(tmp_path, "lora")
    written = (tmp_path / "results.json").stat().st_mtime_ns
    again = run_small(tmp_path, "lora", "resume=true")
    assert again["metrics"] == first["metrics"]
    assert (tmp_path / "results.json").stat().st_mtime_ns == written
