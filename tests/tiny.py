"""Tiny models, made on the spot: no file, no network, some milliseconds each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from rankadapt.adapters import BEA, AdapterOptions, Adapters, Form, inject
from rankadapt.adapters.linear import AdaptedLinear, adapted_layers
from rankadapt.boards import Storage

BERT_TARGETS = ["*.attention.self.query", "*.attention.self.value", "*.layer.*.output.dense"]
DEBERTA_TARGETS = [
    "*.attention.self.query_proj",
    "*.attention.self.key_proj",
    "*.attention.self.value_proj",
    "*.attention.output.dense",
    "*.intermediate.dense",
    "*.layer.*.output.dense",
]
VOCABULARY = 50

torch.set_num_threads(1)  # models as small as these only lose by sharing their work


class MLP(nn.Module):
    """``depth`` linear layers of different shapes with tanh between them, named ``layers.0`` and so on."""

    def __init__(self, width: int = 6, depth: int = 2, bias: bool = True):
        super().__init__()
        sizes = [width + (i % 2) for i in range(depth + 1)]
        self.layers = nn.ModuleList(nn.Linear(i, o, bias) for i, o in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


def mlp(
    depth: int = 2,
    width: int = 6,
    slots: int = 4,
    rank: int | Sequence[int] = 2,
    form: Form | None = None,
    options: AdapterOptions | None = None,
    seed: int = 0,
    filled: bool = True,
    storage: Storage = "fresh",
) -> MLP:
    """An adapted :class:`MLP`; ``filled``: no live direction is left at zero."""
    torch.manual_seed(seed)
    model = MLP(width, depth)
    inject(model, ["layers.*"], form or BEA(), rank, slots, options, seed=seed, storage=storage)
    if filled:
        fill(model, seed)
    return model


def bert(seed: int = 0, layers: int = 2) -> nn.Module:
    """A two-layer BERT classifier in eval mode, hidden size 16."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.2,  # so small a model does nothing at the usual 0.02
        num_labels=3,
    )
    return BertForSequenceClassification(config).eval()


def deberta_config(**changes: object) -> object:
    """The configuration of DeBERTa-v3-base at a hidden size of 16, unless ``changes`` say otherwise."""
    from transformers import DebertaV2Config

    small = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 32,
        "position_buckets": 8,
        "pooler_hidden_size": 16,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    as_v3 = {
        "relative_attention": True,
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
        "max_relative_positions": -1,
        "position_biased_input": False,
        "type_vocab_size": 0,
        "pooler_dropout": 0,
        "pooler_hidden_act": "gelu",
        "num_labels": 3,
    }
    return DebertaV2Config(**{**small, **as_v3, **changes})


def deberta(seed: int = 0) -> nn.Module:
    """A two-layer DeBERTa-v3 classifier in eval mode."""
    from transformers import DebertaV2ForSequenceClassification

    torch.manual_seed(seed)
    return DebertaV2ForSequenceClassification(deberta_config()).eval()


def uneven(decay: float) -> nn.Module:
    """A small BERT whose second layer sees inputs that vary mostly in few directions."""
    model = bert()
    with torch.no_grad():
        norm = model.bert.encoder.layer[0].output.LayerNorm
        norm.weight.mul_(decay ** torch.arange(len(norm.weight)))
    return model


def batch(size: int = 4, length: int = 7, seed: int = 0, padded: bool = False) -> dict[str, Tensor]:
    """Token ids, attention mask and labels of three classes; ``padded`` rows have different lengths."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(size, length, dtype=torch.long)
    if padded:
        for row in range(size):
            mask[row, length - row % (length - 1) :] = 0
    return {
        "input_ids": torch.randint(1, VOCABULARY, (size, length), generator=generator) * mask,
        "attention_mask": mask,
        "labels": torch.randint(0, 3, (size,), generator=generator),
    }


def fill(model: nn.Module, seed: int = 0, std: float = 0.3) -> nn.Module:
    """Give every live direction Gaussian values, as if it had been trained."""
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for _, layer in adapted_layers(model):
            for parameter in layer.slot_parameters().values():
                parameter[: layer.rank] = (
                    torch.randn(parameter[: layer.rank].shape, generator=generator).to(parameter) * std
                )
    return model


def layers_of(model: nn.Module) -> list[AdaptedLinear]:
    """The adapted layers, in model order."""
    return Adapters(model).layers


def slot_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Every slot parameter of the model."""
    return [p for _, layer in adapted_layers(model) for p in layer.slot_parameters().values()]


def assert_dead_are_zero(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Law 2: a dead slot is exactly zero, in its values and in the optimizer's tensors."""
    for name, layer in adapted_layers(model):
        dead = ~layer.live
        for key, parameter in layer.slot_parameters().items():
            assert not parameter[dead].any(), f"{name}.{key}"
            state = optimizer.state.get(parameter, {}) if optimizer else {}
            for moment, value in state.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    assert not value[dead].any(), f"{name}.{key}.{moment}"
