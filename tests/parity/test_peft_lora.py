"""Form ``ba`` with a static rank is LoRA: the same losses and weights as peft's, step by step."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rankadapt.adapters import BA, AdapterOptions, Adapters, inject, merge_and_unload
from tests.tiny import BERT_TARGETS, batch, bert

peft = pytest.importorskip("peft")

STEPS, RANK, ALPHA = 50, 4, 12
TARGETS = r".*\.(attention\.self\.(query|value)|output\.dense)"  # peft's way to say BERT_TARGETS


def ours(slots: int, fused: bool, bias: str) -> nn.Module:
    options = AdapterOptions(lora_alpha=ALPHA, fused=fused)
    model = inject(bert(), BERT_TARGETS, BA(), RANK, slots, options, trainable=["classifier"])
    for layer in Adapters(model).layers:
        layer.base.bias.requires_grad_(bias == "lora_only")
    return model


def theirs(like: nn.Module, bias: str, **config: Any) -> nn.Module:
    """peft's model, with the initial ``A`` of ours (``B`` is zero in both)."""
    lora = peft.LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules=TARGETS, lora_dropout=0.0, bias=bias,
        modules_to_save=["classifier"], **config,
    )  # fmt: skip
    model = peft.get_peft_model(bert(), lora)
    wrapped = {
        n.removeprefix("base_model.model."): m for n, m in model.named_modules() if hasattr(m, "lora_A")
    }
    adapters = Adapters(like)
    assert list(wrapped) == adapters.names
    for name, layer in zip(adapters.names, adapters.layers, strict=True):
        wrapped[name].lora_A["default"].weight.data.copy_(layer.A[:RANK])
        assert not wrapped[name].lora_B["default"].weight.any()
    return model


def train(model: nn.Module) -> Tensor:
    """(STEPS,) the losses of AdamW steps on the same batches."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 5e-3, weight_decay=0.05)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = model(**batch(8, seed=step % 5, padded=True)).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


@functools.cache
def peft_run(bias: str) -> tuple[Tensor, int, dict[str, Tensor]]:
    """The losses, the number of trained parameters, and the merged weights that peft ends with."""
    model = theirs(ours(RANK, True, bias), bias)
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return train(model), count, model.merge_and_unload().state_dict()


@pytest.mark.parametrize("bias", ["none", "lora_only"])
@pytest.mark.parametrize(("slots", "fused"), [(RANK, True), (RANK + 3, True), (RANK, False)])
def test_the_same_losses_and_merged_weights(slots: int, fused: bool, bias: str) -> None:
    """Free slots change nothing; neither does a trained bias."""
    model = ours(slots, fused, bias)
    expected, count, weights = peft_run(bias)
    assert count == sum(
        p[:RANK].numel() if name.endswith((".A", ".B")) else p.numel()
        for name, p in model.named_parameters()
        if p.requires_grad
    )
    losses = train(model)
    assert float(expected[-5:].mean()) < 0.7 * float(expected[:5].mean()), (
        "nothing was learned: proves nothing"
    )
    torch.testing.assert_close(losses, expected, rtol=0, atol=1e-5)
    merged = merge_and_unload(model).state_dict()
    assert merged.keys() == weights.keys()
    for key, value in weights.items():
        torch.testing.assert_close(
            merged[key], value, rtol=0, atol=1e-5, msg=lambda m, key=key: f"{key}: {m}"
        )


def test_the_initial_draw_has_pefts_law() -> None:
    """Kaiming-uniform with a = sqrt(5): the same bounds and spread, if not the same numbers."""
    model = ours(RANK, True, "none")
    reference = peft.get_peft_model(
        bert(seed=0), peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS)
    )
    A = torch.cat([layer.A.detach().flatten() * layer.A.shape[1] ** 0.5 for layer in Adapters(model).layers])
    peft_A = [m.lora_A["default"].weight for m in reference.modules() if hasattr(m, "lora_A")]
    peft_A = torch.cat([a.detach().flatten() * a.shape[1] ** 0.5 for a in peft_A])
    assert A.abs().max() <= 1
    assert peft_A.abs().max() <= 1
    error = 4 * (1 / 3) / (2 * len(A)) ** 0.5  # four standard errors, generously
    assert float(A.std()) == pytest.approx(float(peft_A.std()), abs=2 * error)
