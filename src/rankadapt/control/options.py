"""How rank changes are carried out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt

from rankadapt.adapters.slots import OptimizerReset
from rankadapt.control.rates import Rates


@dataclass(kw_only=True)
class ControlOptions:
    """How rank changes are carried out.

    Attributes:
        min_rank: no module falls below it (PE-DyRA; HeBiRA is silent).
        max_rank: no module rises above it; None for no limit but the slots.
        optimizer_reset: whose AdamW state starts anew, see :data:`rankadapt.adapters.slots.OptimizerReset`.
        count_padding: whether padding tokens count in activation energies.
        seed: of the new directions.
        budget: what the run is to end with, in ``unit``; None for what it starts with.
        unit: what the budget counts: ``directions``, or ``parameters``, where a direction of a 768 x 3072
            module costs more than one of a 768 x 768 module.
        restarted: the course of the run's learning rate, through which every new direction is to go from its
            own beginning, warm-up included (IncreLoRA); None to let it share in the run's.
    """

    min_rank: Annotated[int, Ge(0)] = 1
    max_rank: Annotated[int, Gt(0)] | None = None
    optimizer_reset: OptimizerReset = "changed"
    count_padding: bool = True
    seed: int = 0
    budget: Annotated[int, Gt(0)] | None = None
    unit: Literal["directions", "parameters"] = "directions"
    restarted: Rates | None = None
