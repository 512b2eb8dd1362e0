"""The main job on real data, a few steps of it: skipped where there is no mirror of the hub."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rankadapt.runs.run import run
from rankadapt.runs.session import build_session
from rankadapt.training.validation import parse
from tests.composed import ROOT, composed

MIRROR = ROOT.parent / "shared" / "hub"
FEW = ["task.max_train_examples=96", "task.max_eval_examples=48", "task.max_length=48", "trainer.max_steps=6"]
QUICK = ["model=minilm", f"paths.mirror={MIRROR}", "trainer.progress_bar=false", "trainer.accelerator=cpu"]
EVENTS = ["schedule.t_i=1", "schedule.delta_t=1", "schedule.t_f=2", "optimizer.warmup_steps=0"]


@pytest.mark.slow
@pytest.mark.skipif(not MIRROR.is_dir(), reason=f"no mirror of the hub at {MIRROR}")
@pytest.mark.parametrize(("task", "metric"), [("glue/rte", "accuracy"), ("glue/stsb", "pearson")])
def test_hebira_on_real_glue(task: str, metric: str, tmp_path: Path) -> None:
    config = parse(composed("method=hebira", f"task={task}", *QUICK, *FEW, *EVENTS, "form.std=0.2"))
    results = run(config, tmp_path, {})
    assert results["status"] == "completed"
    assert results["metrics"]["last"][metric] is not None
    assert results["rank"]["total"] == {"initial": 288, "final": 288, "mean": 288.0}
    assert any(m["initial"] != m["final"] for m in results["rank"]["modules"].values())
    assert len(results["provenance"]["data"]["train"]) == 16


def test_weights_that_were_read_train_with_dropout() -> None:
    """transformers hands out models in evaluation mode: two passes in training must differ."""
    session = build_session(parse(composed("model=minilm", "task.train_size=8", "task.eval_size=8")))
    batch = session.config.task.model_inputs(session.train.micro_batch(0))
    batch.pop("share")
    assert all(module.training for module in session.module.modules())
    first, second = (session.module.model(**batch).logits for _ in range(2))
    assert not torch.equal(first, second)
