"""IncreLoRA's growth: at every event the modules of highest score grow (Zhang et al. 2023, arXiv 2308.12043).

| symbol | here |
|---|---|
| score of a module | mean of its live ``scores`` (M, R), all of which the scorer sets to the same |
| top_h | ``top_h`` |
| Δr | ``delta_r`` |
| target_total | ``event.budget`` |

Where this differs from the official code: that lets the last round overspend (QNLI ends with 600 directions
instead of 576): ``cap: false``; with ``cap`` the last module to grow gets what is left. All that tie with the
h-th grow there; here h do, by module. It takes ``min(h, what is left)`` modules, and so does this. A module
that is full is passed over. A run whose events run out first ends below the budget, there as here (its SQuAD
setting: one module and one direction per 1000 steps). Its reserve of directions ("advance learning") is not a
matter of ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt

from rankadapt.boards import Event
from rankadapt.policies.growth import Growth


@dataclass(kw_only=True)
class Incremental(Growth):
    """The ``top_h`` modules of highest score grow by ``delta_r`` until the budget is reached.

    Attributes:
        top_h: modules that grow per event; depends on the task (3 to 22 in IncreLoRA's scripts at rank 8).
    """

    top_h: Annotated[int, Gt(0)] = 9

    def choose(self, left: int, event: Event) -> int:
        return min(self.top_h, left)
