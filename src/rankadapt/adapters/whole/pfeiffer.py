"""Pfeiffer adapters (Pfeiffer et al. 2021, AdapterFusion, arXiv 2005.00247): one bottleneck per block.

With ``z = h + x``, the feed-forward output plus its residual: ``out = LN(f(LN(z)) + z)``. The block's own
layer norm is used twice, as in the LoRA and AdaLoRA repositories and as the adapters library does with
``original_ln_before`` and ``original_ln_after``. All of it depends on ``z`` alone, so the layer norm is what
is wrapped.

Where this differs from the paper or its code, and why: initial values are the adapters library's, Gaussian
with 0.02 and biases of zero; the LoRA repositories leave nn.Linear's own, which changes the output at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt
from torch import Tensor, nn

from rankadapt.adapters.whole.bottleneck import Activation, Bottleneck, Nonlinear, layer_norms
from rankadapt.adapters.whole.places import PRE_NORM, Block, adapted_blocks, replace_module
from rankadapt.errors import ModelError, Problem

NO_POST_NORM = (*PRE_NORM, "llama", "mistral", "gemma", "gemma2", "qwen2", "qwen3", "phi3", "vit")


class TwiceNormed(nn.Module):
    """``z -> norm(f(norm(z)) + z)``, (..., d) -> (..., d), in the place of ``norm``."""

    def __init__(self, base: nn.Module, bottleneck: nn.Module):
        super().__init__()
        self.base, self.bottleneck = base, bottleneck

    @property
    def weight(self) -> Tensor:
        """The gain of the norm (d,), for models that look at it."""
        return self.base.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        """The bias of the norm (d,)."""
        return self.base.bias  # type: ignore[return-value]

    def forward(self, z: Tensor) -> Tensor:
        return self.base(self.bottleneck(self.base(z)) + z)


@dataclass(kw_only=True)
class Pfeiffer(Nonlinear):
    """A bottleneck with biases after the feed-forward layers of every block with a target.

    Attributes:
        size: m.
        std: of the Gaussian that both factors start with.
        train_layer_norms: train every layer norm of the model too; the paper leaves them frozen.
    """

    size: Annotated[int, Gt(0)] = 16
    activation: Activation = "relu"
    std: Annotated[float, Gt(0)] = 0.02
    train_layer_norms: bool = False

    def install(self, model: nn.Module, targets: Mapping[str, nn.Linear], rank: int, seed: int) -> nn.Module:
        return self.install_in(model, adapted_blocks(model, targets), seed)

    def install_in(self, model: nn.Module, blocks: Sequence[Block], seed: int) -> nn.Module:
        """Adapt ``blocks`` only; see :meth:`install`."""
        if any(block.ffn_norm is None for block in blocks):
            raise ModelError(_pre_norm(type(model).__name__))
        for norm in layer_norms(model) if self.train_layer_norms else []:
            norm.requires_grad_(True)
        for index, block in enumerate(blocks):
            self._attach(model, block, seed * 100_003 + index)
        return model

    def _attach(self, model: nn.Module, block: Block, seed: int) -> None:
        assert block.ffn_norm is not None
        linear: nn.Linear = model.get_submodule(block.ffn_out)  # type: ignore[assignment]
        d, device = linear.out_features, linear.weight.device
        bottleneck = Bottleneck(d, d, self.size, self.activation, "gaussian", self.std, True, seed, device)
        norm = model.get_submodule(block.ffn_norm)
        replace_module(model, block.ffn_norm, TwiceNormed(norm, bottleneck))

    def problems(self, architecture: str, targets: Iterable[str]) -> list[Problem]:
        return [_pre_norm(architecture)] if architecture in NO_POST_NORM else []


def _pre_norm(what: str) -> Problem:
    reason = (
        f"is defined for blocks with a layer norm after feed-forward layers and residual (BERT, RoBERTa,"
        f" DeBERTa, BART), and {what} has none there"
    )
    return Problem("form", "Pfeiffer", reason, "method=houlsby, method=series and method=parallel need none")
