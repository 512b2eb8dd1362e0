"""The adapted layer: identity at the start, merging, saving, copying, moving."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from rankadapt.adapters import BA, BEA, AdapterOptions, Adapters, Form, inject, merge_and_unload
from rankadapt.adapters.linear import AdaptedLinear
from rankadapt.adapters.slots import apply
from rankadapt.boards import Change
from rankadapt.errors import ModelError
from tests.tiny import BERT_TARGETS, DEBERTA_TARGETS, MLP, batch, bert, deberta, fill, layers_of, mlp

MODELS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "bert": (bert, BERT_TARGETS),
    "deberta": (deberta, DEBERTA_TARGETS),
}
forms = pytest.mark.parametrize("form", [BA(), BEA()], ids=["ba", "bea"])
models = pytest.mark.parametrize("kind", list(MODELS))


def adapted(kind: str, form: Form, rank: int = 3, slots: int = 5, **options: Any) -> nn.Module:
    build, targets = MODELS[kind]
    return inject(build(), targets, form, rank, slots, AdapterOptions(**options))


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(**batch(padded=True)).logits


def move_ranks(model: nn.Module) -> None:
    """Take one direction from the first module and give it to the last."""
    adapters = Adapters(model)
    change = Change.none(adapters.live())
    change.pruned[0, 1] = True
    change.born[-1] = 1
    apply(adapters, change, None, "none", seed=3)


@forms
@models
def test_injection_changes_no_logit(kind: str, form: Form) -> None:
    """Law 8, to the bit; also with an update that is not computed at all (rank 0)."""
    expected = logits(MODELS[kind][0]())
    assert torch.equal(logits(adapted(kind, form)), expected)
    assert torch.equal(logits(adapted(kind, form, rank=0)), expected)
    assert not torch.equal(logits(fill(adapted(kind, form))), expected)


@forms
@models
def test_fused_and_plain_autograd_agree(kind: str, form: Form) -> None:
    results = []
    for fused in (True, False):
        model = fill(adapted(kind, form, fused=fused)).double()
        out = model(**batch(padded=True))
        out.loss.backward()
        results.append((out.loss, [p.grad for p in model.parameters() if p.requires_grad]))
    assert all(g is not None for g in results[0][1])
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-12)


@forms
@models
def test_merge_gives_the_same_logits_and_unmerge_the_same_bits(kind: str, form: Form) -> None:
    model = fill(adapted(kind, form))
    expected, before = logits(model), [layer.base.weight.clone() for layer in layers_of(model)]
    for layer in layers_of(model):
        layer.merge()
        layer.merge()  # twice is once
    assert not torch.equal(layers_of(model)[0].base.weight, before[0])
    torch.testing.assert_close(logits(model), expected)
    for layer, weight in zip(layers_of(model), before, strict=True):
        layer.unmerge()
        layer.unmerge()
        assert torch.equal(layer.base.weight, weight)
    assert torch.equal(logits(model), expected)


def test_merge_survives_a_change_of_dtype() -> None:
    (layer,) = layers_of(mlp(depth=1))
    before = layer.base.weight.detach().double()
    layer.merge()
    layer.double()
    layer.unmerge()
    assert layer.base.weight.dtype == torch.float64
    assert torch.equal(layer.base.weight, before)


def test_delta_is_computed_in_float32() -> None:
    (layer,) = layers_of(mlp(depth=1).bfloat16())
    assert layer.delta().dtype == torch.float32
    up = layer.up().detach().float()
    torch.testing.assert_close(layer.delta(), up.t() @ layer.A.detach().float())


@forms
@models
def test_merge_and_unload_leaves_a_plain_model(kind: str, form: Form) -> None:
    model = fill(adapted(kind, form))
    expected = logits(model)
    plain = merge_and_unload(model)
    assert not any(isinstance(m, AdaptedLinear) for m in plain.modules())
    torch.testing.assert_close(logits(plain), expected)
    fresh = MODELS[kind][0]()
    fresh.load_state_dict(plain.state_dict())  # the very names and shapes of the base model
    torch.testing.assert_close(logits(fresh), expected)


@forms
def test_delta_is_the_sum_of_directions(form: Form) -> None:
    (layer,) = layers_of(mlp(depth=1, form=form, rank=3))
    cores = layer.e.tolist() if isinstance(form, BEA) else [1.0] * layer.slots
    total = torch.zeros(layer.base.out_features, layer.base.in_features)
    for i in range(3):
        total += 16 / 3 * cores[i] * torch.outer(layer.B[i].detach(), layer.A[i].detach())
    torch.testing.assert_close(layer.delta(), total)


@forms
@models
def test_plain_load_state_dict_brings_moved_ranks_back(kind: str, form: Form) -> None:
    """Law 1: shapes are constant, so nothing special is needed."""
    model = fill(adapted(kind, form))
    move_ranks(model)
    first, last = layers_of(model)[0], layers_of(model)[-1]
    assert (first.rank, last.rank) == (2, 4)
    fresh = adapted(kind, form)
    fresh.load_state_dict(model.state_dict())
    assert Adapters(fresh).ranks() == Adapters(model).ranks()
    assert [float(layer.scale) for layer in layers_of(fresh)] == [
        float(layer.scale) for layer in layers_of(model)
    ]
    assert float(layers_of(fresh)[0].scale) == 8.0
    assert torch.equal(logits(fresh), logits(model))


@forms
def test_deepcopy_is_equal_and_independent(form: Form) -> None:
    model = fill(adapted("bert", form))
    Adapters(model).watch()
    move_ranks(model)
    twin = copy.deepcopy(model)
    expected = logits(model)
    assert torch.equal(logits(twin), expected)
    assert Adapters(twin).ranks() == Adapters(model).ranks()
    twin(**batch()).loss.backward()
    assert not Adapters(model).take_energies().any(), "the twin's energies went into the original"
    assert Adapters(twin).take_energies().any()
    move_ranks(twin)
    fill(twin, seed=5)
    assert torch.equal(logits(model), expected)
    assert layers_of(model)[0].rank == 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_to_dtype_converts_values_and_keeps_masks_and_energies(dtype: torch.dtype) -> None:
    model = mlp(depth=2, rank=2)
    adapters = Adapters(model)
    adapters.watch()
    model.to(dtype)
    for layer in adapters.layers:
        assert layer.A.dtype == layer.scale.dtype == dtype
        assert layer.live.dtype == torch.bool
        assert layer.rank == 2
    y = model(torch.ones(3, 6, dtype=dtype))
    assert y.dtype == dtype
    y.sum().backward()
    energies = adapters.take_energies()
    assert energies.dtype == torch.float32
    assert (energies[:, :2] > 0).all()


def test_to_meta_moves_everything_and_keeps_the_rank() -> None:
    model = mlp(depth=2, rank=2)
    adapters = Adapters(model)
    adapters.watch()
    model.to("meta")
    for layer in adapters.layers:
        tensors = [*layer.state_dict().values(), layer.scale, layer.probe]
        assert {t.device.type for t in tensors if t is not None} == {"meta"}
        assert layer.rank == 2
    assert model(torch.ones(3, 6, device="meta")).shape == (3, 6)


@pytest.mark.parametrize(("scaling", "after"), [("current", 16.0), ("initial", 8.0)])
def test_scale_follows_the_rank_only_if_asked(scaling: Any, after: float) -> None:
    model = mlp(depth=2, rank=2, options=AdapterOptions(scaling=scaling))
    assert [float(layer.scale) for layer in layers_of(model)] == [8.0, 8.0]
    move_ranks(model)
    assert Adapters(model).ranks() == [1, 3]
    assert float(layers_of(model)[0].scale) == after
    fresh = mlp(depth=2, rank=2, options=AdapterOptions(scaling=scaling))
    fresh.load_state_dict(model.state_dict())
    assert float(layers_of(fresh)[0].scale) == after


@forms
def test_rank_zero_is_the_base_layer_and_trains(form: Form) -> None:
    model = mlp(depth=1, rank=0, form=form)
    (layer,) = layers_of(model)
    x = torch.randn(3, 6)
    assert torch.equal(layer(x), layer.base(x))
    Adapters(model).watch()
    layer(x).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in layer.slot_parameters().values())
    assert float(layer.scale) == 16.0  # a scale of a rank of 0 would be infinite


def test_dropout_acts_on_the_branch_only_and_only_in_training() -> None:
    (layer,) = layers_of(mlp(depth=1, options=AdapterOptions(dropout=0.5)))
    x = torch.ones(64, 6)
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[1])
    layer.train()
    torch.manual_seed(0)
    with torch.no_grad():
        dropped = layer(x) - layer.base(x)
        torch.manual_seed(0)
        by_hand = layer.dropout(x) @ layer.delta().t()
    torch.testing.assert_close(dropped, by_hand)
    assert not torch.equal(dropped[0], dropped[1])


def test_only_slots_are_trainable_and_their_shapes_are_constant() -> None:
    model = mlp(depth=2, slots=4, rank=[1, 3])
    trainable = {n: tuple(p.shape) for n, p in model.named_parameters() if p.requires_grad}
    assert trainable == {
        "layers.0.A": (4, 6), "layers.0.B": (4, 7), "layers.0.e": (4,),
        "layers.1.A": (4, 7), "layers.1.B": (4, 6), "layers.1.e": (4,),
    }  # fmt: skip
    move_ranks(fill(mlp(depth=2, slots=4, rank=[2, 2])))
    assert {n: tuple(p.shape) for n, p in model.named_parameters() if p.requires_grad} == trainable


def test_initial_values() -> None:
    (ba,) = layers_of(mlp(depth=1, form=BA(), filled=False, width=64, slots=32, rank=32))
    assert not ba.B.any()
    assert float(ba.A.detach().abs().max()) <= 1 / 8
    assert float(ba.A.detach().std()) == pytest.approx(1 / 8 / 3**0.5, rel=0.05)  # uniform on +-1/sqrt(64)
    (bea,) = layers_of(mlp(depth=1, form=BEA(std=0.05), filled=False, width=64, slots=32, rank=32))
    assert not bea.e.any()
    assert float(bea.A.detach().std()) == pytest.approx(0.05, rel=0.05)
    assert float(bea.B.detach().std()) == pytest.approx(0.05, rel=0.05)


def test_initial_values_follow_the_seed_and_differ_between_modules() -> None:
    same, again, other = (layers_of(mlp(depth=3, seed=seed, filled=False)) for seed in (0, 0, 1))
    assert torch.equal(same[0].A, again[0].A)
    assert not torch.equal(same[0].A, other[0].A)
    assert not torch.equal(same[0].A, same[2].A)
    assert not torch.equal(same[0].A[0, :4], same[0].B[0, :4])


@pytest.mark.parametrize("seed", [2**31 - 1, 2**32 - 1, 20_240_601_123])
def test_any_seed_can_be_used(seed: int) -> None:
    model = MLP()
    inject(model, ["layers.*"], BEA(), 2, 4, seed=seed)
    change = Change.none(Adapters(model).live())
    change.born[0] = 1
    apply(Adapters(model), change, None, "changed", seed=seed * 1_000_003 + 5)
    assert layers_of(model)[0].A[2].any()


def test_adapters_need_adapted_layers_of_equal_slots() -> None:
    with pytest.raises(ModelError, match="no adapted layer"):
        Adapters(MLP())
    model = MLP()
    inject(model, ["layers.0"], BA(), 1, 3)
    model.layers[1] = AdaptedLinear(model.layers[1], BA(), 4, 1, AdapterOptions(), 0)
    with pytest.raises(ModelError, match="number of slots"):
        Adapters(model)


def test_weight_and_bias_of_the_base_can_be_looked_at() -> None:
    (layer,) = layers_of(mlp(depth=1))
    assert layer.weight is layer.base.weight
    assert layer.bias is layer.base.bias


def test_several_views_of_one_model_share_the_token_weights() -> None:
    model = mlp(depth=2)
    first = Adapters(model)
    first.watch()
    second = Adapters(model)  # someone only wants to look at the ranks
    first.tokens.values = (torch.tensor([1.0, 0.0, 0.0]),)
    model(torch.ones(3, 6)).sum().backward()
    weighted = second.take_energies()
    first.tokens.values = ()
    model(torch.ones(3, 6)).sum().backward()
    torch.testing.assert_close(first.take_energies(), 3 * weighted)
