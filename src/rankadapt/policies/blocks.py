"""What policies need that give all modules of a transformer block one rank."""

from __future__ import annotations

import torch
from torch import Tensor

from rankadapt.boards import Change


def resize(live: Tensor, ranks: Tensor) -> Change:
    """The change that brings every module of ``live`` (M, R) to its rank (M,): the last live slots go."""
    place = live.cumsum(1) - 1
    return Change(live & (place >= ranks[:, None]), (ranks - live.sum(1)).clamp(min=0))


def by_block(values: Tensor, block: Tensor, count: int) -> list[float]:
    """The mean of ``values`` (M,) over the modules of each of ``count`` blocks; ``block``: (M,) from 0."""
    sums = torch.zeros(count, dtype=torch.float64, device=values.device).index_add(0, block, values.double())
    return (sums / torch.bincount(block, minlength=count)).tolist()


def at_rank(sizes: Tensor, ranks: Tensor) -> Tensor:
    """(M,): what ``sizes`` (M, R) are at the ranks (M,) of the modules."""
    return sizes.gather(1, (ranks - 1).clamp(min=0)[:, None])[:, 0]
