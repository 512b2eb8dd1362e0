"""HeBiRA's score: directions that fire and are wired to the loss (HeBiRA section 4.2, Eq. 4-7).

| symbol | here | shape |
|---|---|---|
| alpha_i = ||X A[i,:]^T||_2 (Eq. 4) | ``reading.activation()`` | (M, R) |
| gamma_i = ||dLoss/dB[:,i]||_2 (Eq. 5) | ``reading.gradient_norm("B")`` | (M, R) |
| e_i | ``reading.core()`` | (M, R) |

Where this differs from the paper: nothing. What the paper leaves open: the norms are over all tokens of the
optimizer step, micro-batches and processes included; the gradient is unclipped; padding counts in X unless
``control.count_padding=false``; in a form without a core, |e_i| is 1.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from rankadapt.adapters.reading import Reading
from rankadapt.scorers.base import SmoothedScorer


def hebbian(e: Tensor, alpha: Tensor, gamma: Tensor) -> Tensor:
    """``S = |e| · alpha · gamma`` (Eq. 6), element by element."""
    return e.abs() * alpha * gamma


class Hebbian(SmoothedScorer):
    """Synergy of activation and gradient."""

    reads_activations: ClassVar[bool] = True

    def raw(self, reading: Reading) -> Tensor:
        return hebbian(reading.core(), reading.activation(), reading.gradient_norm("B"))
