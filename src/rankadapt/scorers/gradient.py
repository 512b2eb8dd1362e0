"""Only the gradient half of HeBiRA's score (Table 9, "grad"): ``S = |e_i| · ||dLoss/dB[:,i]||_2``.

The paper does not say whether ``|e_i|`` stays; it does here, so that exactly one factor is taken away.
"""

from __future__ import annotations

from torch import Tensor

from rankadapt.adapters.reading import Reading
from rankadapt.scorers.base import SmoothedScorer


class Gradient(SmoothedScorer):
    """How strongly a direction pulls on the loss, whether or not it is used."""

    def raw(self, reading: Reading) -> Tensor:
        return reading.core() * reading.gradient_norm("B")
