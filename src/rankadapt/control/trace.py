"""What happened to the ranks: one row per (event, module), the start and the end included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rankadapt.boards import Change

COLUMNS = ("step", "module", "rank", "score_min", "score_mean", "born", "pruned")


class Trace:
    """Rows of plain values, in order. ``names`` are the modules' paths."""

    def __init__(self, names: Sequence[str]):
        self.names = list(names)
        self.rows: list[dict[str, Any]] = []

    def mark(self, step: int, ranks: Sequence[int]) -> None:
        """Note ``ranks`` (M,) at ``step`` where nothing changes: the start and the end of a run."""
        if self.rows and self.rows[-1]["step"] == step:
            return
        for name, rank in zip(self.names, ranks, strict=True):
            self._add(step, name, rank, None, None, 0, 0)

    def event(self, step: int, ranks: Sequence[int], scores: Tensor, live: Tensor, change: Change) -> None:
        """Note a change: ``ranks`` after it, ``scores`` (M, R) and ``live`` (M, R) that it was decided on."""
        lows = torch.where(live, scores, torch.inf).amin(1).tolist()
        means = (torch.where(live, scores, 0).sum(1) / live.sum(1).clamp(min=1)).tolist()
        pruned = change.pruned.sum(1).tolist()
        for i, born in enumerate(change.born.tolist()):
            self._add(step, self.names[i], ranks[i], lows[i], means[i], born, pruned[i])

    def _add(self, *values: Any) -> None:
        self.rows.append(dict(zip(COLUMNS, values, strict=True)))

    def state_dict(self) -> dict[str, Any]:
        """Plain columns."""
        return {column: [row[column] for row in self.rows] for column in COLUMNS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        columns = [state[column] for column in COLUMNS]
        self.rows = [dict(zip(COLUMNS, values, strict=True)) for values in zip(*columns, strict=True)]
