"""The trained parameters of every method next to the figures that the papers print for them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from rankadapt.adapters import BA, BEA, inject
from rankadapt.adapters.combine import HiRA
from rankadapt.adapters.forms import Tri
from rankadapt.adapters.inject import matching
from rankadapt.adapters.linear import adapted_layers
from rankadapt.adapters.whole import AdapterDrop, BitFit, Full, Houlsby, Parallel, Pfeiffer, RaSA, Series
from rankadapt.runs.adapt import head_parameters
from scripts.parameter_table import (
    FIVE,
    QV,
    Count,
    Figure,
    bea,
    build,
    dora,
    figures,
    installed,
    lora,
    markdown,
    patterns,
    peft_method,
    settings,
    size,
    slotted,
)

ROOT = Path(__file__).parents[2]

PRINTED = {
    "HeBiRA, Table 3": ["100 %", "0.68 %", *["0.71 %"] * 8],
    "HeBiRA, Table 4": [*["0.15 %"] * 4, "0.17 %", "0.28 %", "0.22 %", *["0.13 %"] * 3, "0.23 %", "0.20 %"],
    "HeBiRA, text on Table 7": ["2.06 Mi"],
    "PE-DyRA, Table 3": [*["0.15 %"] * 4, "0.17 %", "0.28 %", "0.22 %", *["0.13 %"] * 3, "0.23 %", "0.20 %"],
    "PE-DyRA, Table 4": ["2.06 Mi", "3.09 Mi", "2.06 Mi"],
    "PE-DyRA, Table 10": [*["1.33 M"] * 6, *["1.99 M"] * 3],
    "La-LoRA, Table 5": ["125 M", *["0.1 M"] * 2, *["0.3 M"] * 9, "0.9 M", "1.8 M", "0.8 M"],
    "La-LoRA, Table 6": ["100 %", *["0.08 %"] * 3, *["0.16 %"] * 3, *["0.32 %"] * 3],
    "La-LoRA, Table 8": ["100 %", "0.43 %", "0.43 %", "100 %", "0.29 %", "0.29 %"],
    "La-LoRA, Table 9": ["0.11 %", "0.99 %", "3.54 %", *["0.41 %"] * 4, *["0.43 %"] * 2],
}
"""The columns for parameters, every row of them."""

NOT_MET = {
    ("HeBiRA, Table 3", "AdaLoRA"),
    ("HeBiRA, Table 3", "TriAdaptLoRA"),
    ("La-LoRA, Table 5", "LoRA-FA"),
    ("La-LoRA, Table 5", "MiLoRA"),
    ("La-LoRA, Table 5", "RandLoRA"),
    ("La-LoRA, Table 9", "Prefix"),
}


def counted(model: str, count: Count, only: tuple[str, ...] = ()) -> int:
    return count(build(model), patterns(model, only))


@pytest.mark.parametrize("figure", figures(), ids=lambda f: f"{f.where}-{f.model}-{f.methods}-{f.printed}")
def test_ours_is_the_printed_figure_or_there_is_a_reason(figure: Figure) -> None:
    assert (figure.ours[0] == figure.printed) == (not figure.why), figure.ours


def test_every_printed_figure_is_there() -> None:
    ours: dict[str, Counter[str]] = {where: Counter() for where in PRINTED}
    for figure in figures():
        ours[figure.where][figure.printed] += len(figure.methods.split(","))
    assert ours == {where: Counter(column) for where, column in PRINTED.items()}
    assert {(figure.where, figure.methods) for figure in figures() if figure.why} == NOT_MET


def test_the_document_is_what_the_script_prints() -> None:
    assert (ROOT / "docs/parameters.md").read_text() == markdown()


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("deberta_v3_base", 184_423_682),
        ("roberta_base", 124_647_170),
        ("roberta_large", 355_361_794),
        ("bart_large", 406_291_456),
        ("llama2_7b", 6_738_415_616),
        ("llama3_8b", 8_030_261_248),
        ("vit_base", 85_875_556),
        ("vit_large", 303_404_132),
    ],
)
def test_models_have_the_size_of_the_published_ones(model: str, parameters: int) -> None:
    base = build(model)
    assert size(base) == parameters
    assert base.config.model_type == settings(model)["architecture"]


@pytest.mark.parametrize(
    ("model", "modules", "per_rank"),
    [
        ("deberta_v3_base", 72, 165_888),
        ("roberta_base", 72, 165_888),
        ("roberta_large", 144, 442_368),
        ("bart_large", 192, 540_672),
        ("llama2_7b", 224, 2_498_560),
        ("llama3_8b", 224, 2_621_440),
        ("vit_base", 72, 165_888),
        ("vit_large", 144, 442_368),
    ],
)
def test_a_rank_of_all_targets_costs(model: str, modules: int, per_rank: int) -> None:
    assert len(_linears(model)) == modules
    assert counted(model, lora(8)) == per_rank * 8
    assert counted(model, bea(8)) == (per_rank + modules) * 8


def test_what_other_forms_train_of_a_block_and_rank() -> None:
    model = "deberta_v3_base"
    assert counted(model, slotted(BA(), 8, HiRA())) == 1_327_104
    assert counted(model, slotted(Tri(), 8)) == 1_327_104 + 72 * 8 * 9
    assert counted(model, slotted(BA(frozen=["A"]), 8)) == 12 * (5 * 768 + 3072) * 8


@pytest.mark.parametrize(
    "model", ["deberta_v3_base", "roberta_base", "roberta_large", "vit_base", "vit_large"]
)
def test_the_head_is_what_the_yaml_says(model: str) -> None:
    base = build(model)
    head = [p for name, p in base.named_parameters() if not name.startswith(base.base_model_prefix)]
    trained = head_parameters(base, settings(model)["trainable"])
    assert sum(p.numel() for p in trained) == sum(p.numel() for p in head) > 0


@pytest.mark.parametrize(("model", "modules"), [("tiny_bart", 32), ("tiny_llama", 14)])
def test_tiny_models_have_what_their_yaml_names(model: str, modules: int) -> None:
    described = AutoConfig.for_model(**settings(model)["config"])
    with torch.device("meta"):
        base = AutoModelForSequenceClassification.from_config(described)
    assert len(matching(base, patterns(model), "targets")) == modules
    assert head_parameters(base, settings(model)["trainable"])


@pytest.mark.parametrize("form", [BA(), BEA()])
def test_the_count_is_that_of_the_tensors(form: BA | BEA) -> None:
    with torch.device("meta"):
        model = inject(build("bart_large"), patterns("bart_large"), form, 4, slots=6)
    held = sum(
        p.numel() // 6 * 4 for _, layer in adapted_layers(model) for p in layer.slot_parameters().values()
    )
    assert held == counted("bart_large", slotted(form, 4))


def test_a_magnitude_is_one_per_output() -> None:
    outputs = sum(m.out_features for m in _linears("llama3_8b", FIVE))
    assert counted("llama3_8b", dora(16), FIVE) - counted("llama3_8b", lora(16), FIVE) == outputs


def _linears(model: str, only: tuple[str, ...] = ()) -> list[nn.Linear]:
    return list(matching(build(model), patterns(model, only), "targets").values())  # type: ignore[arg-type]


def _bottlenecks(width: int, number: int, d: int = 768) -> int:
    return number * (2 * width * d + width + d)


def _rasa(model: str, rank: int, shared: int) -> int:
    """As many directions as LoRA has; and diagonals over a module's own and all shared ones."""
    layers = 32
    diagonals = len(_linears(model)) * (rank - shared + shared * layers)
    return counted(model, lora(rank)) + diagonals


def _randlora(model: str, rank: int) -> int:
    smaller = [min(m.in_features, m.out_features) for m in _linears(model)]
    return sum(math.ceil(d / rank) * (rank + d) for d in smaller)


def _vera(model: str, rank: int) -> int:
    return sum(rank + m.out_features for m in _linears(model))


FORMULAS: list[tuple[str, Count, Callable[[], int]]] = [
    ("roberta_base", installed(Houlsby(size=8, train_layer_norms=False)), lambda: _bottlenecks(8, 24)),
    ("roberta_base", installed(Pfeiffer(size=16)), lambda: _bottlenecks(16, 12)),
    ("roberta_base", installed(AdapterDrop(size=48, n=8)), lambda: _bottlenecks(48, 4)),
    # Six linear layers and two norms per block, and the norm of the embeddings.
    ("roberta_base", installed(BitFit()), lambda: 12 * (4 * 768 + 3072 + 768 + 2 * 768) + 768),
    ("roberta_base", installed(Full()), lambda: 124_647_170 - 592_130),
    ("roberta_base", peft_method("RandLoraConfig", r=64), lambda: _randlora("roberta_base", 64)),
    ("roberta_base", peft_method("VeraConfig", r=256), lambda: _vera("roberta_base", 256)),
    ("deberta_v3_base", peft_method("RandLoraConfig", r=34), lambda: 1_328_112),
    ("llama2_7b", peft_method("PrefixTuningConfig", num_virtual_tokens=30), lambda: 30 * 2 * 32 * 4096),
    ("llama2_7b", installed(Series(size=256)), lambda: 32 * 2 * 256 * 4096),
    ("llama2_7b", installed(Parallel(size=256)), lambda: 32 * 2 * 256 * (4096 + 11008)),
    ("llama3_8b", installed(RaSA(shared_k=1), 4), lambda: _rasa("llama3_8b", 4, 1)),
]


@pytest.mark.parametrize(("model", "count", "formula"), FORMULAS)
def test_what_is_installed_is_what_the_formula_says(
    model: str, count: Count, formula: Callable[[], int]
) -> None:
    assert counted(model, count) == formula()


def test_query_and_value_are_two_of_a_block() -> None:
    assert [len(patterns(model, QV)) for model in ("roberta_base", "deberta_v3_base", "vit_base")] == [2] * 3
    assert counted("roberta_base", lora(8), QV) == 294_912
