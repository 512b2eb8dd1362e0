"""DyLoRA's random rank: every training step uses the first few directions only (Valipour et al. 2023).

| symbol | here |
|---|---|
| b | one less than ``window`` (the official code counts from 0) |
| p_B | ``distribution``, ``p`` |
| FRZ: only row and column b learn | ``frozen`` |

One b for all modules and the whole optimizer step, micro-batches included. Where this differs from the
official code: b comes from a generator of its own for each step, seeded by the run's seed and the step, so
that processes agree, and a resumed run goes on as if it had not stopped. The official code samples uniformly;
the geometric law is cut off at the last direction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import Annotated, ClassVar, Literal

from annotated_types import Gt, Lt
from torch import Tensor

from rankadapt.boards import Change, Event, Limits
from rankadapt.policies.base import Policy


def uniform(u: float, slots: int) -> int:
    """b from a uniform ``u`` in [0, 1): every one of 0 .. slots - 1 alike."""
    return min(int(u * slots), slots - 1)


def geometric(u: float, slots: int, p: float) -> int:
    """b from a uniform ``u`` in [0, 1): with probability proportional to ``(1 - p)^b``."""
    mass = 1 - (1 - p) ** slots
    return min(int(math.log1p(-u * mass) / math.log1p(-p)), slots - 1)


@dataclass(kw_only=True)
class Sampled(Policy):
    """Ranks stay; each training step uses the first b + 1 directions, b drawn at random.

    Attributes:
        distribution: of b. p: of the geometric one; the larger, the fewer directions.
        frozen: only direction b learns, those before it only take part.
    """

    moves_ranks: ClassVar[bool] = False
    uses_windows: ClassVar[bool] = True
    distribution: Literal["uniform", "geometric"] = "uniform"
    p: Annotated[float, Gt(0), Lt(1)] = 0.15
    frozen: bool = False

    def __call__(self, scores: Tensor, live: Tensor, limits: Limits, event: Event) -> Change:
        return Change.none(live)

    def window(self, step: int, slots: int, seed: int) -> int:
        u = Random(f"{seed} {step}").random()  # seeded by text: hashed, so that neighbours are unrelated
        b = uniform(u, slots) if self.distribution == "uniform" else geometric(u, slots, self.p)
        return b + 1
