"""From a decision to where every slot's content goes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rankadapt.boards.data import Change


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
