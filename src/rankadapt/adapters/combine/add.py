"""Combine ``add``: W = W0 + ΔW (LoRA and most others)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rankadapt.adapters.combine.base import Call, Combine


@dataclass(kw_only=True)
class Add(Combine):
    """The update is added."""

    folds: ClassVar[bool] = True

    def forward(self, call: Call) -> Tensor:
        return call.linear(call.x, call.branch, call.bias)

    def merged(self, weight: Tensor, delta: Tensor, extra: Mapping[str, Tensor]) -> Tensor:
        return weight + delta
