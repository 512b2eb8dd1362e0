"""PriLoRA's ranks: static, rising linearly from the first block to the last (Benedek and Wolf 2024).

| symbol | here |
|---|---|
| l, L | the place of a block among those that have adapted modules, from 1; their number |
| r_s, r_f | ``r_s``, ``r_f``: only their ratio counts |
| r_l = r_s + (r_f - r_s) (l - 1) / (L - 1) | ``depth_weights`` |

From a secondary source: no code is public. Ranks are scaled so that they sum to the budget exactly, and made
whole by largest remainder, ties by module, so that modules of one block differ by at most one. Each module
gets at least one direction if there are enough. The pruning of A that goes with it: ``adapters/sparsity.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, ClassVar

from annotated_types import Gt
from torch import Tensor

from rankadapt.boards import Change, Event, Limits
from rankadapt.policies.apportion import raised, whole
from rankadapt.policies.base import Policy


def depth_weights(blocks: Sequence[int], r_s: float, r_f: float) -> list[Fraction]:
    """r_l of each module, from the transformer block that it is in."""
    depth = {block: place for place, block in enumerate(sorted(set(blocks)))}
    last = max(len(depth) - 1, 1)
    start, rise = Fraction(r_s), Fraction(r_f) - Fraction(r_s)
    return [start + rise * depth[block] / last for block in blocks]


@dataclass(kw_only=True)
class LinearDepth(Policy):
    """Static ranks that rise, or fall, with depth.

    Attributes:
        r_s, r_f: of the first and of the last block, in proportion; the budget sets their scale.
    """

    moves_ranks: ClassVar[bool] = False
    r_s: Annotated[float, Gt(0)] = 4.0
    r_f: Annotated[float, Gt(0)] = 12.0

    def __call__(self, scores: Tensor, live: Tensor, limits: Limits, event: Event) -> Change:
        return Change.none(live)

    def allocate(self, total: int, blocks: Sequence[int]) -> list[int]:
        least = min(total // len(blocks), 1)
        return whole(raised(depth_weights(blocks, self.r_s, self.r_f), total, least), total)
