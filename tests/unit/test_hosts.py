"""The hosts of the controller besides ``attach``: transformers' Trainer, and fp16 in Lightning."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rankadapt.adapters import BEA, Adapters, Reading, inject
from rankadapt.control import Controller, Schedule
from rankadapt.policies import Bidirectional
from rankadapt.scorers import Gradient, Hebbian
from rankadapt.training.ranks import RankCallback
from rankadapt.training.transformers_callback import RankTrainerCallback
from tests import tiny

torch.set_num_threads(1)


def controller(model: torch.nn.Module) -> Controller:
    schedule = Schedule(t_i=2, delta_t=2, t_f=2)
    return Controller(Adapters(model), Bidirectional(k=3), Hebbian(), schedule)


def adapted() -> torch.nn.Module:
    return inject(tiny.bert(), tiny.BERT_TARGETS, BEA(std=0.3), 3, 8, trainable=["classifier"])


def trainer(folder: Path, clip: float, **settings: Any) -> tuple[Any, Controller]:
    """A Trainer of ten steps on random tokens, with the ranks under control."""
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    model = adapted()
    driven = controller(model)
    rows = tiny.batch(size=40)
    data = [{k: v[i] for k, v in rows.items()} for i in range(40)]
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=10,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        max_grad_norm=clip,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
        **{"save_strategy": "no", **settings},
    )
    made = Trainer(model, arguments, train_dataset=data, callbacks=[RankTrainerCallback(driven)])
    return made, driven


def test_transformers_trainer_moves_ranks_at_the_events(tmp_path: Path) -> None:
    made, driven = trainer(tmp_path, clip=1.0)
    made.train()
    assert sorted({row["step"] for row in driven.trace.rows}) == [0, 4, 6, 8, 10]
    assert sum(driven.adapters.ranks()) == 3 * len(driven.adapters)
    assert driven.adapters.ranks() != [3] * len(driven.adapters)
    assert made.args.max_grad_norm == 1.0


class Recorder(Gradient):
    """Keeps the raw gradient norms of every step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.seen: list[torch.Tensor] = []

    def update(self, reading: Reading) -> None:
        self.seen.append(reading.gradient_norm("A"))
        super().update(reading)


def test_transformers_trainer_scores_unclipped_gradients_and_clips(tmp_path: Path) -> None:
    from transformers import TrainerCallback

    class Norm(TrainerCallback):
        def on_optimizer_step(self, *_: Any, **kwargs: Any) -> None:
            gradients = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
            norms.append(float(torch.stack(torch._foreach_norm(gradients)).norm()))

    norms: list[float] = []
    scored = []
    for clip in (0.0, 1e-3):
        made, driven = trainer(tmp_path, clip=clip)
        driven.scorer = Recorder()
        made.add_callback(Norm())
        made.args.max_steps = 8
        torch.manual_seed(0)
        made.train()
        scored.append(driven.scorer.seen[0])
    assert norms[8] == pytest.approx(1e-3, rel=1e-3)
    assert norms[0] > 1e-2
    assert torch.equal(scored[0], scored[1])


def test_transformers_trainer_resumes_to_the_same_ranks(tmp_path: Path) -> None:
    whole, ends = trainer(tmp_path / "whole", clip=1.0)
    whole.train()
    first, _ = trainer(tmp_path / "parts", clip=1.0, save_strategy="steps", save_steps=5)
    first.train()
    second, driven = trainer(tmp_path / "parts", clip=1.0)
    second.train(resume_from_checkpoint=str(tmp_path / "parts/checkpoint-5"))
    assert driven.trace.rows == ends.trace.rows
    for a, b in zip(driven.adapters.layers, ends.adapters.layers, strict=True):
        assert torch.equal(a.delta(), b.delta())


def test_a_step_that_fp16_skips_is_not_scored() -> None:
    """The scaler skips a step with infinite gradients; the score must not become infinite for good."""
    model = adapted()
    driven = controller(model)
    host = RankCallback(driven, 10)
    driven.start(10)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    fp16: Any = SimpleNamespace(precision_plugin=SimpleNamespace(scaler=object()))
    for poison in (False, True, False):
        model(**tiny.batch()).loss.backward()
        if poison:
            driven.adapters.layers[0].B.grad[0, 0] = torch.inf
        host.on_before_optimizer_step(fp16, model, optimizer)  # type: ignore[arg-type]
        optimizer.zero_grad()
    scores = driven.scorer.scores()  # type: ignore[union-attr]
    assert scores.isfinite().all()
    assert driven.adapters.layers[0].probe is not None
    assert driven.adapters.layers[0].probe.grad is None
