"""Batches: the global batch is fixed by the task; processes and accumulation only cut it up.

A run of T optimizer steps is T global batches of ``batch_size`` examples, whatever the number of processes
and micro-batches: each micro-batch knows its share, so that one process with one big batch, eight
micro-batches, or two processes take the same optimizer steps. Everything is a function of (seed, position):
to resume is to set a counter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rankadapt.tasks.examples import Examples

Collate = Callable[[list[dict[str, Any]], int], dict[str, Tensor]]
"""Makes a batch of examples, padded to the given length."""

Batch = dict[str, Any]

MEGABATCHES = 50  # as transformers' LengthGroupedSampler: sort by length within this many batches


@dataclass(frozen=True)
class Share:
    """This process's part of the work: process ``rank`` of ``world``, ``accumulate`` micro-batches a step."""

    rank: int = 0
    world: int = 1
    accumulate: int = 1

    @property
    def parts(self) -> int:
        """Into how many micro-batches a global batch is cut."""
        return self.world * self.accumulate


class TrainLoader:
    """Micro-batches of one process over a whole run.

    Each batch holds the task's tensors, padded to the longest example of its *global* batch, and
    ``share``: the factor that turns the mean loss of the micro-batch into its part of the global batch's
    mean, given that the host averages over processes and micro-batches. It is 0 for a stand-in, where the
    global batch has fewer examples than there are micro-batches. Where examples count differently, both
    means are weighted, and ``weight`` (n,) holds the examples' weights.

    Args:
        examples: the training split. collate: makes a batch. batch_size: examples per optimizer step.
        steps: optimizer steps of the run. share: this process's part. seed: of the order.
    """

    def __init__(
        self, examples: Examples, collate: Collate, batch_size: int, steps: int, share: Share, seed: int
    ):
        self.examples, self.collate, self.batch_size = examples, collate, batch_size
        self.steps, self.share, self.seed = steps, share, seed
        self.steps_per_epoch = math.ceil(len(examples) / batch_size)
        self.consumed = 0
        self._epoch = lru_cache(maxsize=1)(self._epoch_batches)

    def __len__(self) -> int:
        return self.steps * self.share.accumulate

    def __iter__(self) -> Iterator[Batch]:
        while self.consumed < len(self):
            self.consumed += 1
            yield self.micro_batch(self.consumed - 1)

    def global_batch(self, step: int) -> np.ndarray:
        """Indices of the examples of optimizer step ``step`` (from 0)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return self._epoch(epoch)[position]

    def micro_batch(self, position: int) -> Batch:
        """This process's ``position``-th micro-batch of the run."""
        step, micro = divmod(position, self.share.accumulate)
        everyone = self.global_batch(step)
        mine = everyone[micro * self.share.world + self.share.rank :: self.share.parts]
        weights = self.examples.weights
        share = _weight(mine, weights) * self.share.parts / _weight(everyone, weights)
        picked = mine if len(mine) else everyone[:1]
        pad_to = int(self.examples.lengths[everyone].max())
        batch: Batch = {**self.collate([self.examples[i] for i in picked], pad_to), "share": share}
        if weights is not None:
            batch["weight"] = torch.tensor(weights[picked], dtype=torch.float32)
        return batch

    def _epoch_batches(self, epoch: int) -> list[np.ndarray]:
        """All global batches of one epoch: shuffled, grouped by length, shuffled again."""
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.examples))
        width = MEGABATCHES * self.batch_size
        groups = [order[i : i + width] for i in range(0, len(order), width)]
        by_length = [g[np.argsort(-self.examples.lengths[g], kind="stable")] for g in groups]
        flat = np.concatenate(by_length)
        batches = [flat[i : i + self.batch_size] for i in range(0, len(flat), self.batch_size)]
        return [batches[i] for i in rng.permutation(len(batches))]

    def state_dict(self) -> dict[str, Any]:
        """The position in the run."""
        return {"consumed": self.consumed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind the micro-batches that were consumed."""
        self.consumed = state["consumed"]


class EvalLoader:
    """Batches of one evaluation set, similar lengths together; every example once over all processes."""

    def __init__(self, examples: Examples, collate: Collate, batch_size: int, share: Share):
        self.examples, self.collate, self.batch_size = examples, collate, batch_size
        order = np.argsort(-examples.lengths, kind="stable")
        self._mine = order[share.rank :: share.world]

    def __len__(self) -> int:
        return math.ceil(len(self._mine) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self._mine), self.batch_size):
            picked = self._mine[start : start + self.batch_size]
            pad_to = int(self.examples.lengths[picked].max())
            yield self.collate([self.examples[i] for i in picked], pad_to)


def _weight(indices: np.ndarray, weights: np.ndarray | None) -> float:
    return len(indices) if weights is None else float(weights[indices].sum())
