"""Where the slots' values come from: PiSSA, MiLoRA and EVA against literal decompositions."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rankadapt.adapters import (
    BA,
    BEA,
    EVA,
    AdapterOptions,
    Form,
    MiLoRA,
    PiSSA,
    Quantization,
    Tri,
    inject,
)
from rankadapt.adapters.initial.singular import Singular
from rankadapt.adapters.inject import linear_targets
from rankadapt.adapters.quantize import dense_weight, is_quantized, quantize_frozen
from rankadapt.export.peft import folded_factors
from tests.composed import run_small
from tests.tiny import BERT_TARGETS, MLP, batch, bert, layers_of, uneven

SINGULAR = {"pissa": PiSSA(), "milora": MiLoRA()}
SCALES: dict[str, dict[str, Any]] = {
    "one": {"scale_by": "one"},
    "alpha": {"lora_alpha": 16.0},
    "small": {"lora_alpha": 0.5},
    "rslora": {"scale_by": "sqrt_rank", "lora_alpha": 7.0},
    "initial": {"scaling": "initial", "eps": 1e-5},
}
FORMS = {"ba": BA(), "bea": BEA()}
RANK, SLOTS = 3, 5


def adapted(init: Singular, form: Form | None = None, **options: Any) -> nn.Module:
    return inject(bert(), BERT_TARGETS, form or BA(), RANK, SLOTS, AdapterOptions(**options), init=init)


def logits(model: nn.Module) -> Tensor:
    return model(**batch(padded=True)).logits.detach()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SINGULAR)
def test_nothing_changes_at_injection(name: str, form: str, scale: str) -> None:
    model, reference = adapted(SINGULAR[name], FORMS[form], **SCALES[scale]), bert()
    torch.testing.assert_close(logits(model), logits(reference), rtol=0, atol=1e-5)
    for layer, target in zip(layers_of(model), linear_targets(reference, BERT_TARGETS).values(), strict=True):
        W = target.weight.detach()
        assert not torch.allclose(layer.base.weight, W, atol=1e-3)
        torch.testing.assert_close(layer.base.weight + layer.delta(), W, rtol=0, atol=1e-5)
        U, S, V = torch.linalg.svd(W, full_matrices=False)
        part = slice(RANK) if name == "pissa" else slice(len(S) - RANK, None)
        expected = U[:, part] * S[part] @ V[part]
        torch.testing.assert_close(layer.delta(), expected, rtol=0, atol=1e-5)
        for parameter in layer.slot_parameters().values():
            assert parameter[:RANK].all()
            assert not parameter[RANK:].any()


@pytest.mark.parametrize("name", SINGULAR)
def test_the_factors_are_what_the_docstring_says(name: str) -> None:
    for layer in layers_of(adapted(SINGULAR[name], BA(), scale_by="one")):
        torch.testing.assert_close(layer.A.norm(dim=1), layer.B.norm(dim=1), rtol=1e-4, atol=1e-5)
    for layer in layers_of(adapted(SINGULAR[name], BEA(), scale_by="one")):
        for factor in (layer.A[:RANK], layer.B[:RANK]):
            torch.testing.assert_close(factor @ factor.t(), torch.eye(RANK), rtol=0, atol=1e-5)


def test_a_form_that_holds_no_triplets_is_told_apart() -> None:
    assert BA().holds_triplets
    assert BEA().holds_triplets
    assert not Tri().holds_triplets


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SINGULAR)
def test_a_checkpoint_whose_triplets_have_other_signs_or_values(name: str, form: str) -> None:
    """Another machine's SVD: its residual, its factors, its outputs."""
    other = adapted(SINGULAR[name], FORMS[form])
    with torch.no_grad():
        for layer in layers_of(other):
            signs = torch.tensor([-1.0, 1.0, -1.0])[:, None]
            noise = 0.01 * torch.randn(layer.initial_A.shape)
            layer.base.weight += layer.initial_P.t() @ layer.initial_A
            layer.initial_A.copy_(layer.initial_A * signs + noise)
            layer.initial_P.mul_(signs)
            layer.base.weight -= layer.initial_P.t() @ layer.initial_A
            layer.B[:RANK] += 0.1 * torch.randn(RANK, layer.out_features)
    own = {n: v for n, v in other.state_dict().items() if ".base." not in n}
    model = adapted(SINGULAR[name], FORMS[form])
    before = logits(model)
    model.load_state_dict(own, strict=False)
    torch.testing.assert_close(logits(model), logits(other), rtol=0, atol=2e-5)
    assert not torch.allclose(logits(model), before, atol=1e-3)
    for a, b in zip(layers_of(model), layers_of(other), strict=True):
        torch.testing.assert_close(a.base.weight, b.base.weight, rtol=0, atol=1e-5)
        assert torch.equal(a.initial_A, b.initial_A)


def test_loading_its_own_factors_leaves_the_base_bit_for_bit() -> None:
    model = adapted(PiSSA())
    own = copy.deepcopy({n: v for n, v in model.state_dict().items() if ".base." not in n})
    weights = [layer.base.weight.clone() for layer in layers_of(model)]
    model.load_state_dict(own, strict=False)
    assert all(torch.equal(w, layer.base.weight) for w, layer in zip(weights, layers_of(model), strict=True))


@pytest.mark.parametrize("name", SINGULAR)
def test_a_4_bit_base_is_the_residual_quantised(name: str) -> None:
    pytest.importorskip("bitsandbytes")
    model = adapted(SINGULAR[name])
    residuals = [layer.base.weight.clone() for layer in layers_of(model)]
    quantize_frozen(model, Quantization(kind="nf4"))
    wide = [(layer, r) for layer, r in zip(layers_of(model), residuals, strict=True) if r.shape[1] % 32 == 0]
    assert wide
    for layer, residual in wide:
        assert is_quantized(layer.base)
        error = (dense_weight(layer.base) - residual).abs().max()
        assert 0 < error < 0.2 * residual.abs().max()


@pytest.mark.parametrize("name", SINGULAR)
def test_an_adapter_for_the_original_weight_has_twice_the_rank(name: str) -> None:
    model, reference = adapted(SINGULAR[name]), bert()
    with torch.no_grad():
        for layer in layers_of(model):
            layer.B[:RANK] += 0.1 * torch.randn(RANK, layer.out_features)
    expected = logits(model)
    factors = folded_factors(model)
    assert factors is not None
    for path, (A, B) in factors.items():
        assert A.shape[0] == B.shape[1] == 2 * RANK
        reference.get_submodule(path).weight.data += B @ A
    torch.testing.assert_close(logits(reference), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_bases_are_decomposed_in_single(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = MLP(8, depth=2).to(dtype)
    W = model.layers[0].weight.float().clone()  # type: ignore[union-attr,operator]
    inject(model, ["layers.*"], BA(), RANK, SLOTS, init=PiSSA())
    layer = layers_of(model)[0]
    assert layer.base.weight.dtype == dtype
    torch.testing.assert_close(layer.base.weight.float() + layer.delta(), W, rtol=0, atol=2e-2)


def test_the_runs_own_random_state_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    model, state = bert(), torch.random.get_rng_state()
    inject(model, BERT_TARGETS, BA(), RANK, SLOTS, init=PiSSA(iterations=4))
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), expected)


def captured(model: nn.Module, batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The inputs of every target, stacked (N, d_in), padding left out, less their mean."""
    seen: dict[str, list[Tensor]] = {}
    hooks = [
        layer.register_forward_pre_hook(
            lambda _, args, n=name: seen.setdefault(n, []).append(args[0][one["attention_mask"].bool()])
        )
        for name, layer in linear_targets(model, BERT_TARGETS).items()
    ]
    with torch.no_grad():
        for one in batches:
            model(**one)
    for hook in hooks:
        hook.remove()
    stacked = {name: torch.cat(parts).double() for name, parts in seen.items()}
    return {name: rows - rows.mean(0) for name, rows in stacked.items()}


def masked(batches: list[dict[str, Tensor]]) -> list[tuple[dict[str, Tensor], tuple[Tensor, ...]]]:
    return [(one, (one["attention_mask"],)) for one in batches]


def surveyed(init: EVA, batches: list[dict[str, Tensor]]) -> tuple[nn.Module, dict[str, nn.Linear]]:
    model = uneven(0.5).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    targets = linear_targets(model, BERT_TARGETS)
    init.survey(model, targets, masked(batches))
    assert model.training
    assert not any(layer._forward_pre_hooks for layer in targets.values())
    return model, targets


BATCHES = [batch(6, seed=s, padded=True) for s in range(3)]


def test_eva_finds_the_singular_vectors_of_the_stacked_inputs() -> None:
    init = EVA(redistribute=False)
    model, targets = surveyed(init, BATCHES)
    inputs = captured(uneven(0.5), BATCHES)
    ranks = init.ranks(targets, [RANK] * len(targets), 1, SLOTS)
    assert ranks == [RANK] * len(targets)
    assert not init.surveys
    before = logits(model.eval())
    inject(model, BERT_TARGETS, BA(), ranks, SLOTS, init=init)
    torch.testing.assert_close(logits(model), before, rtol=0, atol=1e-6)
    for name, layer in zip(targets, layers_of(model), strict=True):
        V = torch.linalg.svd(inputs[name], full_matrices=False)[2][:RANK].float()
        A = layer.A[:RANK].detach()
        signs = (A * V).sum(1).sign()[:, None]
        torch.testing.assert_close(A, V * signs, rtol=0, atol=1e-4)
        torch.testing.assert_close(A @ A.t(), torch.eye(RANK), rtol=0, atol=1e-5)
        assert not layer.A[RANK:].any()
        assert not layer.B.any()


@pytest.mark.parametrize(("least", "most"), [(1, 16), (0, 8), (3, 3), (2, 4)])
def test_eva_spends_the_budget_on_the_largest_explained_variances(least: int, most: int) -> None:
    init = EVA()
    _, targets = surveyed(init, BATCHES)
    even = [3] * len(targets)
    ranks = init.ranks(targets, even, least, most)
    assert init.surveys
    assert sum(ranks) == sum(even)
    assert all(least <= r <= most for r in ranks)
    inputs = captured(uneven(0.5), BATCHES)
    shares = []
    for name in targets:
        squares = torch.linalg.svdvals(inputs[name]).square()
        shares.append((squares / squares.sum())[:most])
    free = torch.cat([s[least:] for s in shares]).sort(descending=True).values
    most_possible = sum(s[:least].sum() for s in shares) + free[: sum(even) - least * len(targets)].sum()
    explained = sum(s[:r].sum() for s, r in zip(shares, ranks, strict=True))
    assert float(explained) == pytest.approx(float(most_possible), rel=1e-6)
    assert most == least or len(set(ranks)) > 1


def test_eva_within_a_budget_of_parameters() -> None:
    """The directions in the order of what they explain, each taken if it can still be paid for."""
    model = uneven(0.5)
    targets = linear_targets(model, BERT_TARGETS)
    init = EVA()
    init.survey(model, targets, masked(BATCHES))
    costs = [layer.in_features + layer.out_features for layer in targets.values()]
    even = [3] * len(targets)
    ranks = init.ranks(targets, even, 1, 6, costs)
    spent, budget = (sum(r * c for r, c in zip(rs, costs, strict=True)) for rs in (ranks, even))
    assert budget - min(costs) < spent <= budget
    assert all(1 <= r <= 6 for r in ranks)
    assert ranks != init.ranks(targets, even, 1, 6)
    assert init.ranks(targets, even, 1, 6, [7] * len(targets)) == init.ranks(targets, even, 1, 6)


def test_eva_without_a_survey_is_refused() -> None:
    with pytest.raises(RuntimeError, match="survey"):
        inject(bert(), BERT_TARGETS, BA(), RANK, SLOTS, init=EVA())


def test_a_run_with_eva_keeps_the_budget(tmp_path: Path) -> None:
    ranks = run_small(tmp_path, "eva", "budget.rank=3", "init.batches=2")["rank"]
    initial = {m["initial"] for m in ranks["modules"].values()}
    assert ranks["total"]["initial"] == ranks["total"]["final"] == 3 * 12
    assert len(initial) > 1
