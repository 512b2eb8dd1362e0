"""What is logged of a step: the size of the gradients, by kind of parameter."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pandas as pd
import pytest
import torch

from rankadapt.adapters import BA, Adapters, Tri, inject
from rankadapt.adapters.combine import DoRA
from rankadapt.training.progress import gradient_sizes
from tests import tiny
from tests.composed import run_small


@pytest.mark.parametrize(
    ("form", "kinds"), [(None, {"A", "B", "e"}), (Tri(), {"A", "B", "L", "U"}), (BA(), {"A", "B"})]
)
def test_norms_are_those_of_all_gradients_of_a_kind(form: object, kinds: set[str]) -> None:
    model = tiny.mlp(depth=3, form=form)  # type: ignore[arg-type]
    model(torch.randn(5, 6)).square().sum().backward()
    found = gradient_sizes(Adapters(model))
    assert set(found) == {f"{prefix}/{kind}" for prefix in ("grad", "grad_rms") for kind in kinds}
    for name in kinds:
        squares = [
            entry.item() ** 2
            for path, parameter in model.named_parameters()
            if path.rpartition(".")[2] == name and parameter.grad is not None
            for entry in parameter.grad.flatten()
        ]
        live = [square for square in squares if square > 0]
        assert found[f"grad/{name}"].item() == pytest.approx(sum(squares) ** 0.5, rel=1e-5)
        assert found[f"grad_rms/{name}"].item() == pytest.approx((sum(live) / len(live)) ** 0.5, rel=1e-5)


def test_the_magnitude_of_dora_counts_whole() -> None:
    torch.manual_seed(0)
    model = tiny.MLP()
    inject(model, ["layers.*"], BA(), rank=2, slots=4, combine=DoRA())
    model(torch.randn(5, 6)).square().sum().backward()
    found = gradient_sizes(Adapters(model))
    assert found["grad/magnitude"] / found["grad_rms/magnitude"] == pytest.approx((7 + 6) ** 0.5)


def test_what_is_frozen_has_no_norm() -> None:
    model = tiny.mlp(form=BA(frozen=["A"]))
    model(torch.randn(5, 6)).sum().backward()
    assert set(gradient_sizes(Adapters(model))) == {"grad/B", "grad_rms/B"}


@pytest.mark.parametrize(
    ("method", "kinds"), [("pedyra", {"A", "B", "e"}), ("lora", {"A", "B"}), ("bitfit", set())]
)
def test_they_are_logged_with_the_loss_and_no_more_often(
    method: str, kinds: set[str], tmp_path: Path
) -> None:
    with mock.patch("rankadapt.training.progress.gradient_sizes", wraps=gradient_sizes) as computed:
        run_small(tmp_path, method, "trainer.log_every_n_steps=3", "trainer.accumulate_grad_batches=2")
    assert computed.call_count == 4
    frame = pd.read_csv(tmp_path / "metrics.csv")
    logged = frame[frame.metric.str.startswith("grad/")]
    assert set(logged.metric) == {f"grad/{kind}" for kind in kinds}
    for _, rows in logged.groupby("metric"):
        assert rows.step.tolist() == [3, 6, 9, 12]
        assert (rows.value >= 0).all()


def test_they_are_of_the_whole_step_before_clipping(tmp_path: Path) -> None:
    """The first step's gradient neither depends on the clipping, nor on how the batch is cut up."""
    kinds = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    no_dropout = ["model.classifier_dropout=0.0", *(f"+model.config.{kind}=0.0" for kind in kinds)]
    found = {}
    for name, option in {
        "plain": "optimizer.gradient_clip=null",
        "clipped": "optimizer.gradient_clip=1e-6",
        "cut": "trainer.accumulate_grad_batches=4",
    }.items():
        options = ["trainer.max_steps=1", "trainer.log_every_n_steps=1", "evaluation.every_n_steps=null"]
        run_small(tmp_path / name, "lora", *no_dropout, *options, option)
        frame = pd.read_csv(tmp_path / name / "metrics.csv").set_index("metric")
        found[name] = frame.loc["grad/B", "value"]
    assert found["clipped"] == found["plain"] > 1e-3
    assert found["cut"] == pytest.approx(found["plain"], rel=1e-3)
