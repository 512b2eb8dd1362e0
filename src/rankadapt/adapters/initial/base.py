"""Where the slots' values come from at injection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from rankadapt.adapters.linear import AdaptedLinear


@dataclass(kw_only=True)
class Init:
    """The form's own draws: one value of the init axis, and the base of the others."""

    def __call__(self, layer: AdaptedLinear) -> None:
        """Set the values of ``layer``'s slots, which hold the form's own draws."""

    changes_base: ClassVar[bool] = False
    """Whether the base weight becomes a residual."""

    @property
    def surveys(self) -> bool:
        """Whether it sets the ranks, from what it has seen of the data."""
        return False
