"""TriAdaptLoRA's growth with a dynamic threshold (Liang et al. 2025, Eq. 12-14, Algorithm 1).

| symbol | here |
|---|---|
| S_m | mean of a module's live ``scores`` (M, R), all of which the scorer sets to the same |
| R^(t) (Eq. 12), R^(0) = r_ref M | ``left``, ``event.budget`` |
| α^(t) = (t - t_0) / (T - t_0) | ``event.step``, ``event.first``, ``event.total`` |
| k^(t) (Eq. 13, 14) | ``how_many`` |
| r, Δr | ``start_rank``, ``delta_r`` |

What the paper leaves open, and where this differs from the official code: k counts modules though R^(t)
counts directions; never more than the modules there are. All that tie with the k-th grow there; here k do, by
module. Eq. 12 lets the last round overspend, and so does that code: ``cap: false``. That code rounds k down:
``rounding: floor``. A module that is full is passed over. What is left at the last event stays unspent, as in
Algorithm 1, so a run ends with at most the budget; that happens if the last event comes early (α far below 1)
or Δr times the modules is below what is left. Where the budget counts parameters (not in the paper), R^(t) is
what is left over the mean cost of a direction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt

from rankadapt.boards import Event
from rankadapt.errors import Problem
from rankadapt.policies.growth import Growth

Rounding = Literal["ceil", "floor"]


def linear(left: int, event: Event, rounding: Rounding) -> int:
    """``ceil(R α)`` (Eq. 13), in whole numbers: where R α is whole, rounding error must not lift it."""
    done, all_of_it = _passed(event)
    return -(-left * done // all_of_it) if rounding == "ceil" else left * done // all_of_it


def nonlinear(left: int, event: Event, rounding: Rounding) -> int:
    """``ceil(exp(α ln R))`` (Eq. 14), that is ``R^α``; whole where it is but for rounding error."""
    done, all_of_it = _passed(event)
    power = round(left ** (done / all_of_it), 9)
    return math.ceil(power) if rounding == "ceil" else math.floor(power)


def _passed(event: Event) -> tuple[int, int]:
    """``t - t_0`` and ``T - t_0``, whose ratio is α."""
    whole = max(event.total - event.first, 1)
    return min(max(event.step - event.first, 0), whole), whole


@dataclass(kw_only=True)
class ThresholdGrowth(Growth):
    """The k modules of highest score grow by ``delta_r``; k depends on what is left and on the time.

    Attributes:
        threshold: ``linear`` (Eq. 13), ``nonlinear`` (Eq. 14), or ``fixed_k`` (Table I).
        k: modules that grow per event with ``fixed_k``; the paper does not give it.
        rounding: of k: ``ceil`` as the paper, ``floor`` as the official code; at least 1 either way.
    """

    threshold: Literal["linear", "nonlinear", "fixed_k"] = "linear"
    k: Annotated[int, Gt(0)] | None = None
    rounding: Rounding = "ceil"

    def choose(self, left: int, event: Event) -> int:
        if self.threshold == "linear":
            return linear(left, event, self.rounding)
        if self.threshold == "nonlinear":
            return nonlinear(left, event, self.rounding)
        return self.k or 1

    def problems(self, budget: int, modules: int | None = None) -> list[Problem]:
        found = super().problems(budget, modules)
        if self.threshold == "fixed_k" and self.k is None:
            found.append(Problem("policy.k", None, "is missing", "threshold=fixed_k needs a policy.k"))
        if self.threshold != "fixed_k" and self.k is not None:
            reason = f"is not read with threshold={self.threshold}"
            found.append(Problem("policy.k", self.k, reason, "choose policy.threshold=fixed_k, or k: null"))
        return found
