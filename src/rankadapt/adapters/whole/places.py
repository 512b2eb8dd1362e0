"""Where the blocks of a transformer have their attention output, their feed-forward layers and its norm.

Bottlenecks sit at fixed places of a block, not on any linear layer. The places are found by the names that
the layers have in ``transformers``; the targets only say which blocks are adapted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from rankadapt.errors import ModelError, Problem


@dataclass(frozen=True)
class Family:
    """Paths within a block: attention output, first and second feed-forward layers, and the norm that takes
    the sum of feed-forward output and residual, if there is one."""

    attention: str
    ffn_in: tuple[str, ...]
    ffn_out: str
    ffn_norm: str | None


FAMILIES = (
    Family("attention.output.dense", ("intermediate.dense",), "output.dense", "output.LayerNorm"),
    Family("self_attn.out_proj", ("fc1",), "fc2", "final_layer_norm"),
    Family("self_attn.o_proj", ("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj", None),
    Family("attention.o_proj", ("mlp.fc1",), "mlp.fc2", None),
)
"""BERT, RoBERTa, DeBERTa; BART; LLaMA and its like; ViT."""

PRE_NORM = ("mbart", "pegasus", "opt", "plbart", "m2m_100")
"""Model types with BART's names whose ``final_layer_norm`` comes before the feed-forward layers instead."""


@dataclass(frozen=True)
class Block(Family):
    """The same with paths from the top of the model, and the ``path`` of the block itself."""

    path: str


def adapted_blocks(model: nn.Module, targets: Iterable[str]) -> list[Block]:
    """The blocks that have a target, in model order.

    Args:
        targets: paths of linear layers, in model order. A block's path ends in the first number of one.

    Raises:
        ModelError: none of the targets is in a block of a known family.
    """
    paths = dict.fromkeys(match[1] for t in targets if (match := re.match(r"(.*?\.\d+)\.", t)))
    found = [block for path in paths for block in _known(model, path)]
    if not found:
        known = ", ".join(family.ffn_out for family in FAMILIES)
        reason = f"no target is in a transformer block whose layers are known (ending in {known})"
        raise ModelError(Problem("model.targets", None, reason, "use a model like BERT, BART, LLaMA or ViT"))
    return found


def replace_module(model: nn.Module, path: str, new: nn.Module) -> None:
    """Put ``new`` at ``path``."""
    parent, _, child = path.rpartition(".")
    setattr(model.get_submodule(parent), child, new)


def _known(model: nn.Module, path: str) -> Iterator[Block]:
    block = model.get_submodule(path)
    names = dict(block.named_modules())
    for family in FAMILIES:
        needed = (family.attention, *family.ffn_in, family.ffn_out)
        if all(isinstance(names.get(name), nn.Linear) for name in needed):
            norm = family.ffn_norm if _is_post_norm(model, family, names) else None
            yield Block(
                attention=f"{path}.{family.attention}",
                ffn_in=tuple(f"{path}.{name}" for name in family.ffn_in),
                ffn_out=f"{path}.{family.ffn_out}",
                ffn_norm=norm and f"{path}.{norm}",
                path=path,
            )
            return


def _is_post_norm(model: nn.Module, family: Family, names: dict[str, nn.Module]) -> bool:
    kind = getattr(getattr(model, "config", None), "model_type", "")
    return family.ffn_norm in names and kind not in PRE_NORM
