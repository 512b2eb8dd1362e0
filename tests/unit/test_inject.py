"""Which layers are adapted, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rankadapt.adapters import BA, BEA, Adapters, inject, spread
from rankadapt.errors import ModelError
from tests.tiny import BERT_TARGETS, DEBERTA_TARGETS, MLP, bert, deberta_config


def snapshot(model: nn.Module) -> tuple[list[str], list[bool]]:
    return [f"{n}:{type(m).__name__}" for n, m in model.named_modules()], [
        p.requires_grad for p in model.parameters()
    ]


def test_every_pattern_that_fits_nothing_is_named_with_a_suggestion() -> None:
    model = bert()
    before = snapshot(model)
    with pytest.raises(ModelError) as caught:
        inject(model, ["*.self.quer", "*.self.value", "*.attention.denze", "zzz"], BA(), 2, 4)
    text = str(caught.value)
    assert [p.value for p in caught.value.problems] == ["*.self.quer", "*.attention.denze", "zzz"]
    assert "did you mean one of: query" in text
    assert "dense" in text
    assert {p.path for p in caught.value.problems} == {"targets"}
    assert snapshot(model) == before, "a refused injection must leave the model alone"


def test_no_pattern_is_refused() -> None:
    with pytest.raises(ModelError, match="no pattern"):
        inject(bert(), [], BA(), 2, 4)


def test_trainable_patterns_are_checked_before_anything_is_replaced() -> None:
    model = bert()
    before = snapshot(model)
    with pytest.raises(ModelError) as caught:
        inject(model, BERT_TARGETS, BA(), 2, 4, trainable=["clasifier"])
    assert [(p.path, p.value) for p in caught.value.problems] == [("trainable", "clasifier")]
    assert "classifier" in str(caught.value)
    assert snapshot(model) == before


def test_targets_that_are_no_linear_layers_are_all_named() -> None:
    model = bert()
    before = snapshot(model)
    with pytest.raises(ModelError) as caught:
        inject(model, ["*.embeddings.LayerNorm", "bert.encoder", "*.self.query"], BA(), 2, 4)
    assert [p.path for p in caught.value.problems] == ["bert.embeddings.LayerNorm", "bert.encoder"]
    assert [p.value for p in caught.value.problems] == ["LayerNorm", "BertEncoder"]
    assert snapshot(model) == before


def test_adapting_twice_is_refused() -> None:
    model = inject(bert(), BERT_TARGETS, BA(), 2, 4)
    with pytest.raises(ModelError, match=r"only nn\.Linear"):
        inject(model, BERT_TARGETS, BA(), 2, 4)


@pytest.mark.parametrize(("rank", "slots"), [(5, 4), (7, 8), (-1, 4)])
def test_ranks_that_do_not_fit_are_refused(rank: int, slots: int) -> None:
    model = MLP(width=6)  # 7x6 and 6x7
    before = snapshot(model)
    with pytest.raises(ModelError) as caught:
        inject(model, ["layers.*"], BA(), rank, slots)
    assert [(p.path, p.value) for p in caught.value.problems] == [("layers.0", rank), ("layers.1", rank)]
    assert "7x6" in str(caught.value)
    assert snapshot(model) == before


def test_ranks_per_module_and_limits_cut_to_the_layer() -> None:
    model = inject(MLP(width=6), ["layers.*"], BA(), [6, 0], slots=10)
    adapters = Adapters(model)
    assert adapters.ranks() == [6, 0]
    assert adapters.live().tolist() == [[True] * 6 + [False] * 4, [False] * 10]
    assert adapters.limits(1, None).maximum.tolist() == [6, 6]
    assert adapters.limits(1, 3).maximum.tolist() == [3, 3]
    assert adapters.limits(2, None).minimum.tolist() == [2, 2]


def test_what_is_frozen_and_what_is_trained() -> None:
    model = inject(bert(), BERT_TARGETS, BEA(), 2, 4, trainable=["bert.pooler", "classifier"])
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    heads = {"bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias"}
    slots = {f"{name}.{key}" for name in Adapters(model).names for key in ("A", "B", "e")}
    assert trained == heads | slots
    assert len(Adapters(model)) == 8  # query, value, attention.output.dense, output.dense in two layers


def test_modules_come_in_the_order_of_the_model_whatever_the_patterns_order() -> None:
    forward = Adapters(inject(bert(), BERT_TARGETS, BA(), 2, 4)).names
    backward = Adapters(inject(bert(), BERT_TARGETS[::-1], BA(), 2, 4)).names
    assert forward == backward
    assert forward == [n for n, _ in bert().named_modules() if n in set(forward)]


def test_deberta_v3_base_has_the_papers_72_modules_and_parameters() -> None:
    """1.33 M parameters at r = 8, as HeBiRA's Table 3 prints; nothing is allocated for the base."""
    from transformers import DebertaV2ForSequenceClassification

    config = deberta_config(
        vocab_size=128100, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
        intermediate_size=3072, max_position_embeddings=512, position_buckets=256, pooler_hidden_size=768,
    )  # fmt: skip
    with torch.device("meta"):
        model = DebertaV2ForSequenceClassification(config)
    inject(model, DEBERTA_TARGETS, BA(), rank=8, slots=8, trainable=["pooler", "classifier"])
    adapters = Adapters(model)
    assert len(adapters) == 72
    assert not any("pooler" in name for name in adapters.names)
    assert type(model.pooler.dense) is nn.Linear
    assert sum(p.numel() for layer in adapters.layers for p in layer.slot_parameters().values()) == 1_327_104
    heads = [n for n, p in model.named_parameters() if p.requires_grad and ".encoder." not in n]
    assert heads == ["pooler.dense.weight", "pooler.dense.bias", "classifier.weight", "classifier.bias"]
    assert all(p.device.type == "meta" for p in model.parameters())
    assert adapters.ranks() == [8] * 72


@pytest.mark.parametrize(
    ("total", "modules", "expected"),
    [(6, 3, [2, 2, 2]), (7, 3, [3, 2, 2]), (8, 3, [3, 3, 2]), (2, 3, [1, 1, 0]), (0, 2, [0, 0])],
)
def test_spread(total: int, modules: int, expected: list[int]) -> None:
    assert spread(total, modules) == expected
