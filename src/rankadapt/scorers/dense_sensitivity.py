"""IncreLoRA's score of a module: the sensitivity of its whole update (Zhang et al. 2023, arXiv 2308.12043).

| symbol | here | shape |
|---|---|---|
| Q = Σ |ΔW · dLoss/dΔW| / sqrt(numel) | ``reading.dense_sensitivity()`` | (M,) |
| Ī, smoothed by beta1 | ``mean`` | (M,) |
| Ū, |Q - Ī| with the new Ī, smoothed by beta2 | ``spread`` | (M,) |
| S = Ī · Ū | every slot of a module | (M, R) |

Where this differs from the authors' code: the gradient is that of the whole optimizer step, all calls of a
layer and all micro-batches together; there the last call of the last micro-batch overwrites the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Lt

from rankadapt.adapters.reading import Reading
from rankadapt.scorers.kept import ModuleScorer


@dataclass(kw_only=True)
class DenseSensitivity(ModuleScorer):
    """Modules whose update as a whole matters to the loss. Costs the gradient of a full weight per module.

    Attributes:
        beta1: share of the past in Ī, in [0, 1). beta2: the same in Ū.
    """

    beta1: Annotated[float, Ge(0), Lt(1)] = 0.85
    beta2: Annotated[float, Ge(0), Lt(1)] = 0.85
    reads_dense: ClassVar[bool] = True

    def update(self, reading: Reading) -> None:
        raw = reading.dense_sensitivity()
        mean = self._smooth("mean", raw, self.beta1)
        self._score(mean * self._smooth("spread", (raw - mean).abs(), self.beta2), reading)
