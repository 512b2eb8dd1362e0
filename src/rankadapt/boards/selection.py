"""What policies are made of: choosing directions to remove and modules to serve, without a loop over modules.

Boards are (M, R): ``M`` modules, ``R`` slots each. All of it is pure.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
