"""Every method in ``conf/method`` through the laws of the design, on tiny models."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from rankadapt.adapters import Form, Whole
from rankadapt.adapters.quantize import dense_weight
from rankadapt.errors import ConfigError, ModelError
from rankadapt.runs.build import build_model
from rankadapt.runs.session import Session, build_session
from rankadapt.sources import Sources
from rankadapt.training.checkpoint import read_checkpoint
from rankadapt.training.loader import Share, TrainLoader
from tests.composed import METHODS, run_small, small

MODELS = ["tiny_bert", "tiny_deberta", "tiny_bart", "tiny_llama"]
REFUSED = {
    ("bitfit", "tiny_llama"): "llama has no biases",
    ("pfeiffer", "tiny_llama"): "layer norm",
    ("adapterdrop", "tiny_llama"): "layer norm",
    ("prefix", "tiny_deberta"): "past key values",
    ("prefix", "tiny_bart"): "bart",
}
"""What a method says of an architecture that it is not for."""
PAIRS = [(method, model) for method in METHODS for model in MODELS]
ALLOWED = [pair for pair in PAIRS if pair not in REFUSED]
NOT_AT_ZERO = {"prefix", "pfeiffer", "adapterdrop"}
"""Methods whose model differs from the base model from the start, by their own definition: a prefix is there
to be looked at, and Pfeiffer's bottleneck sends what it adds through the block's layer norm twice."""
ROUNDED = {"pissa": 1e-4, "milora": 1e-4, "dora": 1e-5, "increlora": 1e-3, "houlsby": 0.02, "qlora": 1e-6}
"""Methods that start at the base model up to rounding, or up to a reserve of 1e-5 (IncreLoRA)."""
LEARNS_AT = {"full": 0.005, "bitfit": 0.05, "vera": 0.1, "prefix": 0.1, "randlora": 0.02, "milora": 0.05}
"""Learning rates other than 0.02 for twelve steps on a tiny model."""


def test_every_method_is_found() -> None:
    assert len(METHODS) == 31
    assert {"hebira", "pedyra", "triadaptlora", "lalora"} < set(METHODS)


@pytest.mark.parametrize(("method", "model"), REFUSED)
def test_what_a_method_is_not_for_is_refused_when_the_config_is_composed(method: str, model: str) -> None:
    with pytest.raises(ConfigError, match=REFUSED[method, model]):
        small(method, f"model={model}")


def session(method: str, model: str, *overrides: str) -> Session:
    return build_session(small(method, f"model={model}", *overrides))


def slotted(method: str) -> bool:
    return isinstance(small(method).form, Form)


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


def quantized_outputs(made: Session) -> torch.Tensor:
    """The logits of the base in 4 bits, which is not the base."""
    for layer in made.adapters.layers:
        layer._base_weight = dense_weight(layer.base)  # as if merged: the base layer alone
    return made.module.model(**first_batch(made)).logits


def base_outputs(made: Session) -> torch.Tensor:
    """The logits of the same model, not adapted."""
    pl.seed_everything(made.config.seed, verbose=False)
    plain = build_model(made.config.model, made.config.task, Sources(made.config.paths.mirror)).eval()
    return plain(**first_batch(made)).logits


@pytest.mark.parametrize(("method", "model"), [*ALLOWED, ("hebira", "minilm"), ("lora", "minilm")])
def test_law_8_injection_changes_no_output(method: str, model: str) -> None:
    made = session(method, model)
    made.module.eval()
    with torch.no_grad():
        adapted = made.module.model(**first_batch(made)).logits
        plain = quantized_outputs(made) if method == "qlora" else base_outputs(made)
    if method in NOT_AT_ZERO:
        assert not torch.equal(adapted, plain)
    elif method in ROUNDED:
        torch.testing.assert_close(adapted, plain, atol=ROUNDED[method], rtol=1e-3)
    else:
        assert torch.equal(adapted, plain)


@pytest.mark.parametrize(("method", "model"), ALLOWED)
def test_twelve_steps_lower_the_loss(method: str, model: str) -> None:
    """Of one batch without dropout, by the adaptation alone: the head does not move."""
    std = ["form.std=0.2"] if hasattr(small(method).form, "std") else []
    lr = LEARNS_AT.get(method, 0.02)
    made = session(method, model, "task.train_size=8", f"optimizer.lr={lr}", "optimizer.decay=constant", *std)
    freeze_the_head(made)
    losses = trained(made, 12)
    assert min(losses[-3:]) < losses[0] - 0.001


def freeze_the_head(made: Session) -> None:
    for module in made.module.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    heads = set(made.module.head_names())
    for name, parameter in made.module.model.named_parameters():
        if name in heads:
            parameter.requires_grad_(False)


@pytest.mark.parametrize("method", METHODS)
def test_laws_1_2_and_5_shapes_dead_slots_and_budget(method: str) -> None:
    made = session(method, "tiny_bert")
    shapes = {name: p.shape for name, p in made.module.named_parameters()}
    optimizer = made.module.configure_optimizers()["optimizer"]
    made.controller.start(made.horizon.steps)
    limits, policy = made.controller.limits if len(made.adapters) else None, made.config.policy
    start = sum(made.adapters.ranks())
    assert start == (made.ranks.budget if limits else 0)
    made.module.train()
    for number in range(1, 13):
        optimizer_step(made, optimizer, number)
        if limits is None:
            continue
        ranks = torch.tensor(made.adapters.ranks())
        low, high = sorted((start, made.ranks.final))
        assert low <= ranks.sum() <= high
        assert (ranks >= limits.minimum).all()
        assert (ranks <= limits.maximum).all()
        check_dead_slots(made, optimizer)
    if limits is not None and policy.ends() == "exactly":
        assert ranks.sum() == made.ranks.final
    assert {name: p.shape for name, p in made.module.named_parameters()} == shapes


def check_dead_slots(made: Session, optimizer: torch.optim.Optimizer) -> None:
    """Law 2: what is dead is zero, values and moments, unless the method says that it may revive."""
    for layer in made.adapters.layers:
        if made.adapters.storage == "in_place":
            continue
        held = layer.rank + (layer.form.reserve if layer.reserves else 0)
        for parameter in layer.slot_parameters().values():
            assert not parameter[held:].any()
            for state in optimizer.state.get(parameter, {}).values():
                assert state.dim() == 0 or not state[held:].any()


@pytest.mark.parametrize("method", [m for m in METHODS if small(m).policy.moves_ranks])
def test_ranks_of_a_dynamic_method_really_move(method: str) -> None:
    growth = ["policy.gamma=50"] if method == "lalora" else []  # twelve steps are few
    made = session(method, "tiny_bert", "optimizer.lr=0.02", *growth)
    before = made.adapters.ranks()
    trained(made, 12)
    assert any(row["born"] or row["pruned"] for row in made.controller.trace.rows)
    assert made.adapters.ranks() != before or method == "lalora"  # which may come back to where it was
    closes = {10} if method == "truncate" else set()
    assert {row["step"] for row in made.controller.trace.rows} == {0, 4, 6, 8, 10} | closes


@pytest.mark.parametrize("method", METHODS)
def test_merging_equals_the_forward_pass_and_comes_undone(method: str) -> None:
    made = session(method, model_for(method))
    trained(made, 6)
    made.module.eval()
    if isinstance(made.config.form, Whole):
        return merging_whole(made)
    bases = [dense_weight(layer.base).clone() for layer in made.adapters.layers]
    with torch.no_grad():
        apart = made.module.model(**first_batch(made)).logits
        for layer in made.adapters.layers:
            layer.merge()
        merged = made.module.model(**first_batch(made)).logits
        for layer in made.adapters.layers:
            layer.unmerge()
    torch.testing.assert_close(merged, apart, atol=1e-5, rtol=1e-5)
    assert all(
        torch.equal(a, dense_weight(layer.base)) for a, layer in zip(bases, made.adapters.layers, strict=True)
    )


def model_for(method: str) -> str:
    return "tiny_bert" if method == "prefix" else "tiny_deberta"


def merging_whole(made: Session) -> None:
    """Equal outputs, or an error that says why not."""
    with torch.no_grad():
        apart = made.module.model(**first_batch(made)).logits
    if not made.config.form.merges:
        with pytest.raises(ModelError):
            made.config.form.merge(made.module.model)
        return
    merged = made.config.form.merge(made.module.model).eval()
    with torch.no_grad():
        torch.testing.assert_close(merged(**first_batch(made)).logits, apart, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_gradient_accumulation_changes_nothing_but_rounding(method: str) -> None:
    """One batch of 8, and four of 2: the same losses, scores and ranks, padding counted or not."""
    ends = []
    robust = ["form.robust=false"] if method == "adapterdrop" else []  # drawn anew for every micro-batch
    for accumulate in (1, 4):
        made = session(method, "tiny_bert", *robust)
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
        made.module.eval()
        with torch.no_grad():
            logits = made.module.model(**first_batch(made)).logits[:1]
            ends.append((made.adapters.ranks(), logits))
    assert ends[0][0] == ends[1][0]
    torch.testing.assert_close(ends[0][1], ends[1][1], atol=2e-3, rtol=1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_leaves_its_records(method: str, tmp_path: Path) -> None:
    results = run_small(tmp_path, method)
    assert results["status"] == "completed"
    assert results["steps"] == {"taken": 12, "planned": 12}
    assert [entry["step"] for entry in results["metrics"]["history"]] == [4, 8, 12]
    folds = (tmp_path / "adapter/serving").exists()
    assert (tmp_path / "adapter/trained.safetensors").exists() != folds
    for name in ("results.json", "ranks.parquet", "metrics.csv", "adapter", "checkpoints/last.ckpt"):
        assert (tmp_path / name).exists(), name
    assert (tmp_path / "ranks.png").exists() == slotted(method)


@pytest.mark.parametrize("method", METHODS)
def test_checkpoints_hold_the_adapter_and_no_base(method: str, tmp_path: Path) -> None:
    run_small(tmp_path, method)
    checkpoint = read_checkpoint(tmp_path / "checkpoints/last.ckpt")  # with weights_only=True
    names = set(checkpoint["state_dict"])
    has_slots = slotted(method)
    assert any(name.endswith(".live") for name in names) == has_slots
    if method != "full":
        assert not any(".base." in name or "word_embeddings" in name for name in names)
        assert (tmp_path / "checkpoints/last.ckpt").stat().st_size < 2_500_000


@pytest.mark.parametrize("method", METHODS)
def test_law_7_no_penalty_in_the_evaluation_loss(method: str) -> None:
    """The task's loss of a batch is that of the plain outputs, in training mode as in evaluation."""
    made = session(method, "tiny_bert", "penalty=orthogonal" if slotted(method) else "penalty=none")
    made.module.eval()
    batch = made.train.micro_batch(0)
    batch.pop("share")
    outputs = made.module.model(**made.config.task.model_inputs(batch))
    expected = torch.nn.functional.cross_entropy(outputs.logits, batch["labels"])
    torch.testing.assert_close(made.config.task.losses(outputs, batch).mean(), expected)
