"""What a form of the update has to say about itself."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Gt
from torch import Tensor

Draw = Literal["gaussian", "kaiming", "zero"]


@dataclass(kw_only=True)
class Form(ABC):
    """A low-rank form on slots: every parameter has one row (or entry) per slot.

    Attributes:
        std: standard deviation of Gaussian entries at injection.
        new_std: the same for a direction that is added while training.
    """

    std: Annotated[float, Gt(0)] = 0.02
    new_std: Annotated[float, Gt(0)] = 0.02

    initial: ClassVar[Mapping[str, Draw]]
    """How each parameter is drawn at injection; its keys are the parameters."""
    newborn: ClassVar[Mapping[str, Draw]]
    """How the entries of a direction added later are drawn."""

    @abstractmethod
    def shapes(self, d_in: int, d_out: int) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter for one slot, the slot's own dimension left out."""

    @abstractmethod
    def up(self, slots: Mapping[str, Tensor], scale: Tensor) -> Tensor:
        """``P`` (R, d_out) with ``scale`` (a scalar) and core folded in, so that ``ΔW = P^T A``."""

    def core(self, slots: Mapping[str, Tensor]) -> Tensor | None:
        """(R,) the value that the form gives each direction, or None if it has none."""
        return None

    def draw(self, kind: Draw, rows: int, shape: tuple[int, ...], std: float, seed: int) -> Tensor:
        """(rows, *shape) float32 on the CPU: for any int ``seed`` the same on every process and device."""
        values = torch.zeros(rows, *shape)
        generator = torch.Generator().manual_seed(seed % 2**64)
        if kind == "gaussian":
            values.normal_(0.0, std, generator=generator)
        if kind == "kaiming":  # as nn.Linear and peft: U(-1/sqrt(d_in), 1/sqrt(d_in))
            bound = 1 / math.sqrt(shape[-1])
            values.uniform_(-bound, bound, generator=generator)
        return values
