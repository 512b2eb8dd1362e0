"""What a form of the update has to say about itself."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from rankadapt.adapters.adaptation import Adaptation

Draw = Literal["gaussian", "kaiming", "zero"]


@dataclass(kw_only=True)
class Form(Adaptation, ABC):
    """A low-rank form on slots: every parameter has one row (or entry) per slot.

    Attributes:
        std: standard deviation of Gaussian entries at injection.
        new_std: the same for a direction that is added while training.
        new_direction: ``small`` draws a new direction as the method says; ``preserving`` draws it so that it
            adds nothing yet, and rescales the others where the scale depends on the rank, so that the output
            does not change when a direction is added.
        frozen: parameters that stay at their initial values (LoRA-FA: A).
        reserve: slots behind the live ones that train ahead, with a core of ``RESERVE_CORE`` that does not
            (IncreLoRA's advance learning). Only for a form with a core, under a policy that only grows.
    """

    std: Annotated[float, Gt(0)] = 0.02
    new_std: Annotated[float, Gt(0)] = 0.02
    new_direction: Literal["small", "preserving"] = "small"
    frozen: list[str] = field(default_factory=list)
    reserve: Annotated[int, Ge(0)] = 0

    slotted: ClassVar[bool] = True
    merges: ClassVar[bool] = True
    initial: ClassVar[Mapping[str, Draw]]
    """How each parameter is drawn at injection; its keys are the parameters."""
    newborn: ClassVar[Mapping[str, Draw]]
    """How the entries of a direction added later are drawn."""
    preserving: ClassVar[Mapping[str, Draw]]
    """The same where a new direction must not change the output."""
    outgoing: ClassVar[str]
    """The parameter that is linear in the update and has a factor per slot: rescaled by ``preserving``."""
    square: ClassVar[frozenset[str]] = frozenset()
    """Parameters with a column per slot as well."""

    @abstractmethod
    def shapes(self, d_in: int, d_out: int, slots: int) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter for one slot, the slot's own dimension left out."""

    @abstractmethod
    def up(self, slots: Mapping[str, Tensor], scale: Tensor) -> Tensor:
        """``P`` (R, d_out) with ``scale`` (a scalar) and core folded in, so that ``ΔW = P^T A``."""

    def core(self, slots: Mapping[str, Tensor]) -> Tensor | None:
        """(R,) the value that the form gives each direction, or None if it has none."""
        return None

    def core_norm(self, slots: Mapping[str, Tensor], live: Tensor) -> Tensor:
        """Scalar: the Frobenius norm of the core over live slots (R,), 1 each where there is no core."""
        core = self.core(slots)
        values = live.float() if core is None else core.detach().float() * live
        return torch.linalg.vector_norm(values)

    def count(self, rank: int, d_in: int, d_out: int) -> int:
        """Parameters of ``rank`` directions."""
        shapes = self.shapes(d_in, d_out, rank)
        return rank * sum(math.prod(s) for name, s in shapes.items() if name not in self.frozen)

    def births(self) -> Mapping[str, Draw]:
        """How the entries of a new direction are drawn, by parameter."""
        return self.preserving if self.new_direction == "preserving" else self.newborn

    @property
    def holds_triplets(self) -> bool:
        """Whether :meth:`place` is defined."""
        return type(self).place is not Form.place

    def place(self, slots: Mapping[str, Tensor], U: Tensor, S: Tensor, V: Tensor) -> None:
        """Set the first r slots so that the unscaled update is ``U diag(S) V``: U (d_out, r), S (r,) not
        negative, V (r, d_in)."""
        raise NotImplementedError

    def trimmed(self, name: str, values: Tensor) -> Tensor:
        """Parameter ``name`` (R, ...) with whatever the form holds at zero set to zero."""
        return values

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
