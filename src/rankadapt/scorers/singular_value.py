"""The size of each direction's share of the update, ``||P_i|| ||A_i||``: its singular value, where the update
is written as its singular triplets (which a policy that ``rotates`` asks for before it decides)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rankadapt.adapters.reading import Reading
from rankadapt.scorers.base import SmoothedScorer, When


@dataclass(kw_only=True)
class SingularValue(SmoothedScorer):
    """What is lost of the update if the direction goes, in the Frobenius norm."""

    beta: float = 0.0
    when: When = "at_events"

    def raw(self, reading: Reading) -> Tensor:
        return reading.update_norm()
