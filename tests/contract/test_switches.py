"""Switches that must not change what is trained, or only by rounding."""

from __future__ import annotations

from pathlib import Path

import torch

from rankadapt.training.checkpoint import read_checkpoint
from tests.composed import run_small


def end(directory: Path, *options: str) -> dict[str, torch.Tensor]:
    """The trained state after twelve steps with dropout and four rank events."""
    results = run_small(directory, "hebira", "form.std=0.2", *options)
    assert results["status"] == "completed"
    assert results["rank"]["total"]["final"] == results["rank"]["total"]["initial"]
    return read_checkpoint(directory / "checkpoints/last.ckpt")["state_dict"]


def test_gradient_checkpointing_changes_no_bit_of_the_result(tmp_path: Path) -> None:
    """Recomputed forward passes are not scored a second time."""
    plain = end(tmp_path / "plain")
    recomputed = end(tmp_path / "recomputed", "trainer.gradient_checkpointing=true")
    assert all(torch.equal(plain[name], recomputed[name]) for name in plain)


def test_bf16_trains_with_ranks_that_move(tmp_path: Path) -> None:
    mixed = end(tmp_path / "mixed", "trainer.precision=bf16-mixed")
    assert all(value.dtype in (torch.float32, torch.bool) for value in mixed.values())
    assert all(value.isfinite().all() for value in mixed.values())


def test_plain_autograd_gives_what_the_fused_node_gives(tmp_path: Path) -> None:
    fused = end(tmp_path / "fused")
    plain = end(tmp_path / "plain", "adapter.fused=false")
    for name, value in fused.items():
        torch.testing.assert_close(plain[name], value, atol=2e-4, rtol=1e-3, msg=name)


def test_the_logger_changes_no_bit_of_the_result(tmp_path: Path) -> None:
    csv = end(tmp_path / "csv")
    silent = end(tmp_path / "none", "logger=none", "evaluation.every_n_steps=null")
    assert all(torch.equal(csv[name], silent[name]) for name in csv)
