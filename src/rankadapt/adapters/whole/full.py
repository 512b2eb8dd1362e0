"""Full fine-tuning: every parameter is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from rankadapt.adapters.adaptation import Whole


@dataclass(kw_only=True)
class Full(Whole):
    """Every parameter requires gradients, the task head included. There is nothing to merge."""

    merges: ClassVar[bool] = True

    def install(self, model: nn.Module, targets: Mapping[str, nn.Linear], rank: int, seed: int) -> nn.Module:
        return model.requires_grad_(True)

    def merge(self, model: nn.Module) -> nn.Module:
        return model
