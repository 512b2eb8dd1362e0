"""The gradient half of PE-DyRA's score: AdaLoRA's parts, weighted by where the gradient is (Eq. 3-5).

| symbol | here | shape |
|---|---|---|
| S(w) (Eq. 3) | :mod:`rankadapt.scorers.elements` | (m, R, ...) |
| S(E_i), S(A_i), S(B_i) | boards of ``e``, ``A``, ``B`` | (M, R) |
| ω_X (Eq. 5) | ``shares`` | (M, 3) |
| S_Gi (Eq. 4) | :meth:`GradientAware.scores` | (M, R) |

Where this differs from the paper: nothing. What it leaves open: S of a row is the mean over its elements, as
in AdaLoRA; ω is a module's own, of the gradients of the last step, over its live directions; where a module
has no gradient at all its ω are equal; the "linear" combination of appendix F is ω = 1/3 each, so that both
schemes' weights sum to 1. A form without e has two parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rankadapt.adapters.reading import Reading
from rankadapt.scorers.elements import Elementwise


@dataclass(kw_only=True)
class GradientAware(Elementwise):
    """The parts of a direction count by their share of their module's gradient.

    Attributes:
        weights: ``gradient`` for Eq. 5, ``linear`` for equal shares (appendix F).
    """

    weights: Literal["gradient", "linear"] = "gradient"

    def update(self, reading: Reading) -> None:
        super().update(reading)
        live, names = reading.live, self._names()
        norms = torch.stack([(reading.gradient_norm(n) * live).norm(dim=1) for n in names], dim=1)
        if self.weights == "linear":
            norms = torch.ones_like(norms)
        self._kept["shares"] = shares(norms)

    def scores(self) -> Tensor:
        weights = self._recall("shares")
        boards = [self._board(name) for name in self._names()]
        return sum_of_parts(weights, torch.stack(boards))


def shares(norms: Tensor) -> Tensor:
    """ω (Eq. 5): each part's share of the sum of a module's gradient norms (M, P); equal where all are 0."""
    total = norms.sum(1, keepdim=True)
    return torch.where(total > 0, norms / torch.where(total > 0, total, 1), 1 / norms.shape[1])


def sum_of_parts(weights: Tensor, boards: Tensor) -> Tensor:
    """S_Gi (Eq. 4) from ω (M, P) and the P boards (P, M, R)."""
    return (weights.t()[:, :, None] * boards).sum(0)
