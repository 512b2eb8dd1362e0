"""La-LoRA's contribution of a block: the norms of its cut factors, by how much of each is left (Eq. 9, 10).

| symbol | here | shape |
|---|---|---|
| ‖W_up cut‖_F, ‖W_dw cut‖_F | ``B``, ``A`` over live slots | (M,) |
| f_up, f_dw (Eq. 10) | :func:`fidelity` of ``B``, of ``A`` | (M,) |
| c_i (Eq. 9) | :meth:`TruncatedNorm.scores` | (M, R) |

As in Eq. 9 each factor's norm is weighted by the *other* factor's fidelity. Where this differs from the
paper: Eq. 10 as printed divides the cut norm of the step before by that of this step; the text around it, and
section 5.2, have the cut norm over that of the whole factor, which is what is done here. What it leaves open:
a factor that is zero as a whole (B at the start) has lost nothing, fidelity 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rankadapt.adapters.reading import Reading
from rankadapt.scorers.base import When
from rankadapt.scorers.blocks import Blockwise, norm


@dataclass(kw_only=True)
class TruncatedNorm(Blockwise):
    """Blocks whose factors are large, and not large only in what has been set aside.

    Attributes:
        fidelity: False leaves f out (Table 11).
    """

    fidelity: bool = True
    when: When = "at_events"

    def contribution(self, reading: Reading, A: Tensor, B: Tensor) -> Tensor:
        left_A, left_B = norm(A, reading.live), norm(B, reading.live)
        if not self.fidelity:
            return left_B + left_A
        whole_A, whole_B = A.sum(1).sqrt(), B.sum(1).sqrt()
        return fidelity(left_A, whole_A) * left_B + fidelity(left_B, whole_B) * left_A


def fidelity(left: Tensor, whole: Tensor) -> Tensor:
    """f (M,): the norm of what is ``left`` of a factor over that of the ``whole``, in live and dead slots,
    what is set aside included."""
    return torch.where(whole > 0, left / torch.where(whole > 0, whole, 1), 1)
