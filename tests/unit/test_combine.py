"""How updates meet the base weight: dense formulas, merged weights, energies; on plain and on 4-bit bases."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from rankadapt.adapters import (
    BA,
    BEA,
    AdapterOptions,
    Adapters,
    Add,
    Combine,
    DoRA,
    Form,
    HiRA,
    Init,
    MiLoRA,
    PiSSA,
    Quantization,
    Tri,
    inject,
    merge_and_unload,
)
from rankadapt.adapters.combine.dora import row_norms
from rankadapt.adapters.quantize import (
    block_of,
    dense_weight,
    is_quantized,
    plain,
    quantize_frozen,
    quantized,
    quantized_linear,
)
from rankadapt.control import Controller, Schedule
from rankadapt.policies import Bidirectional
from rankadapt.scorers import Hebbian
from tests.composed import run_small
from tests.tiny import BERT_TARGETS, MLP, batch, bert, fill, layers_of, slot_parameters

NF4 = Quantization(kind="nf4")
COMBINES = {"add": Add(), "dora": DoRA(), "hira": HiRA()}
FORMS = {"ba": BA(), "bea": BEA(), "tri": Tri()}
WIDTH, SLOTS, RANK = 32, 5, 3


def adapted(
    combine: Combine | None = None,
    form: Form | None = None,
    base: str = "plain",
    init: Init | None = None,
    filled: bool = True,
    **options: Any,
) -> nn.Module:
    """An adapted MLP whose magnitudes, if it has any, are not what they started as."""
    torch.manual_seed(0)
    model = MLP(WIDTH, depth=3)
    settings = AdapterOptions(lora_alpha=2.0, **options)
    inject(model, ["layers.*"], form or BA(), RANK, SLOTS, settings, seed=1, combine=combine, init=init)
    if filled:
        fill(model)
    for layer in layers_of(model):
        for value in layer.extra_parameters().values():
            value.data.mul_(torch.linspace(0.5, 2, len(value)))
    if base == "nf4":
        pytest.importorskip("bitsandbytes")
        quantize_frozen(model, NF4)
    return model


def inputs(size: int = 5) -> Tensor:
    return torch.randn(size, WIDTH, generator=torch.Generator().manual_seed(7))


def literal(layer: Any, x: Tensor) -> Tensor:
    """The dense formula of each combination."""
    W, delta = dense_weight(layer.base).float(), layer.delta()
    if isinstance(layer.combine, DoRA):
        direction = W + delta
        W = layer.magnitude[:, None] * direction / direction.square().sum(1, keepdim=True).sqrt().detach()
    else:
        W = W * (1 + delta) if isinstance(layer.combine, HiRA) else W + delta
    return F.linear(x, W, layer.bias)


@pytest.mark.parametrize("rank", [0, 1, 6])
def test_row_norms_are_those_of_the_dense_weight(rank: int) -> None:
    torch.manual_seed(0)
    W, A, P = torch.randn(9, 7), torch.randn(rank, 7), torch.randn(rank, 9)
    torch.testing.assert_close(row_norms(W, A, P), (W + P.t() @ A).norm(dim=1), rtol=1e-5, atol=1e-6)


def test_row_norms_of_a_row_that_the_update_cancels() -> None:
    W = torch.randn(3, 4)
    assert (row_norms(W, W[:1], torch.tensor([[-1.0, 0, 0]]))[0] < 1e-3).all()


@pytest.mark.parametrize("base", ["plain", "nf4"])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", COMBINES)
def test_the_forward_pass_and_its_gradients_are_the_formula(
    name: str, form: str, fused: bool, base: str
) -> None:
    model = adapted(COMBINES[name], FORMS[form], base, fused=fused)
    for layer in layers_of(model):
        x = torch.randn(6, layer.in_features, requires_grad=True)
        wanted = [x, *layer.slot_parameters().values(), *layer.extra_parameters().values()]
        y, expected = layer(x), literal(layer, x)
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
        g = torch.randn_like(y)
        for a, b in zip(
            torch.autograd.grad(y, wanted, g), torch.autograd.grad(expected, wanted, g), strict=True
        ):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("base", ["plain", "nf4"])
@pytest.mark.parametrize("init", [None, PiSSA(), MiLoRA()], ids=["none", "pissa", "milora"])
@pytest.mark.parametrize("name", COMBINES)
def test_the_merged_layer_does_the_same_and_unmerge_brings_the_base_back(
    name: str, init: Init | None, base: str, dropout: float
) -> None:
    if init is not None and name == "hira":
        pytest.skip("HiRA leaves the base whole")
    model = adapted(COMBINES[name], base=base, init=init, filled=init is None, dropout=dropout).eval()
    bases = [layer.base for layer in layers_of(model)]
    weights = [layer.base.weight.clone() for layer in layers_of(model)]
    expected = model(inputs())
    for layer in layers_of(model):
        layer.merge()
        assert not is_quantized(layer.base)
        layer.merge()
    torch.testing.assert_close(model(inputs()), expected, rtol=1e-4, atol=1e-5)
    for layer, old, weight in zip(layers_of(model), bases, weights, strict=True):
        layer.unmerge()
        assert layer.base is old
        assert torch.equal(layer.base.weight, weight)
        assert is_quantized(layer.base) == (base == "nf4" and block_of(layer.in_features) is not None)
    assert torch.equal(model(inputs()), expected)
    merged = merge_and_unload(model)
    assert all(type(layer) is nn.Linear for layer in merged.layers)  # type: ignore[union-attr]
    torch.testing.assert_close(merged(inputs()), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["dora", "hira"])
def test_nothing_changes_at_injection(name: str) -> None:
    torch.manual_seed(0)
    plain_model = MLP(WIDTH, depth=3)
    expected = plain_model(inputs())
    inject(plain_model, ["layers.*"], BA(), RANK, SLOTS, combine=COMBINES[name])
    torch.testing.assert_close(plain_model(inputs()), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("base", ["plain", "nf4"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("name", COMBINES)
def test_activation_energies_are_the_literal_ones(name: str, dropout: float, base: str) -> None:
    """``||X A_i||^2`` of what the update's branch saw, over live slots."""
    model = adapted(COMBINES[name], base=base, dropout=dropout).train()
    layer = layers_of(model)[0]
    layer.watch()
    seen: list[Tensor] = []
    layer.dropout.register_forward_hook(lambda _, __, out: seen.append(out.detach()))
    x = torch.randn(2, 6, WIDTH)
    weights = torch.tensor([[1.0] * 6, [1.0] * 3 + [0.0] * 3])
    layer.tokens.values = (weights,)
    for _ in range(2):
        layer(x).square().sum().backward()
    branches = seen or [x, x]
    expected = sum(((b @ layer.A.t()).square() * weights[..., None]).sum((0, 1)) for b in branches)
    assert layer.probe is not None
    torch.testing.assert_close(layer.probe.grad, expected.detach(), rtol=1e-5, atol=1e-5)
    assert (layer.probe.grad[:RANK] > 0).all()
    assert not layer.probe.grad[RANK:].any()


@pytest.mark.parametrize("name", ["dora", "hira"])
@pytest.mark.parametrize("form", ["ba", "bea"])
def test_hebira_moves_ranks_by_their_scores(name: str, form: str) -> None:
    model = adapted(COMBINES[name], FORMS[form])
    adapters = Adapters(model)
    controller = Controller(adapters, Bidirectional(k=2), Hebbian(), Schedule(t_i=2, delta_t=2, t_f=2))
    controller.start(10)
    magnitudes = [p for layer in adapters.layers for p in layer.extra_parameters().values()]
    optimizer = torch.optim.AdamW([*slot_parameters(model), *magnitudes], 1e-2)
    for step in range(1, 11):
        optimizer.zero_grad()
        (model(inputs(16)) - 0.3).square().mean().backward()
        if step == 1:
            x, layer = inputs(16), adapters.layers[0]
            alpha = (x @ layer.A.t()).norm(dim=0)
            gamma = layer.B.grad.norm(dim=1)
            core = torch.ones(SLOTS) if form == "ba" else layer.e.abs()
            expected = (core * alpha * gamma)[:RANK].detach()
        controller.observe()
        if step == 1:
            assert controller.scorer is not None
            scores = controller.scorer.scores()[0, :RANK]
            torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-6)
        optimizer.step()
        controller.adjust(step, optimizer)
    assert sum(adapters.ranks()) == RANK * len(adapters)
    assert sum(row["born"] for row in controller.trace.rows) == 6
    torch.testing.assert_close(
        adapters.layers[0](inputs()), literal(adapters.layers[0], inputs()), rtol=1e-4, atol=1e-5
    )


def test_magnitudes_outlive_a_rank_change_and_a_checkpoint() -> None:
    model = adapted(DoRA())
    magnitudes = [layer.magnitude.clone() for layer in layers_of(model)]
    other = adapted(DoRA(), filled=False)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(inputs()), model(inputs()))
    for layer, magnitude in zip(layers_of(model), magnitudes, strict=True):
        assert "magnitude" in layer.own_names()
        layer.resize(1)
        assert torch.equal(layer.magnitude, magnitude)


def linear(bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(64, 48, bias)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("double", [True, False])
def test_a_4_bit_layer(bias: bool, double: bool) -> None:
    pytest.importorskip("bitsandbytes")
    layer = linear(bias)
    packed = quantized(layer, Quantization(kind="nf4", double=double))
    assert is_quantized(packed)
    assert not is_quantized(layer)
    assert packed.weight.numel() == 64 * 48 // 2
    assert not any(p.requires_grad for p in packed.parameters())
    dense = dense_weight(packed)
    assert dense.shape == (48, 64)
    assert dense_weight(layer) is layer.weight
    assert 0 < (dense - layer.weight).abs().max() < 0.2 * layer.weight.abs().max()
    x = torch.randn(3, 5, 64, requires_grad=True)
    y, expected = quantized_linear(packed, x, layer.bias), F.linear(x, dense, layer.bias)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    g = torch.randn_like(y)
    torch.testing.assert_close(torch.autograd.grad(y, x, g)[0], g @ dense, rtol=1e-5, atol=1e-5)
    back = plain(packed, dense)
    assert type(back) is nn.Linear
    assert torch.equal(back(x), expected)


def test_only_frozen_linear_layers_are_quantised() -> None:
    pytest.importorskip("bitsandbytes")
    model = inject(bert(), BERT_TARGETS, BA(), 2, 3, trainable=["classifier"])
    before = [n for n, m in model.named_modules() if type(m) is nn.Linear]
    quantize_frozen(model, Quantization())
    assert [n for n, m in model.named_modules() if type(m) is nn.Linear] == before
    quantize_frozen(model, NF4)
    left = {n: m for n, m in model.named_modules() if type(m) is nn.Linear and n != "classifier"}
    assert all(block_of(m.in_features) is None for m in left.values())  # widths of 16
    assert sum(is_quantized(layer.base) for layer in layers_of(model)) == 2  # those of 32
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    model(**batch()).loss.backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == trained


def test_the_layer_that_gives_logits_stays_as_it_is() -> None:
    pytest.importorskip("bitsandbytes")
    sizes = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1}
    config = AutoConfig.for_model("llama", **sizes, num_attention_heads=1)
    model = AutoModelForCausalLM.from_config(config).requires_grad_(False)
    quantize_frozen(model, NF4)
    assert [n for n, m in model.named_modules() if type(m) is nn.Linear] == ["lm_head"]


def test_what_a_checkpoint_holds_of_a_4_bit_layer_is_not_its_base() -> None:
    layer = layers_of(adapted(DoRA(), base="nf4", init=PiSSA()))[0]
    assert set(layer.own_names()) == {"A", "B", "live", "ahead", "magnitude", "initial_A", "initial_P"}


@pytest.mark.parametrize("more", [[], ["combine=dora"], ["init=pissa"]], ids=["lora", "dora", "pissa"])
def test_the_checkpoint_of_a_4_bit_run_holds_no_base(more: list[str], tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    run_small(tmp_path, "qlora", "trainer.max_steps=4", *more)
    state = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=False)["state_dict"]
    assert any(name.endswith("query.A") for name in state)
    assert not any(".base." in name or "quant" in name or "absmax" in name for name in state)
    assert not any(value.dtype == torch.uint8 for value in state.values())


@pytest.mark.parametrize("name", COMBINES)
def test_a_4_bit_model_can_be_copied_and_goes_on_alike(name: str) -> None:
    model = adapted(COMBINES[name], base="nf4")
    twin = copy.deepcopy(model)
    assert torch.equal(model(inputs()), twin(inputs()))


def test_missing_bitsandbytes_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from rankadapt.adapters import quantize
    from rankadapt.errors import ModelError

    monkeypatch.setattr(quantize, "find_spec", lambda _: None)
    assert Quantization().problems() == []
    with pytest.raises(ModelError, match="bitsandbytes is not installed"):
        quantized(linear(), NF4)
