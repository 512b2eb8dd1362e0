"""AdaLoRA's score: the importance of a direction's weights, smoothed, times its uncertainty.

Zhang et al. 2023 (arXiv 2303.10512), section 3.2; HeBiRA Table 16 "sensitivity".

| symbol | here | shape |
|---|---|---|
| s(λ_i) | board of ``e`` | (M, R) |
| mean_j s(Q_ij), Q the right factor | board of ``A`` | (M, R) |
| mean_j s(P_ji), P the left factor | board of ``B`` | (M, R) |
| S_i = the sum of the three | :meth:`Sensitivity.scores` | (M, R) |

Where this differs from the paper: nothing by default. AdaLoRA's code looks after the optimizer's step, at
moved weights and clipped gradients that include the penalty's: ``when: after_step``. The form ``ba`` has no
e: there S is the sum of two.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rankadapt.scorers.elements import Elementwise


@dataclass(kw_only=True)
class Sensitivity(Elementwise):
    """How much the loss is thought to change without a direction's weights, and how unsure that is."""

    def scores(self) -> Tensor:
        self._recall("A.0.rows")
        return torch.stack([self._board(name) for name in self._names()]).sum(0)
