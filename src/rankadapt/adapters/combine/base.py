"""How an update meets the base weight."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from rankadapt.adapters.lowrank import LowRankLinear, lowrank_branch, lowrank_linear_reference
from rankadapt.adapters.quantize import dense_weight, is_quantized, quantized_linear


@dataclass
class Call:
    """One forward pass of one layer.

    Attributes:
        x: (..., d_in). branch: x after the adapter's dropout, None without.
        layer: the frozen base layer, plain or quantised. bias: (d_out,) or None, in x's dtype.
        A: (R, d_in). P: (R, d_out), scale and core folded in.
        probe, tokens: of the activation energies, see :class:`LowRankLinear`.
        width: leading slots in use. fused: whether to use the one autograd node.
        extra: parameters of the combination itself, by name.
    """

    x: Tensor
    branch: Tensor | None
    layer: nn.Module
    bias: Tensor | None
    A: Tensor
    P: Tensor
    probe: Tensor | None
    tokens: Tensor | None
    width: int
    fused: bool
    extra: Mapping[str, Tensor]

    @cached_property
    def weight(self) -> Tensor:
        """(d_out, d_in) of the base, dense, in x's dtype."""
        return dense_weight(self.layer).to(self.x.dtype)

    def linear(self, x: Tensor, branch: Tensor | None, bias: Tensor | None) -> Tensor:
        """``x W0^T + bias + (branch A^T) P``; ``branch`` None for x."""
        if is_quantized(self.layer):  # a fused node would keep the whole dense weight for the backward pass
            return self.base(x, bias) + self.update(x if branch is None else branch)
        if not self.fused or self.weight.requires_grad:
            return lowrank_linear_reference(
                x, branch, self.weight, bias, self.A, self.P, self.probe, self.tokens
            )
        return LowRankLinear.apply(
            x, branch, self.weight, bias, self.A, self.P, self.probe, self.tokens, self.width
        )

    def base(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """``x W0^T + bias``."""
        if is_quantized(self.layer):
            return quantized_linear(self.layer, x, bias)
        return F.linear(x, self.weight, bias)

    def update(self, x: Tensor) -> Tensor:
        """``(x A^T) P``."""
        A, P = self.A[: self.width], self.P[: self.width]
        return lowrank_branch(x, A, P, self.probe, self.tokens)


@dataclass(kw_only=True)
class Combine(ABC):
    """One value of the combine axis."""

    multiplies: ClassVar[bool] = False
    """Whether the update multiplies the base weight, so that none of it may be taken out."""
    folds: ClassVar[bool] = False
    """Whether the update can be served as plain LoRA factors."""

    def parameters(self, weight: Tensor) -> dict[str, Tensor]:
        """Trainable parameters besides the slots, by name, from the base weight (d_out, d_in)."""
        return {}

    @abstractmethod
    def forward(self, call: Call) -> Tensor:
        """(..., d_out)."""

    @abstractmethod
    def merged(self, weight: Tensor, delta: Tensor, extra: Mapping[str, Tensor]) -> Tensor:
        """The weight (d_out, d_in) of a plain layer that does the same, from the base ``weight``, ``delta``
        = P^T A, both float32, and the combination's own parameters."""
