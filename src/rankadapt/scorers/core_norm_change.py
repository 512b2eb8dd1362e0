"""TriAdaptLoRA's score of a module: by how much its core has grown since the last look (Eq. 11).

Liang et al. 2025 (arXiv 2501.08008), section III-C; Table III for the normalisations.

| symbol | here | shape |
|---|---|---|
| ‖L_m + U_m‖_F | ``reading.core_norm()`` | (M,) |
| r_m | ``live.sum(1)`` | (M,) |
| the norm over the rank, now and at t-1 | ``now``, ``before`` | (M,) |
| S_m | every slot of a module | (M, R) |

Where this differs from the paper: nothing. "t-1" is the last rank change, before it was carried out, and the
start of training at first, as in the authors' code. In ``bea`` the core is diag(e); a form without a core
would score by its rank alone, which tells nothing, and is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rankadapt.adapters.reading import Reading
from rankadapt.boards import Moves
from rankadapt.scorers.base import When
from rankadapt.scorers.kept import ModuleScorer

POWERS = {"r": 1.0, "sqrt_r": 0.5, "none": 0.0}


@dataclass(kw_only=True)
class CoreNormChange(ModuleScorer):
    """Where the core is still on the move, rank is wanted.

    Attributes:
        normalise: divide the norm by the rank, its square root, or not (Table III).
    """

    normalise: Literal["r", "sqrt_r", "none"] = "r"
    when: When = "at_events"
    reads_core: ClassVar[bool] = True

    def begin(self, reading: Reading) -> None:
        self._kept.setdefault("before", self._value(reading))

    def update(self, reading: Reading) -> None:
        self.begin(reading)
        self._kept["now"] = self._value(reading)
        self._score(self._kept["now"] - self._kept["before"], reading)

    def move(self, moves: Moves) -> None:
        self._kept["before"] = self._recall("now")

    def _value(self, reading: Reading) -> Tensor:
        ranks = reading.live.sum(1).clamp(min=1)
        return reading.core_norm() / ranks ** POWERS[self.normalise]
