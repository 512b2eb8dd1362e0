"""Series and parallel adapters on linear layers (Hu et al. 2023, LLM-Adapters, arXiv 2304.01933).

========  =================================================  ===========================
adapter   update of ``y = W x``                              default places in a block
========  =================================================  ===========================
series    ``W (x + f(x))`` on a first feed-forward layer,    second feed-forward layer
          ``y + f(y)`` on the second one
parallel  ``W x + f(x)``                                     up-projection and second
========  =================================================  ===========================

``f(x) = U tanh(D x)`` without biases.

Where this differs from the paper or its code, and why: the code draws both factors Gaussian with 0.02, which
changes the output before any training; the default here is its other initialisation (Kaiming and zero), under
which the output is the base model's. ``init: gaussian`` is the former. The default places are those of its
commonsense runs, by the names that each architecture has for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from annotated_types import Gt
from torch import nn

from rankadapt.adapters.whole.bottleneck import Activation, Attached, Bottleneck, Nonlinear, Side
from rankadapt.adapters.whole.places import adapted_blocks, replace_module
from rankadapt.errors import ModelError, Problem


@dataclass(kw_only=True)
class _OnLinear(Nonlinear):
    """What both share.

    Attributes:
        size: m.
        init: ``mam`` (D Kaiming-uniform, U zero) or ``gaussian`` (both, with ``std``).
        layers: patterns of target paths; None for the paper's places in every block with a target.
    """

    size: Annotated[int, Gt(0)] = 256
    activation: Activation = "tanh"
    init: Literal["mam", "gaussian"] = "mam"
    std: Annotated[float, Gt(0)] = 0.02
    layers: list[str] | None = None

    def install(self, model: nn.Module, targets: Mapping[str, nn.Linear], rank: int, seed: int) -> nn.Module:
        for index, (path, side) in enumerate(self._sides(model, targets).items()):
            linear: nn.Linear = model.get_submodule(path)  # type: ignore[assignment]
            d_in = linear.out_features if side == "output" else linear.in_features
            d_out = linear.in_features if side == "input" else linear.out_features
            bottleneck = Bottleneck(
                d_in,
                d_out,
                self.size,
                self.activation,
                self.init,
                self.std,
                False,
                seed * 100_003 + index,
                linear.weight.device,
            )
            replace_module(model, path, Attached(linear, bottleneck, side))
        return model

    def _sides(self, model: nn.Module, targets: Mapping[str, nn.Linear]) -> dict[str, Side]:
        """Path of the layer to adapt -> where its bottleneck sits."""
        raise NotImplementedError

    def _chosen(self, targets: Mapping[str, nn.Linear]) -> list[str]:
        assert self.layers is not None
        if not self.layers:
            raise ModelError(
                Problem("form.layers", self.layers, "no pattern is given", "null is for the paper's places")
            )
        unused = [p for p in self.layers if not any(fnmatchcase(t, p) for t in targets)]
        if unused:
            raise ModelError([Problem("form.layers", p, "fits none of model.targets") for p in unused])
        return [t for t in targets if any(fnmatchcase(t, p) for p in self.layers)]


@dataclass(kw_only=True)
class Series(_OnLinear):
    """Bottlenecks before a first or after a second feed-forward layer; no other has a place in the method."""

    def _sides(self, model: nn.Module, targets: Mapping[str, nn.Linear]) -> dict[str, Side]:
        blocks = adapted_blocks(model, targets)
        sides: dict[str, Side] = {path: "input" for block in blocks for path in block.ffn_in}
        sides |= {block.ffn_out: "output" for block in blocks}
        if self.layers is None:
            return {block.ffn_out: "output" for block in blocks}
        chosen = self._chosen(targets)
        reason = "series adapters are defined for feed-forward layers only"
        if problems := [Problem("form.layers", t, reason) for t in chosen if t not in sides]:
            raise ModelError(problems)
        return {target: sides[target] for target in chosen}


@dataclass(kw_only=True)
class Parallel(_OnLinear):
    """Bottlenecks beside any linear layer."""

    def _sides(self, model: nn.Module, targets: Mapping[str, nn.Linear]) -> dict[str, Side]:
        if self.layers is not None:
            return dict.fromkeys(self._chosen(targets), "parallel")
        blocks = adapted_blocks(model, targets)
        # The last first layer: the up-projection, where there is a gate before it.
        return {path: "parallel" for block in blocks for path in (block.ffn_in[-1], block.ffn_out)}
