"""What all slotted layers share, whatever their form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt
from torch import Tensor


@dataclass(kw_only=True)
class AdapterOptions:
    """What all forms share.

    Attributes:
        lora_alpha: numerator of the scale.
        scale_by: the scale is ``lora_alpha`` over the ``rank`` (LoRA), over its square root, ``sqrt_rank``
            (rsLoRA, Kalajdzievski 2023), or it is ``one`` (HiRA; PiSSA and MiLoRA, whose alpha is the rank).
        scaling: the rank meant is the module's ``current`` one, so that the scale moves with it (HeBiRA's
            "1/ranknum"), its ``initial`` one (AdaLoRA), the number of ``slots`` (La-LoRA's r_max), or a
            number, the same for modules of any rank (EVA).
        eps: added to that rank (AdaLoRA's code: 1e-5).
        dropout: on the input of the adapter branch.
        fused: one autograd node per layer; False writes it out for plain autograd (slower, for checks).
    """

    lora_alpha: Annotated[float, Gt(0)] = 16.0
    scale_by: Literal["rank", "sqrt_rank", "one"] = "rank"
    scaling: Literal["current", "initial", "slots"] | Annotated[int, Gt(0)] = "current"
    eps: Annotated[float, Ge(0)] = 0.0
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    fused: bool = True

    def scale(self, current: int, initial: int, slots: int) -> float:
        """The factor of the update of a module with these ranks."""
        if self.scale_by == "one":
            return 1.0
        named = {"current": current, "initial": initial, "slots": slots}
        rank = max(self.scaling if isinstance(self.scaling, int) else named[self.scaling], 1) + self.eps
        return self.lora_alpha / (rank if self.scale_by == "rank" else math.sqrt(rank))


class TokenWeights:
    """Shared by all adapted layers of a model: the weight of each token in activation energies.

    Attributes:
        values: one (batch, time) tensor for each shape that the tokens of a batch come in (an encoder's and a
            decoder's); none counts every token, padding included.
        void: count no token at all.
    """

    values: tuple[Tensor, ...] = ()
    void: bool = False

    def of(self, x: Tensor) -> Tensor | None:
        """(...,) weights of the tokens of ``x`` (..., d); None for all alike, also where ``x`` is not the
        batch: DeBERTa projects its relative positions too."""
        if self.void:
            return x.new_zeros(x.shape[:-1])
        return next((weights for weights in self.values if weights.shape == x.shape[:-1]), None)
