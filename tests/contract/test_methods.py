"""Every method in ``conf/method`` through the laws of the design, on tiny models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rankadapt.runs.session import Session, build_session
from rankadapt.training.checkpoint import read_checkpoint
from rankadapt.training.loader import Share, TrainLoader
from tests.composed import METHODS, run_small, small

MODELS = ["tiny_bert", "tiny_deberta"]


def test_every_method_is_found() -> None:
    assert METHODS == ["hebira", "lora"]


def session(method: str, model: str, *overrides: str) -> Session:
    return build_session(small(method, f"model={model}", *overrides))


def first_batch(made: Session) -> dict[str, torch.Tensor]:
    batch = made.train.micro_batch(0)
    return made.config.task.model_inputs({k: v for k, v in batch.items() if k != "share"})


def optimizer_step(made: Session, optimizer: torch.optim.Optimizer, number: int) -> float:
    """One step as the trainer takes it: backward, observe, step, adjust."""
    batch = made.train.micro_batch(number - 1)
    share = batch.pop("share")
    loss = (
        made.config.task.losses(made.module.model(**made.config.task.model_inputs(batch)), batch).mean()
        * share
    )
    loss.backward()
    made.controller.observe()
    optimizer.step()
    made.controller.adjust(number, optimizer)
    optimizer.zero_grad()
    return float(loss.detach())


def trained(made: Session, steps: int) -> list[float]:
    """Losses of ``steps`` optimizer steps."""
    optimizer = made.module.configure_optimizers()["optimizer"]
    made.controller.start(made.horizon.steps)
    made.module.train()
    return [optimizer_step(made, optimizer, number) for number in range(1, steps + 1)]


@pytest.mark.parametrize("model", [*MODELS, "minilm"])
@pytest.mark.parametrize("method", METHODS)
def test_law_8_injection_changes_no_output(method: str, model: str) -> None:
    made = session(method, model)
    made.module.eval()
    with torch.no_grad():
        adapted = made.module.model(**first_batch(made)).logits
        for layer in made.adapters.layers:
            layer._base_weight = layer.base.weight  # as if merged: the base layer alone
        plain = made.module.model(**first_batch(made)).logits
    assert torch.equal(adapted, plain)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("method", METHODS)
def test_twelve_steps_lower_the_loss(method: str, model: str) -> None:
    """Of one batch without dropout, by the adapters alone: the head does not move."""
    made = session(method, model, "task.train_size=8", "optimizer.lr=0.02", "form.std=0.2")
    _freeze_the_rest(made)
    losses = trained(made, 12)
    assert losses[-1] < losses[0] - 0.005


def _freeze_the_rest(made: Session) -> None:
    for module in made.module.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    slots = {id(p) for layer in made.adapters.layers for p in layer.slot_parameters().values()}
    for parameter in made.module.parameters():
        parameter.requires_grad_(id(parameter) in slots)


@pytest.mark.parametrize("method", METHODS)
def test_laws_1_2_and_5_shapes_dead_slots_and_budget(method: str) -> None:
    made = session(method, "tiny_bert")
    shapes = {name: p.shape for name, p in made.module.named_parameters()}
    optimizer = made.module.configure_optimizers()["optimizer"]
    made.controller.start(made.horizon.steps)
    budget, limits = sum(made.adapters.ranks()), made.controller.limits
    for number in range(1, 13):
        optimizer_step(made, optimizer, number)
        ranks = torch.tensor(made.adapters.ranks())
        assert ranks.sum() == budget
        assert (ranks >= limits.minimum).all()
        assert (ranks <= limits.maximum).all()
        for layer in made.adapters.layers:
            for parameter in layer.slot_parameters().values():
                assert not parameter[layer.rank :].any()
                for state in optimizer.state[parameter].values():
                    assert state.dim() == 0 or not state[layer.rank :].any()
    assert {name: p.shape for name, p in made.module.named_parameters()} == shapes


def test_ranks_of_a_dynamic_method_really_move() -> None:
    made = session("hebira", "tiny_bert")
    before = made.adapters.ranks()
    trained(made, 12)
    assert made.adapters.ranks() != before
    assert {row["step"] for row in made.controller.trace.rows} == {0, 4, 6, 8, 10}


@pytest.mark.parametrize("method", METHODS)
def test_merging_equals_the_forward_pass_and_comes_undone(method: str) -> None:
    made = session(method, "tiny_deberta")
    trained(made, 6)
    made.module.eval()
    bases = [layer.base.weight.clone() for layer in made.adapters.layers]
    with torch.no_grad():
        apart = made.module.model(**first_batch(made)).logits
        for layer in made.adapters.layers:
            layer.merge()
        merged = made.module.model(**first_batch(made)).logits
        for layer in made.adapters.layers:
            layer.unmerge()
    torch.testing.assert_close(merged, apart, atol=1e-5, rtol=1e-5)
    assert all(
        torch.equal(a, layer.base.weight) for a, layer in zip(bases, made.adapters.layers, strict=True)
    )


@pytest.mark.parametrize("method", METHODS)
def test_gradient_accumulation_changes_nothing_but_rounding(method: str) -> None:
    """One batch of 8, and four of 2: the same losses, scores and ranks, padding counted or not."""
    ends = []
    for accumulate in (1, 4):
        made = session(method, "tiny_bert")
        torch.manual_seed(0)
        for module in made.module.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # dropout draws per micro-batch
        made.train = TrainLoader(
            made.data.train, made.train.collate, 8, 12, Share(0, 1, accumulate), made.config.seed
        )
        made.module.train()
        made.controller.start(12)
        optimizer = made.module.configure_optimizers()["optimizer"]
        for number in range(1, 9):
            for micro in range(accumulate):
                batch = made.train.micro_batch((number - 1) * accumulate + micro)
                share = batch.pop("share")
                outputs = made.module.model(**made.config.task.model_inputs(batch))
                (made.config.task.losses(outputs, batch).mean() * share / accumulate).backward()
            made.controller.observe()
            optimizer.step()
            made.controller.adjust(number, optimizer)
            optimizer.zero_grad()
        ends.append((made.adapters.ranks(), [layer.delta().detach() for layer in made.adapters.layers]))
    assert ends[0][0] == ends[1][0]
    for one, many in zip(ends[0][1], ends[1][1], strict=True):
        torch.testing.assert_close(one, many, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_leaves_its_records(method: str, tmp_path: Path) -> None:
    results = run_small(tmp_path, method)
    assert results["status"] == "completed"
    assert results["steps"] == {"taken": 12, "planned": 12}
    assert [entry["step"] for entry in results["metrics"]["history"]] == [4, 8, 12]
    for name in (
        "results.json",
        "ranks.parquet",
        "ranks.png",
        "metrics.csv",
        "adapter/serving",
        "checkpoints/last.ckpt",
    ):
        assert (tmp_path / name).exists(), name


@pytest.mark.parametrize("method", METHODS)
def test_checkpoints_hold_the_adapter_and_no_base(method: str, tmp_path: Path) -> None:
    run_small(tmp_path, method)
    checkpoint = read_checkpoint(tmp_path / "checkpoints/last.ckpt")  # with weights_only=True
    names = set(checkpoint["state_dict"])
    assert any(name.endswith(".live") for name in names)
    assert not any(".base." in name or "embeddings" in name for name in names)
    assert (tmp_path / "checkpoints/last.ckpt").stat().st_size < 2_000_000


@pytest.mark.parametrize("method", METHODS)
def test_law_7_no_penalty_in_the_evaluation_loss(method: str) -> None:
    """The task's loss of a batch is that of the plain outputs, in training mode as in evaluation."""
    made = session(method, "tiny_bert")
    made.module.eval()
    batch = made.train.micro_batch(0)
    batch.pop("share")
    outputs = made.module.model(**made.config.task.model_inputs(batch))
    expected = torch.nn.functional.cross_entropy(outputs.logits, batch["labels"])
    torch.testing.assert_close(made.config.task.losses(outputs, batch).mean(), expected)
