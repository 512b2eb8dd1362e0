"""La-LoRA's other contribution of a block: Fisher information (section 5.7, Table 14).

| symbol | here | shape |
|---|---|---|
| Fisher information of a module | squared gradients of live rows of A and B, summed | (M,) |
| c_i | its sum over a block, smoothed | (M, R) |
| s_i (Eq. 7) | :meth:`~rankadapt.scorers.blocks.Blockwise.sizes` | (M, R) |

The paper names the measure and gives no formula. So: the diagonal of the empirical Fisher information, with
the gradient of a step in place of a sample's; smoothed by beta over the steps, from its first value, because
one step's is noise. ``relative`` divides by the mean over modules: the softmax of Eq. 8 sees differences, and
those of squared gradients are far below 1, which would give every block the same rank. With it False the bare
sum is handed on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import Tensor

from rankadapt.adapters.reading import Reading
from rankadapt.scorers.blocks import Blockwise, squares


@dataclass(kw_only=True)
class Fisher(Blockwise):
    """Blocks whose weights the loss is sensitive to.

    Attributes:
        beta: share of the past, in [0, 1).
        relative: let the mean contribution over modules be 1.
    """

    beta: Annotated[float, Ge(0), Lt(1)] = 0.85
    relative: bool = True

    def contribution(self, reading: Reading, A: Tensor, B: Tensor) -> Tensor:
        of_A, of_B = (squares(reading, reading.stacks(name, gradients=True)) for name in ("A", "B"))
        raw = ((of_A + of_B) * reading.live).sum(1)
        if "fisher" not in self._kept:
            self._kept["fisher"] = raw.clone()
        return self._smooth("fisher", raw, self.beta)

    def scores(self) -> Tensor:
        scores = super().scores()
        if not self.relative:
            return scores
        mean = scores.mean()
        return scores / torch.where(mean > 0, mean, 1)
