"""An adapted layer's update in and out of its base weight."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rankadapt.adapters.combine import Combine
from rankadapt.adapters.quantize import dense_weight, plain


class Mergeable(nn.Module):
    """What an adapted layer does with its ``base``."""

    base: nn.Linear
    combine: Combine
    initial_A: Tensor
    initial_P: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._base_weight: Tensor | None = None
        self._quantized_base: nn.Linear | None = None

    def delta(self) -> Tensor:
        """``P^T A`` (d_out, d_in), in float32."""
        raise NotImplementedError

    def extra_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters of the combination (DoRA's magnitude), by name."""
        raise NotImplementedError

    def merge(self) -> None:
        """Put the update into the base weight; :meth:`unmerge` brings the base back bit for bit, for which
        the original is kept. A 4-bit base becomes a plain layer of the model's dtype meanwhile."""
        if self._base_weight is not None:
            return
        with torch.no_grad():
            weight = dense_weight(self.base)
            extra: Mapping[str, Tensor] = self.extra_parameters()
            merged = self.combine.merged(weight.float(), self.delta(), extra).to(weight.dtype)
        self._base_weight = weight.data
        if weight is self.base.weight:
            self.base.weight.data = merged
        else:
            self._quantized_base, self.base = self.base, plain(self.base, merged)

    def unmerge(self) -> None:
        """Undo :meth:`merge`."""
        if self._base_weight is None:
            return
        if self._quantized_base is not None:
            self.base, self._quantized_base = self._quantized_base, None
        else:
            self.base.weight.data = self._base_weight
        self._base_weight = None

    def merged(self) -> nn.Linear:
        """The plain layer with the update in its weight; this one gives its base away for good."""
        self.merge()
        self._base_weight = None
        return self.base


@torch.no_grad()
def take_out(layer: Mergeable, A: Tensor, P: Tensor) -> None:
    """Subtract ``P^T A`` from the base weight, and keep both: the layer's base is then a residual."""
    layer.register_buffer("initial_A", A.clone())
    layer.register_buffer("initial_P", P.clone())
    _add(layer, A, -P)


@torch.no_grad()
def shift_base(layer: Mergeable, A: Tensor, P: Tensor) -> None:
    """Make the base the residual of other factors than it is now. Exactly nothing if they are the same.

    A 4-bit base is left alone: it was quantised from its own residual.
    """
    same = torch.equal(layer.initial_A.to(A), A) and torch.equal(layer.initial_P.to(P), P)
    if not same and dense_weight(layer.base) is layer.base.weight:
        _add(layer, layer.initial_A, layer.initial_P)
        _add(layer, A.to(layer.initial_A), -P.to(layer.initial_P))


def _add(layer: Mergeable, A: Tensor, P: Tensor) -> None:
    weight = layer.base.weight
    weight.data = (weight.float() + P.float().t() @ A.float()).to(weight.dtype)
