"""The data that scorers and policies exchange: boards, changes and limits.

A *board* is an ``(M, R)`` tensor: ``M`` adapted modules in model order, ``R`` slots each. Scores are a
float32 board, the live mask is a boolean board. Nothing here knows what a model is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Storage = Literal["fresh", "aside", "in_place"]
"""What becomes of a slot that dies, and where a direction that is born comes from.

- ``fresh``: a dead slot is zero, optimizer state too; a new direction is drawn anew.
- ``aside``: all R slots are drawn at injection; the live ones are a prefix; what is cut off is set aside
  with its weights and comes back with them (La-LoRA). A change then prunes the last live slots.
- ``in_place``: every slot goes on training where it stands; at an event the cores of the dead ones are set
  to zero, from where they may regrow until the next (AdaLoRA).
"""


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


def standings(scores: Tensor, candidates: Tensor) -> Tensor:
    """Where each slot stands among the candidates of its module: 0 is the lowest score, ties by slot.

    Args:
        scores: (M, R) float. candidates: (M, R) bool; the other slots stand above them all.

    Returns:
        (M, R) int64.
    """
    ascending = torch.where(candidates, scores, torch.inf).argsort(dim=1, stable=True)
    position = torch.empty_like(ascending)
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(ascending)
    return position.scatter_(1, ascending, places)


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
    return live & (standings(scores, live) < (live.sum(1) - minimum)[:, None])


def spent(live: Tensor, cost: Tensor) -> int:
    """What the live directions (M, R) take from the budget at ``cost`` (M,) each."""
    return int((live.sum(1) * cost).sum())


def affordable(cost: Tensor, purse: int) -> Tensor:
    """Which of a row of things a purse pays for, in this order: each that fits what is left, the others are
    passed over.

    Args:
        cost: (N,) int64, above 0. purse: none is bought if it is not above 0.

    Returns:
        (N,) bool.
    """
    bought, waiting = torch.zeros_like(cost, dtype=torch.bool), torch.ones_like(cost, dtype=torch.bool)
    while True:  # at most once per different cost, and once more
        waiting &= cost <= purse
        now = waiting & ((cost * waiting).cumsum(0) <= purse)
        if not bool(now.any()):
            return bought
        bought |= now
        waiting &= ~now
        purse -= int(cost[now].sum())


def turns(worth: Tensor, room: Tensor, k: int) -> Tensor:
    """The modules in the order in which ``k`` new directions are dealt to them: best first, one each, then
    round again from the top; a module that is full is passed over.

    Args:
        worth: (M,) float, ties by module. room: (M,) int, free places. k: fewer if there is less room.

    Returns:
        (at most k,) int64, rows of modules.
    """
    order = worth.argsort(descending=True, stable=True)
    rounds = torch.arange(max(int(room.max()), 0), device=room.device)[:k]
    served = room[order] > rounds[:, None]
    return order.expand_as(served)[served][:k]


def deal(worth: Tensor, room: Tensor, k: int, cost: Tensor | None = None) -> Tensor:
    """Deal ``k`` new directions to modules, best first, one each, then round again from the top.

    Args:
        worth: (M,) float, higher is served first, ties by module. room: (M,) int, free places; a module
            above its maximum has none.
        k: directions to deal; fewer are dealt if there is less room. With ``cost``, what may be spent.
        cost: (M,) int64, of a direction of each module: one that no longer fits is passed over, and it goes
            round until none fits. None for 1.

    Returns:
        (M,) int64, directions dealt to each module.
    """
    if cost is None:
        served = turns(worth, room, max(k, 0))
    else:
        everyone = turns(worth, room, int(room.clamp(min=0).sum()))
        served = everyone[affordable(cost[everyone], k)]
    return torch.bincount(served, minlength=len(worth))


@dataclass(frozen=True)
class Moves:
    """Where every slot's content came from.

    Attributes:
        source: (M, R) int64, the slot it was in before; -1 for a new or dead slot.
        born: (M, R) bool, the new directions.
        changed: rows of the modules that lost or received a direction.
        kept, births: for each of ``changed``, how many directions stayed and how many are new.
    """

    source: Tensor
    born: Tensor
    changed: list[int]
    kept: list[int]
    births: list[int]

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
    return _moves(source, born, change.pruned.any(1) | (change.born > 0), survivors[:, 0], change.born)


def stay(live: Tensor, change: Change) -> Moves:
    """The moves of a change that leaves every slot where it is, alive or dead. Pure."""
    source = torch.arange(live.shape[1], device=live.device).expand_as(live)
    touched = change.pruned if change.revived is None else change.pruned | change.revived
    ranks = change.ranks_after(live)
    return _moves(source, torch.zeros_like(live), touched.any(1), ranks, torch.zeros_like(ranks))


def _moves(source: Tensor, born: Tensor, touched: Tensor, kept: Tensor, births: Tensor) -> Moves:
    table = torch.stack([touched.long(), kept, births]).tolist()  # one wait for the device
    rows = [row for row, is_touched in enumerate(table[0]) if is_touched]
    return Moves(source, born, rows, [table[1][r] for r in rows], [table[2][r] for r in rows])
