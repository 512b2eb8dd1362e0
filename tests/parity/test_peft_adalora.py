"""AdaLoRA is peft's, step by step: the same cores, the same kept set, the same update; and every host scores
where AdaLoRA's code does, after the optimizer's step with the clipped gradients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rankadapt.adapters import BEA, AdapterOptions, Adapters, Reading, inject
from rankadapt.adapters.penalty import Orthogonality
from rankadapt.control import Controller, ControlOptions, Schedule, attach
from rankadapt.export.peft import folded_factors
from rankadapt.policies import CubicBudget
from rankadapt.scorers import Sensitivity
from tests.composed import composed, run_small, small
from tests.tiny import BERT_TARGETS, MLP, batch, bert, slot_parameters

peft = pytest.importorskip("peft")

START, TARGET, ALPHA, TOTAL = 6, 3, 8, 60
OPTIONS = AdapterOptions(lora_alpha=ALPHA, scaling="initial", eps=1e-5)


@dataclass
class Setting:
    t_i: int = 10
    t_f: int = 20
    delta_t: int = 1
    weight: float = 0.0
    clip: float | None = None


def plain(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return bert() if kind == "bert" else MLP(width=7, depth=4)


def ours(kind: str, setting: Setting, dtype: torch.dtype) -> tuple[nn.Module, Controller]:
    targets = BERT_TARGETS if kind == "bert" else ["layers.*"]
    model = inject(plain(kind), targets, BEA(std=0.3), START, START, OPTIONS, storage="in_place")
    adapters = Adapters(model.to(dtype))
    for layer in adapters.layers:
        layer.refresh()  # the scale, to all digits of dtype
    controller = Controller(
        adapters,
        CubicBudget(init_rank=START),
        Sensitivity(when="after_step"),
        Schedule(t_i=setting.t_i, delta_t=setting.delta_t, t_f=setting.t_f, origin="zero"),
        ControlOptions(min_rank=0, budget=TARGET * len(adapters)),
        Orthogonality(weight=setting.weight, squared=False, reduction="mean") if setting.weight else None,
    )
    controller.start(TOTAL)
    return model, controller


def theirs(kind: str, setting: Setting, adapters: Adapters) -> tuple[Any, list[Any]]:
    """peft's model with the initial factors of ours, and its layers in our order."""
    config = peft.AdaLoraConfig(
        init_r=START, target_r=TARGET, tinit=setting.t_i, tfinal=setting.t_f, deltaT=setting.delta_t,
        total_step=TOTAL, lora_alpha=ALPHA, orth_reg_weight=setting.weight, beta1=0.85, beta2=0.85,
        target_modules=adapters.names,
    )  # fmt: skip
    model = peft.get_peft_model(plain(kind).to(adapters.layers[0].A.dtype), config)
    found = {n.removeprefix("base_model.model."): m for n, m in model.named_modules() if hasattr(m, "lora_E")}
    layers = [found[name] for name in adapters.names]
    assert len(found) == len(layers)
    with torch.no_grad():
        for layer, like in zip(layers, adapters.layers, strict=True):
            layer.lora_A["default"].copy_(like.A)
            layer.lora_B["default"].copy_(like.B.t())
            layer.ranknum["default"].requires_grad_(False)  # peft trains it where the base is not float32
            assert not layer.lora_E["default"].any()
    return model, layers


def loss_of(kind: str, model: Any, step: int, dtype: torch.dtype) -> Tensor:
    if kind == "bert":  # base_model: a PeftModel without a task_type goes past the penalty
        model = model.base_model if isinstance(model, peft.PeftModel) else model
        return model(**batch(8, seed=step % 5, padded=True)).loss
    x = torch.randn(16, 7, generator=torch.Generator().manual_seed(step % 7)).to(dtype)
    return (model(x) - x.flip(1).sin()).square().mean()


def optimizer_of(name: str, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(parameters, 0.5, weight_decay=0.01)
    return torch.optim.AdamW(parameters, 2e-2, weight_decay=0.01)


def theirs_delta(layer: Any) -> Tensor:
    return layer.get_delta_weight("default").detach().float()


def compare(kind: str, setting: Setting, name: str, dtype: torch.dtype, atol: float) -> None:
    model, controller = ours(kind, setting, dtype)
    adapters = controller.adapters
    reference, layers = theirs(kind, setting, adapters)
    trained = [p for p in reference.parameters() if p.requires_grad]
    optimizers = [optimizer_of(name, slot_parameters(model)), optimizer_of(name, trained)]
    masks, losses = [], []
    for step in range(1, TOTAL + 1):
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = loss_of(kind, model, step, dtype)
        loss.backward()
        loss_of(kind, reference, step, dtype).backward()
        losses.append(float(loss.detach()))
        controller.observe()
        for parameters in (slot_parameters(model), trained):
            if setting.clip is not None:
                norm = torch.nn.utils.clip_grad_norm_(parameters, setting.clip)
                assert norm > setting.clip
        for optimizer in optimizers:
            optimizer.step()
        change = controller.adjust(step, optimizers[0])
        reference.base_model.update_and_allocate(step)
        for layer, other in zip(adapters.layers, layers, strict=True):
            for mine, own in (
                (layer.e, other.lora_E["default"][:, 0]),
                (layer.A, other.lora_A["default"]),
                (layer.B, other.lora_B["default"].t()),
            ):
                torch.testing.assert_close(mine, own, rtol=0, atol=atol, msg=lambda m, s=step: f"{s}: {m}")
            if change is not None:
                assert torch.equal(layer.e != 0, other.lora_E["default"][:, 0] != 0), step
        masks.append(adapters.live())
    last = TOTAL - setting.t_f
    assert min(losses[-3:]) < 0.9 * max(losses[:3]), "nothing was learned: proves nothing"
    assert sum(adapters.ranks()) == TARGET * len(adapters)
    assert len(set(adapters.ranks())) > 1, "every module kept the same: proves little"
    assert all(torch.equal(mask, masks[-1]) for mask in masks[last:])
    pattern = reference.peft_config["default"].rank_pattern
    for adapter_name, layer in zip(adapters.names, adapters.layers, strict=True):
        assert pattern[f"{adapter_name}.lora_E.default"] == layer.live.tolist()
    folded = folded_factors(model)
    assert folded is not None
    for adapter_name, layer, other in zip(adapters.names, adapters.layers, layers, strict=True):
        A, B = folded[adapter_name]
        assert len(A) == layer.rank
        torch.testing.assert_close(B @ A, theirs_delta(other), rtol=0, atol=max(atol, 1e-6))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize(
    "setting", [Setting(), Setting(delta_t=5), Setting(12, 22, 5)], ids=["every", "multiples", "closes"]
)
def test_the_same_cores_and_factors_after_every_step(name: str, setting: Setting) -> None:
    """In double precision, where all that is left of another order of the same products is 1e-13."""
    compare("mlp", setting, name, torch.float64, 1e-11)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_in_single_precision_too(name: str) -> None:
    compare("mlp", Setting(), name, torch.float32, 2e-5)


def test_the_penalty_and_clipped_gradients_are_pefts() -> None:
    """peft adds the penalty to the loss, we add its gradients; both score what was clipped."""
    compare("bert", Setting(weight=0.3, clip=0.05), "adamw", torch.float64, 1e-8)


def test_our_yaml_says_what_is_compared_here() -> None:
    config = small("adalora")
    assert config.scorer == Sensitivity(beta1=0.85, beta2=0.85, when="after_step")
    assert config.policy == CubicBudget()
    assert config.form == BEA()
    assert config.penalty == Orthogonality(weight=0.1, squared=False, reduction="mean")
    assert (config.adapter.scaling, config.adapter.eps, config.adapter.scale_by) == ("initial", 1e-5, "rank")
    assert config.budget.min_rank == 0
    assert composed("method=adalora")["schedule"]["origin"] == "zero"


class Seen:
    """What a host left behind whenever the scorer looked, and what it had observed before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.norms: list[float] = []
        self.observed: list[float] = []
        self.moved: list[bool] = []
        self._before: list[Tensor] = []
        update, observe = Sensitivity.update, Controller.observe

        def looking(scorer: Sensitivity, reading: Reading) -> None:
            layers = reading._adapters.layers
            self.norms.append(_norm(layers))
            self.moved.append(
                all(not torch.equal(a, layer.A) for a, layer in zip(self._before, layers, strict=True))
            )
            update(scorer, reading)

        def observing(controller: Controller) -> None:
            observe(controller)
            self._before = [layer.A.detach().clone() for layer in controller.adapters.layers]
            self.observed.append(_norm(controller.adapters.layers))

        monkeypatch.setattr(Sensitivity, "update", looking)
        monkeypatch.setattr(Controller, "observe", observing)

    def check(self, clip: float, steps: int) -> None:
        assert len(self.norms) == steps
        assert all(self.moved)
        assert all(0.1 * clip < norm <= 1.001 * clip for norm in self.norms), self.norms
        assert all(norm > 10 * clip for norm in self.observed), self.observed


def _norm(layers: list[Any]) -> float:
    gradients = [p.grad for layer in layers for p in layer.slot_parameters().values()]
    assert all(g is not None for g in gradients)
    return float(torch.stack([g.norm() for g in gradients]).norm())


CLIP = 1e-4


@pytest.mark.parametrize("accumulate", [1, 2])
def test_lightning_scores_after_the_step_with_clipped_gradients(
    accumulate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(monkeypatch)
    run_small(
        tmp_path, "adalora", f"optimizer.gradient_clip={CLIP}", "form.std=0.3", "penalty.weight=1.0",
        f"trainer.accumulate_grad_batches={accumulate}",
    )  # fmt: skip
    seen.check(CLIP, 9)  # the last event is after step 10 and scores no more


def driven(model: nn.Module) -> Controller:
    return Controller(
        Adapters(model),
        CubicBudget(init_rank=START),
        Sensitivity(when="after_step"),
        Schedule(t_i=2, delta_t=2, t_f=2, origin="zero"),
        ControlOptions(min_rank=0, budget=TARGET * 6),
        Orthogonality(squared=False, reduction="mean"),
    )


def adapted() -> nn.Module:
    return inject(bert(), BERT_TARGETS, BEA(std=0.3), START, START, OPTIONS, storage="in_place")


def test_the_transformers_trainer_does_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    from rankadapt.training.transformers_callback import RankTrainerCallback

    seen, model = Seen(monkeypatch), adapted()
    controller = driven(model)
    rows = batch(size=40)
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=10, per_device_train_batch_size=4, learning_rate=1e-2,
        max_grad_norm=CLIP, report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="no",
    )  # fmt: skip
    data = [{k: v[i] for k, v in rows.items()} for i in range(40)]
    Trainer(model, arguments, train_dataset=data, callbacks=[RankTrainerCallback(controller)]).train()
    seen.check(CLIP, 7)
    assert sum(controller.adapters.ranks()) == TARGET * 6


def test_attach_does_too(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, model = Seen(monkeypatch), adapted()
    controller = driven(model)
    optimizer = torch.optim.AdamW(slot_parameters(model), 1e-2)
    attached = attach(controller, optimizer, 10, clip_norm=CLIP)
    for step in range(10):
        optimizer.zero_grad()
        model(**batch(seed=step)).loss.backward()
        optimizer.step()
    attached.detach()
    seen.check(CLIP, 7)
    assert sum(controller.adapters.ranks()) == TARGET * 6
