"""EVA is peft's: the same ranks for every module, the same directions, the same scale."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rankadapt.adapters import BA, EVA, AdapterOptions, inject
from rankadapt.adapters.inject import adapted_layers, linear_targets
from tests.tiny import BERT_TARGETS, batch, uneven

peft = pytest.importorskip("peft")

EVEN, ALPHA, DECAY = 2, 6, 0.6


def texts(seed: int) -> dict[str, Tensor]:
    """Rows of unequal length; without their labels, which peft would take for marks of tokens."""
    return {k: v for k, v in batch(16, 12, seed=seed, padded=True).items() if k != "labels"}


def test_eva_is_what_pefts_incremental_svd_settles_on() -> None:
    batches = [texts(seed) for seed in range(3)]
    targets = linear_targets(uneven(DECAY), BERT_TARGETS)
    config = peft.LoraConfig(
        r=EVEN,
        lora_alpha=ALPHA,
        target_modules=list(targets),
        init_lora_weights="eva",
        eva_config=peft.EvaConfig(use_label_mask=False),
    )
    torch.manual_seed(0)
    theirs = peft.get_eva_state_dict(uneven(DECAY), batches, config, show_progress_bar=False)
    other = peft.get_peft_model(uneven(DECAY), config)
    named = {f"base_model.model.{name}": A for name, A in theirs.items()}
    peft.initialize_lora_eva_weights(other, eva_state_dict=named, show_progress_bar=False)

    model, init = uneven(DECAY), EVA()
    targets = linear_targets(model, BERT_TARGETS)
    init.survey(model, targets, [(one, (one["attention_mask"],)) for one in batches])
    ranks = init.ranks(targets, [EVEN] * len(targets), 0, 2 * EVEN)
    assert ranks == [len(theirs[name]) for name in targets]
    assert len(set(ranks)) == 3
    inject(model, targets, BA(), ranks, 2 * EVEN, AdapterOptions(lora_alpha=ALPHA, scaling=EVEN), init=init)
    for name, layer in adapted_layers(model):
        cosines = torch.linalg.svdvals(layer.A[: layer.rank] @ theirs[name].float().t())
        assert cosines.min() > 0.95, name
        assert float(layer.scale) == other.get_submodule(f"base_model.model.{name}").scaling["default"]
