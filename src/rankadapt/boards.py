"""The data that scorers and policies exchange: boards, changes and limits.

A *board* is an ``(M, R)`` tensor: ``M`` adapted modules in model order, ``R`` slots each. Scores are a
float32 board, the live mask is a boolean board. Nothing here knows what a model is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Limits:
    """What a policy must know of the modules besides their scores.

    Attributes:
        minimum: (M,) int64, no module falls below it.
        maximum: (M,) int64, no module rises above it; at most R, and at most min(d_in, d_out).
        cost: (M,) int64, what a direction of each module takes from the budget: 1 where the budget counts
            directions, ``d_in + d_out + 1`` or the like where it counts parameters. None for 1.
        block: (M,) int64, the transformer block of each module, from 0. None for a block of its own each.
    """

    minimum: Tensor
    maximum: Tensor
    cost: Tensor | None = None
    block: Tensor | None = None

    def costs(self) -> Tensor:
        """(M,) int64: ``cost``, 1 where it is not given."""
        return torch.ones_like(self.minimum) if self.cost is None else self.cost

    def blocks(self) -> Tensor:
        """(M,) int64: ``block``, each module its own where it is not given."""
        if self.block is None:
            return torch.arange(len(self.minimum), device=self.minimum.device)
        return self.block


@dataclass(frozen=True)
class Event:
    """Where in training a rank change happens, and what there is to spend.

    Attributes:
        index: from 0. count: of all events. step: the optimizer step that was just taken, from 1.
        total: optimizer steps of the run.
        first, last: ranks may change after steps ``first < step <= last`` (``t_i`` and ``total - t_f``).
        budget: what the run is to end with, in the unit of :attr:`Limits.cost`.
        sizes: (M,) float, what the scorer tells of each module besides its directions' scores
            (:meth:`Scorer.sizes`), or None.
    """

    index: int
    count: int
    step: int
    total: int
    first: int = 0
    last: int = 0
    budget: int = 0
    sizes: Tensor | None = None


@dataclass(frozen=True)
class Change:
    """What a policy decides at one event.

    Attributes:
        pruned: (M, R) bool, the live directions to remove.
        born: (M,) int64, how many new directions each module receives.
        revived: (M, R) bool, dead directions that live again where they are; only for a policy whose
            ``storage`` is ``in_place``.
    """

    pruned: Tensor
    born: Tensor
    revived: Tensor | None = None

    @classmethod
    def none(cls, live: Tensor) -> Change:
        """The change that changes nothing, for a live board (M, R)."""
        return cls(torch.zeros_like(live), torch.zeros(len(live), dtype=torch.long, device=live.device))

    def ranks_after(self, live: Tensor) -> Tensor:
        """(M,) int64: the rank of every module once the change is applied to ``live`` (M, R)."""
        ranks = (live & ~self.pruned).sum(1) + self.born
        return ranks if self.revived is None else ranks + self.revived.sum(1)


def lowest(scores: Tensor, candidates: Tensor, k: int) -> Tensor:
    """The ``k`` candidates of lowest score, ties by module, then slot.

    Args:
        scores: (M, R) float. candidates: (M, R) bool. k: at least 0; fewer are taken if there are fewer.

    Returns:
        (M, R) bool.
    """
    order = torch.where(candidates, scores, torch.inf).flatten().argsort(stable=True)
    taken = torch.zeros_like(candidates).flatten()
    taken[order[:k]] = True
    return taken.view_as(candidates) & candidates


def removable(scores: Tensor, live: Tensor, minimum: Tensor) -> Tensor:
    """The live slots that may go without any module falling below its minimum rank.

    A module's ``minimum`` best directions are safe. Removing the lowest of the rest in any number is the
    same as going through all directions in ascending order and skipping a module that is down to its
    minimum.

    Args:
        scores: (M, R) float. live: (M, R) bool. minimum: (M,) int.

    Returns:
        (M, R) bool.
    """
    ascending = torch.where(live, scores, torch.inf).argsort(dim=1, stable=True)
    position = torch.empty_like(ascending)
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(ascending)
    position.scatter_(1, ascending, places)
    return live & (position < (live.sum(1) - minimum)[:, None])


def deal(worth: Tensor, room: Tensor, k: int) -> Tensor:
    """Deal ``k`` new directions to modules, best first, one each, then round again from the top.

    Args:
        worth: (M,) float, higher is served first, ties by module. room: (M,) int, free places; a module
            above its maximum has none.
        k: directions to deal; fewer are dealt if there is less room.

    Returns:
        (M,) int64, directions dealt to each module.
    """
    order = worth.argsort(descending=True, stable=True)
    dealt, room = torch.zeros_like(room), room.clamp(min=0)
    left = min(k, int(room.sum()))
    while left:
        served = order[(room - dealt)[order] > 0][:left]
        dealt[served] += 1
        left -= len(served)
    return dealt


@dataclass(frozen=True)
class Moves:
    """Where every slot's content came from.

    Attributes:
        source: (M, R) int64, the slot it was in before; -1 for a new or dead slot.
        born: (M, R) bool, the new directions.
        changed: rows of the modules that lost or received a direction.
    """

    source: Tensor
    born: Tensor
    changed: list[int]

    def carry(self, board: Tensor, fill: float = 0.0) -> Tensor:
        """``board`` (M, R) rearranged like the slots; ``fill`` where a slot is new or dead."""
        moved = board.gather(1, self.source.clamp(min=0))
        return torch.where(self.source >= 0, moved, torch.full_like(moved, fill))


def plan(live: Tensor, change: Change) -> Moves:
    """The moves that carry out ``change`` on live prefixes (M, R). Pure."""
    R = live.shape[1]
    kept = live & ~change.pruned
    order = (~kept).to(torch.int8).argsort(dim=1, stable=True)
    place = torch.arange(R, device=live.device)[None]
    survivors = kept.sum(1, keepdim=True)
    source = torch.where(place < survivors, order, -1)
    born = (place >= survivors) & (place < survivors + change.born[:, None])
    touched = change.pruned.any(1) | (change.born > 0)
    return Moves(source, born, touched.nonzero().flatten().tolist())
