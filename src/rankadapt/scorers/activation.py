"""Only the activation half of HeBiRA's score (Table 9, "activation"): ``S = |e_i| · ||X A[i,:]^T||_2``.

The paper does not say whether ``|e_i|`` stays; it does here, so that exactly one factor is taken away.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from rankadapt.adapters.reading import Reading
from rankadapt.scorers.base import SmoothedScorer


class Activation(SmoothedScorer):
    """How strongly the inputs drive a direction, whether or not the loss cares."""

    reads_activations: ClassVar[bool] = True

    def raw(self, reading: Reading) -> Tensor:
        return reading.core() * reading.activation()
