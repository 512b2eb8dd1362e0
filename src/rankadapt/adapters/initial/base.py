"""Where the slots' values come from at injection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from rankadapt.adapters.linear import AdaptedLinear


@dataclass(kw_only=True)
class Init:
    """The form's own draws: one value of the init axis, and the base of the others."""

    def __call__(self, layer: AdaptedLinear) -> None:
        """Set the values of ``layer``'s slots, which hold the form's own draws."""

    @property
    def changes_base(self) -> bool:
        """Whether the base weight becomes a residual."""
        return False

    def prepare(self, model: nn.Module) -> None:
        """Look at the model before any layer is set."""
