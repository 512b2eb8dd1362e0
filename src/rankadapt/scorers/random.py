"""The causal control of HeBiRA Fig. 6: importances in random order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rankadapt.adapters.reading import Reading
from rankadapt.boards import Moves
from rankadapt.scorers.base import Scorer


@dataclass(kw_only=True)
class Random(Scorer):
    """Uniform scores, drawn anew after every step: a function of ``seed`` and the step count alone, so that
    every process draws the same and the run's own random state is not touched."""

    seed: int = 0

    def __post_init__(self) -> None:
        self._updates, self._shape = 0, torch.Size([0, 0])
        self._device = torch.device("cpu")

    def update(self, reading: Reading) -> None:
        self._updates += 1
        self._shape, self._device = torch.Size(reading.shape), reading.device

    def scores(self) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self._updates)
        return torch.rand(self._shape, generator=generator).to(self._device)

    def move(self, moves: Moves) -> None:
        """Nothing is kept per slot."""

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self._updates, "shape": list(self._shape)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._updates, self._shape = state["updates"], torch.Size(state["shape"])
