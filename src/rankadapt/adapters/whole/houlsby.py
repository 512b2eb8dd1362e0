"""Houlsby adapters (Houlsby et al. 2019, arXiv 1902.00751): two bottlenecks per block.

``h <- h + f(h)``, where ``h`` is the attention output or the feed-forward output after its projection and
its dropout, before the residual and the layer norm.

Where this differs from the paper or its code, and why:

- BART's dropout there is a function call, ViT's is one module for both places, and LLaMA has none: the
  bottleneck then follows the projection itself.
- Blocks with cross-attention get no third bottleneck: the paper has encoders only.
- LLaMA and ViT have no norm after the projection; the bottleneck still sits before the residual.

The LoRA and AdaLoRA repositories run it with ``activation=swish`` and frozen layer norms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt
from torch import nn

from rankadapt.adapters.whole.bottleneck import Activation, Attached, Bottleneck, Nonlinear, layer_norms
from rankadapt.adapters.whole.places import Block, adapted_blocks, replace_module


@dataclass(kw_only=True)
class Houlsby(Nonlinear):
    """Bottlenecks with biases after attention output and feed-forward output of every block with a target.

    Attributes:
        size: m.
        std: of the truncated normal that both factors start with: the output moves by the order of std².
        train_layer_norms: every layer norm of the model is trained, as in the authors' code.
    """

    size: Annotated[int, Gt(0)] = 64
    activation: Activation = "gelu"
    std: Annotated[float, Gt(0)] = 1e-3
    train_layer_norms: bool = True

    def install(self, model: nn.Module, targets: Mapping[str, nn.Linear], rank: int, seed: int) -> nn.Module:
        return self.install_in(model, adapted_blocks(model, targets), seed)

    def install_in(self, model: nn.Module, blocks: Sequence[Block], seed: int) -> nn.Module:
        """Adapt ``blocks`` only; see :meth:`install`."""
        for norm in layer_norms(model) if self.train_layer_norms else []:
            norm.requires_grad_(True)
        places = [place for block in blocks for place in (block.attention, block.ffn_out)]
        for index, place in enumerate(places):
            self._attach(model, place, seed * 100_003 + index)
        return model

    def _attach(self, model: nn.Module, place: str, seed: int) -> None:
        linear: nn.Linear = model.get_submodule(place)  # type: ignore[assignment]
        d = linear.out_features
        bottleneck = Bottleneck(
            d, d, self.size, self.activation, "truncated", self.std, True, seed, linear.weight.device
        )
        path = _after_dropout(model, place)
        replace_module(model, path, Attached(model.get_submodule(path), bottleneck, "output"))


def _after_dropout(model: nn.Module, place: str) -> str:
    """The path of the dropout that BERT and its like put directly after a projection, else of that itself."""
    parent, _, _ = place.rpartition(".")
    own = getattr(model.get_submodule(parent), "dropout", None)
    return f"{parent}.dropout" if place.endswith("output.dense") and isinstance(own, nn.Dropout) else place
