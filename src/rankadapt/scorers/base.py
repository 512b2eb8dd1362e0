"""What a scorer is: a board of importances, brought up to date once per optimizer step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Lt
from torch import Tensor

from rankadapt.adapters.reading import Reading
from rankadapt.boards import Moves

When = Literal["before_step", "after_step", "at_events"]
"""When a scorer looks: with unclipped gradients and the weights before the optimizer's step; with clipped
gradients and the weights after it (as AdaLoRA's own code does); or only right before a rank change."""


class Scorer(ABC):
    """Fills a board of scores (M, R); higher means that a direction matters more."""

    reads_activations: ClassVar[bool] = False
    """Whether the backward pass must sum activation energies, ``reading.activation()``."""
    reads_inputs: ClassVar[bool] = False
    """Whether it must sum the energies of the input features, ``reading.input_energy()``."""
    reads_dense: ClassVar[bool] = False
    """Whether it must keep the gradient of the whole update, ``reading.dense_sensitivity()`` (costly)."""
    reads_core: ClassVar[bool] = False
    """Whether it says nothing of a form without a core."""
    when: When = "before_step"
    """At which moment of a step :meth:`update` is called."""

    def begin(self, reading: Reading) -> None:
        """Look at the adapters before the first step of a run (no gradients yet)."""

    @abstractmethod
    def update(self, reading: Reading) -> None:
        """Take in one optimizer step. Tensor code only: no host sync."""

    def sizes(self) -> Tensor | None:
        """(M, R) float: what else there is to tell of each module, were its rank 1, 2, ... R, for policies
        that ask (La-LoRA's value)."""
        return None

    @abstractmethod
    def scores(self) -> Tensor:
        """(M, R) float32. Dead slots may hold anything."""

    @abstractmethod
    def move(self, moves: Moves) -> None:
        """Follow a rank change."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that decides later scores, as a flat dictionary of tensors and plain values."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""


@dataclass(kw_only=True)
class SmoothedScorer(Scorer):
    """A raw score per step, smoothed: ``S~ <- beta S~ + (1 - beta) S`` (HeBiRA Eq. 7).

    A direction's smoothed score starts at its first raw score, when it is born as at the start of training,
    so that the young are compared with the old on one scale.

    Attributes:
        beta: share of the past, in [0, 1). HeBiRA does not give it: 0.85, as AdaLoRA.
    """

    beta: Annotated[float, Ge(0), Lt(1)] = 0.85

    def __post_init__(self) -> None:
        self._smoothed: Tensor | None = None
        self._fresh: Tensor | None = None

    @abstractmethod
    def raw(self, reading: Reading) -> Tensor:
        """(M, R) float32: the scores of this step alone."""

    def update(self, reading: Reading) -> None:
        raw = self.raw(reading)
        if self._smoothed is None or self._fresh is None:
            self._smoothed, self._fresh = raw.clone(), torch.zeros_like(raw, dtype=torch.bool)
            return
        self._smoothed = torch.where(self._fresh, raw, torch.lerp(raw, self._smoothed, self.beta))
        self._fresh = torch.zeros_like(self._fresh)

    def scores(self) -> Tensor:
        if self._smoothed is None:
            raise RuntimeError("scores() before the first update()")
        return self._smoothed

    def move(self, moves: Moves) -> None:
        assert self._fresh is not None
        self._smoothed = moves.carry(self.scores())
        self._fresh = moves.carry(self._fresh, fill=False) | moves.born

    def state_dict(self) -> dict[str, Any]:
        return {"smoothed": self._smoothed, "fresh": self._fresh}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._smoothed, self._fresh = state["smoothed"], state["fresh"]
