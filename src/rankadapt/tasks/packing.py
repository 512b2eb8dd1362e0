"""Several examples in one row of tokens, without padding between them and without sight of each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from rankadapt.errors import Problem
from rankadapt.tasks.tokens import padded

NOBODY = -1
IGNORED = -100
ARCHITECTURES = ("llama",)
"""Model types for which tests show that nothing leaks from one example of a row to the next."""
ATTENTIONS = ("sdpa", "eager")
"""The attentions of transformers for which they show it."""


def packing_problems(architecture: str, attention: str | None) -> Iterator[Problem]:
    """What speaks against packing for a model type of ``transformers`` with this attention (None: its own
    choice). One that does not part the examples would give no error, only another loss: flash_attention_2
    parts them only where a batch has a single row."""
    untested = "that the examples of a row do not see each other is tested for {} alone, not for {}"
    if architecture not in ARCHITECTURES:
        reason = untested.format(", ".join(ARCHITECTURES), architecture)
        yield Problem("task.packing", True, reason, "task.packing=false")
    if attention not in (*ATTENTIONS, None):
        reason = untested.format(" and ".join(ATTENTIONS), attention)
        yield Problem("task.packing", True, reason, "task.packing=false, or model.attention=sdpa")


def bins(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows of examples: the longest first, each into the first row with room for it (first fit, decreasing).
    What is longer than ``capacity`` has a row of its own."""
    rows: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fit = next((r for r, left in enumerate(room) if left >= lengths[i]), None)
        if fit is None:
            rows.append([])
            room.append(capacity)
            fit = len(rows) - 1
        rows[fit].append(i)
        room[fit] -= lengths[i]
    return rows


def packed(ids: Sequence[np.ndarray], labels: Sequence[np.ndarray], capacity: int) -> dict[str, Tensor]:
    """Examples in as few rows as first fit finds.

    Returns:
        ``input_ids``, ``labels``, ``position_ids`` and ``owners`` (rows, T): positions start anew with every
        example, and with the padding, which is what keeps them apart; an owner is the example's place in
        ``ids``, -1 at padding. There is no attention mask: transformers would take it for the whole truth.
    """
    rows = bins([len(row) for row in ids], capacity)
    width = max(sum(len(ids[i]) for i in row) for row in rows)
    fill = [width - sum(len(ids[i]) for i in row) for row in rows]

    def joined(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.concatenate([parts[i] for i in row]) for row in rows]

    positions = joined([np.arange(len(row)) for row in ids])
    positions = [np.concatenate([row, np.arange(n)]) for row, n in zip(positions, fill, strict=True)]
    return {
        "input_ids": padded(joined(ids), width, 0),
        "labels": padded(joined(labels), width, IGNORED),
        "position_ids": padded(positions, width, 0),
        "owners": padded(joined([np.full(len(row), i) for i, row in enumerate(ids)]), width, NOBODY),
    }
