"""HeBiRA's rank adjustment: take from the weakest, give to the short of rank (Eq. 8-10, Algorithm 1).

| symbol | here |
|---|---|
| S_i | ``scores`` (M, R) |
| P, the k lowest of all (Eq. 8) | ``pruned`` |
| S_layer (Eq. 9) | ``module_worth`` |
| E, the k highest layers (Eq. 10) | ``deal`` |

What the paper leaves open: no module falls below its minimum rank (1); ``k`` larger than the number of
modules goes round again from the top; a module that is full is passed over; equal scores go by module, then
slot. The number of directions is conserved strictly: what cannot be taken is not given.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rankadapt.boards import Change, Event, Limits, deal, lowest, removable
from rankadapt.policies.fixed_size import Aggregator, FixedSize, module_worth, most_dealt


def bidirectional(scores: Tensor, live: Tensor, limits: Limits, k: int, aggregator: Aggregator) -> Change:
    """Algorithm 1 on boards.

    Args:
        scores: (M, R) float. live: (M, R) bool. k: directions to move.

    Returns:
        A change with as many births as prunings.
    """
    pruned = lowest(scores, removable(scores, live, limits.minimum), k)
    kept = live & ~pruned
    born = deal(module_worth(scores, kept, aggregator), limits.maximum - kept.sum(1), int(pruned.sum()))
    return Change(pruned, born)


@dataclass(kw_only=True)
class Bidirectional(FixedSize):
    """Moves ``k`` directions per event from where they matter least to where rank is short."""

    def __call__(self, scores: Tensor, live: Tensor, limits: Limits, event: Event) -> Change:
        return bidirectional(scores, live, limits, self.k, self.aggregator)

    def reach(self, rank: int, events: int, modules: int) -> int:
        return rank + events * most_dealt(self.k, modules)
