"""What scorers with several tensors of state share: one flat dictionary of them, which is their state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rankadapt.adapters.reading import Reading
from rankadapt.boards import Moves
from rankadapt.scorers.base import Scorer


@dataclass(kw_only=True)
class Keeper(Scorer):
    """Keeps all that decides later scores in ``_kept``, by name. Its tensors may be written in place."""

    def __post_init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        return {name: value.clone() for name, value in self._kept.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._kept = {name: value.clone() for name, value in state.items()}

    def _recall(self, name: str) -> Tensor:
        if name not in self._kept:
            raise RuntimeError("scores() before the first update()")
        return self._kept[name]

    def _smooth(self, name: str, raw: Tensor, beta: float) -> Tensor:
        """``kept <- beta kept + (1 - beta) raw``, from zero at the start of training; what is kept now."""
        if name not in self._kept:
            self._kept[name] = raw.new_zeros(raw.shape)
        return self._kept[name].lerp_(raw, 1 - beta)


@dataclass(kw_only=True)
class ModuleScorer(Keeper):
    """Scores whole modules; every slot of a module holds its module's score."""

    def _score(self, modules: Tensor, reading: Reading) -> None:
        """Let (M,) be the scores of the modules."""
        self._kept["scores"] = modules.float()[:, None].repeat(1, reading.shape[1])

    def scores(self) -> Tensor:
        return self._recall("scores")

    def move(self, moves: Moves) -> None:
        """A module keeps its score, whatever happens to its directions."""
