"""Variants of LoRA are peft's, step by step from equal weights: the same losses and the same merged weights.

VeRA is peft's own: see test_peft_generic.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rankadapt.adapters import (
    BA,
    AdaptedLinear,
    AdapterOptions,
    Adapters,
    DoRA,
    HiRA,
    MiLoRA,
    PiSSA,
    Quantization,
    inject,
    merge_and_unload,
)
from rankadapt.adapters.initial.singular import Singular
from rankadapt.adapters.inject import replace
from rankadapt.adapters.quantize import block_of, dense_weight, is_quantized, quantize_frozen, quantized
from rankadapt.export.peft import export_adapter
from rankadapt.training.config import OptimizerConfig
from rankadapt.training.optim import build_optimizer
from tests.tiny import BERT_TARGETS, batch, bert

peft = pytest.importorskip("peft")

STEPS, RANK, ALPHA, LR = 15, 4, 12, 1e-2


def ours(form: BA | None = None, init: Any = None, combine: Any = None, **options: Any) -> nn.Module:
    settings, head = AdapterOptions(**{"lora_alpha": ALPHA} | options), ["classifier"]
    form = form or BA()
    return inject(bert(), BERT_TARGETS, form, RANK, RANK + 2, settings, head, 3, combine, init=init)


def theirs(like: nn.Module, base: nn.Module | None = None, kind: str = "LoraConfig", **config: Any) -> Any:
    """peft's model with the factors of ours."""
    names = Adapters(like).names
    settings = {"r": RANK, "target_modules": names, "modules_to_save": ["classifier"]}
    settings |= {"lora_alpha": ALPHA} if kind == "LoraConfig" else {}
    model = peft.get_peft_model(base or bert(), getattr(peft, kind)(**settings | config))
    for mine, own in pairs(like, model):
        for parameter, value in zip(factors(own), (mine.A[:RANK], mine.B[:RANK].t()), strict=True):
            parameter.data.copy_(value)
    return model


def pairs(like: nn.Module, model: nn.Module) -> list[tuple[AdaptedLinear, Any]]:
    adapters = Adapters(like)
    found = {
        n.removeprefix("base_model.model."): m for n, m in model.named_modules() if hasattr(m, "base_layer")
    }
    return [(layer, found[name]) for name, layer in zip(adapters.names, adapters.layers, strict=True)]


def factors(layer: Any) -> tuple[nn.Parameter, nn.Parameter]:
    if hasattr(layer, "hira_A"):
        return layer.hira_A["default"], layer.hira_B["default"]
    return layer.lora_A["default"].weight, layer.lora_B["default"].weight


def trained(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(trained(model), LR, weight_decay=0.05)


def step_by_step(
    model: nn.Module,
    reference: Any,
    ours_of: Callable[[Any], Any] = adamw,
    theirs_of: Callable[[Any], Any] = adamw,
    atol: float = 2e-5,
) -> None:
    """Train both side by side."""
    optimizers = [ours_of(model), theirs_of(reference)]
    history = []
    for step in range(STEPS):
        losses = []
        for one, optimizer in zip((model, reference), optimizers, strict=True):
            optimizer.zero_grad()
            loss = one(**batch(8, padded=True)).loss
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        torch.testing.assert_close(*losses, rtol=0, atol=atol, msg=lambda m, s=step: f"{s}: {m}")
        for mine, own in pairs(model, reference):
            for parameter, value in zip(factors(own), (mine.A[:RANK], mine.B[:RANK].t()), strict=True):
                torch.testing.assert_close(parameter, value, rtol=0, atol=atol)
        history.append(float(losses[0]))
    assert history[-1] < 0.9 * history[0], "nothing was learned: proves nothing"


def same_merged(model: nn.Module, reference: Any, atol: float = 2e-5) -> None:
    merged, expected = merge_and_unload(model).state_dict(), reference.merge_and_unload().state_dict()
    assert merged.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(merged[key], value, rtol=0, atol=atol, msg=lambda m, k=key: f"{k}: {m}")


VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "rslora": ({"scale_by": "sqrt_rank"}, {"use_rslora": True}),
    "dora": ({"combine": DoRA()}, {"use_dora": True}),
    "hira": ({"combine": HiRA(), "scale_by": "one"}, {"kind": "HiraConfig", "hira_dropout": 0.0}),
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("fused", [True, False])
def test_the_same_losses_factors_and_merged_weights(name: str, fused: bool) -> None:
    mine, own = VARIANTS[name]
    model = ours(fused=fused, **mine)
    reference = theirs(model, **own)
    step_by_step(model, reference)
    same_merged(model, reference)


def test_the_magnitudes_of_dora_are_pefts() -> None:
    model = ours(combine=DoRA())
    reference = theirs(model, use_dora=True)
    step_by_step(model, reference)
    for mine, own in pairs(model, reference):
        magnitude = own.lora_magnitude_vector["default"].weight
        assert not torch.allclose(mine.magnitude, mine.base.weight.norm(dim=1), atol=1e-3)
        torch.testing.assert_close(mine.magnitude, magnitude, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_dropout_hits_the_same_places(name: str) -> None:
    """Both draw one mask per layer and call, of the layer's input: equal seeds give equal masks."""
    mine, own = VARIANTS[name]
    own = own | ({"hira_dropout": 0.5} if name == "hira" else {"lora_dropout": 0.5})
    model = ours(dropout=0.5, **mine)
    with torch.no_grad():
        for layer in Adapters(model).layers:
            layer.B[:RANK].normal_(0, 0.3)
            if name == "dora":
                layer.magnitude.mul_(1.3)
    reference = theirs(model, **own)
    if name == "dora":
        for layer, other in pairs(model, reference):
            other.lora_magnitude_vector["default"].weight.data.copy_(layer.magnitude)
    logits = []
    for one, seed in ((model, 5), (reference, 5), (model, 6)):
        one.train().zero_grad()
        torch.manual_seed(seed)
        output = one(**batch(padded=True))
        logits.append(output.logits)
        if seed == 5:
            output.loss.backward()
        if one is reference:
            for layer, other in pairs(model, reference):
                A, B = (parameter.grad for parameter in factors(other))
                torch.testing.assert_close(layer.A.grad[:RANK], A, rtol=1e-4, atol=1e-6)
                torch.testing.assert_close(layer.B.grad[:RANK].t(), B, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(logits[0], logits[2], atol=1e-3)


def test_lora_fa_is_lora_with_a_frozen() -> None:
    model = ours(form=BA(frozen=["A"]))
    before = [layer.A.detach().clone() for layer in Adapters(model).layers]
    reference = theirs(model)
    for name, parameter in reference.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and "lora_A" not in name)
    step_by_step(model, reference)
    assert all(torch.equal(a, layer.A) for a, layer in zip(before, Adapters(model).layers, strict=True))
    same_merged(model, reference)


def test_lora_plus_has_pefts_learning_rates() -> None:
    """A and B, that is. The head keeps its own rate here; there its bias gets that of B: so it is frozen."""
    from peft.optimizers import create_loraplus_optimizer

    ratio = 8.0
    config = OptimizerConfig(lr=LR / 2, b_lr_ratio=ratio, weight_decay=0.0)
    model = ours()
    reference = theirs(model)
    for one in (model, reference):
        for name, parameter in one.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and "classifier" not in name)

    def mine(one: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(one, config)

    def own(one: Any) -> torch.optim.Optimizer:
        return create_loraplus_optimizer(
            one,
            torch.optim.AdamW,
            lr=config.lr,
            loraplus_lr_ratio=ratio,
            betas=tuple(config.betas),
            eps=config.eps,
        )

    def rates(optimizer: Any, groups: dict[str, list[nn.Parameter]]) -> dict[str, set[float]]:
        lr = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        return {name: {lr[id(p)] for p in parameters} for name, parameters in groups.items()}

    layers = pairs(model, reference)
    expected = {"A": {config.lr}, "B": {config.lr * ratio}}
    assert rates(mine(model), {"A": [m.A for m, _ in layers], "B": [m.B for m, _ in layers]}) == expected
    own_groups = {"A": [factors(o)[0] for _, o in layers], "B": [factors(o)[1] for _, o in layers]}
    assert rates(own(reference), own_groups) == expected
    step_by_step(model, reference, mine, own)
    same_merged(model, reference)


def through_peft(base: nn.Module, folder: Path) -> Tensor:
    return peft.PeftModel.from_pretrained(base, str(folder)).eval()(**batch(padded=True)).logits


def with_classifier_of(model: Any) -> nn.Module:
    base = bert()
    base.classifier.load_state_dict(model.classifier.state_dict())
    return base


def test_pissa_starts_and_trains_as_pefts(tmp_path: Path) -> None:
    model = ours(scale_by="one", init=PiSSA())
    reference = theirs(model, init_lora_weights="pissa", lora_alpha=RANK)
    fresh = peft.get_peft_model(
        bert(),
        peft.LoraConfig(
            r=RANK, lora_alpha=RANK, target_modules=Adapters(model).names, init_lora_weights="pissa"
        ),
    )
    for layer, other in pairs(model, fresh):
        A, B = factors(other)
        signs = (layer.A[:RANK] * A).sum(1).sign()
        torch.testing.assert_close(layer.A[:RANK] * signs[:, None], A, rtol=0, atol=1e-5)
        torch.testing.assert_close(layer.B[:RANK] * signs[:, None], B.t(), rtol=0, atol=1e-5)
        torch.testing.assert_close(layer.base.weight, other.base_layer.weight, rtol=0, atol=1e-5)
    logits = bert()(**batch(padded=True)).logits
    for one in (model, reference, fresh):
        torch.testing.assert_close(one(**batch(padded=True)).logits, logits, rtol=0, atol=1e-5)
    step_by_step(model, reference)
    expected = model(**batch(padded=True)).logits
    export_adapter(model, "bert", tmp_path / "adapter")
    for kind in ("serving", "compact"):
        logits = through_peft(with_classifier_of(model), tmp_path / "adapter" / kind)
        torch.testing.assert_close(logits, expected, rtol=0, atol=2e-5)
    same_merged(model, reference)


def test_pissa_by_randomised_svd_spans_the_same_directions() -> None:
    exact, fast = ours(scale_by="one", init=PiSSA()), ours(scale_by="one", init=PiSSA(iterations=200))
    for a, b in zip(Adapters(exact).layers, Adapters(fast).layers, strict=True):
        torch.testing.assert_close(a.delta(), b.delta(), rtol=0, atol=1e-4)
        torch.testing.assert_close(a.base.weight, b.base.weight, rtol=0, atol=1e-4)


@pytest.mark.parametrize("init", [PiSSA(), MiLoRA()], ids=["pissa", "milora"])
@pytest.mark.parametrize("options", [{"scale_by": "one"}, {"lora_alpha": 6.0}], ids=["one", "alpha"])
def test_singular_inits_train_as_lora_on_the_residual(
    init: Singular, options: dict[str, Any], tmp_path: Path
) -> None:
    model = ours(init=init, **options)
    residual = bert()
    for name, layer in zip(Adapters(model).names, Adapters(model).layers, strict=True):
        residual.get_submodule(name).weight.data.copy_(layer.base.weight)
    reference = theirs(model, residual, lora_alpha=options.get("lora_alpha", RANK))
    step_by_step(model, reference)
    expected = reference(**batch(padded=True)).logits
    export_adapter(model, "bert", tmp_path / "adapter")
    logits = through_peft(with_classifier_of(model), tmp_path / "adapter" / "serving")
    torch.testing.assert_close(logits, expected, rtol=0, atol=2e-5)
    same_merged(model, reference)


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("name", ["lora", "dora"])
def test_qlora_is_lora_on_the_same_4_bit_base(name: str, double: bool) -> None:
    pytest.importorskip("bitsandbytes")
    options = Quantization(kind="nf4", double=double)
    model = ours(combine=DoRA() if name == "dora" else None)
    quantize_frozen(model, options)
    base = bert()
    for path, module in list(base.named_modules()):
        if type(module) is nn.Linear and path != "classifier" and block_of(module.in_features):
            replace(base, path, quantized(module, options))
    base.is_loaded_in_4bit = True
    reference = theirs(model, base, use_dora=name == "dora")
    for mine, own in pairs(model, reference):
        assert ("4bit" in type(own).__name__.lower()) == is_quantized(mine.base)
        assert torch.equal(dense_weight(mine.base), dense_weight(own.base_layer))
        if name == "dora":
            own.lora_magnitude_vector["default"].weight.data.copy_(mine.magnitude)
    step_by_step(model, reference)


def test_vera_is_covered_by_the_generic_tests() -> None:
    from tests.parity.test_peft_generic import ALL

    assert ALL["vera"]["_target_"] == "peft.VeraConfig"
