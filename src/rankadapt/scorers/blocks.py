"""What La-LoRA's scores share: transformer blocks are scored as one, and have a value (Eq. 7).

| symbol | here | shape |
|---|---|---|
| W_dw, W_up cut to r' (Eq. 3) | ``A``, ``B`` in the first r' slots, or in live ones | (R, d_in), (R, d_out) |
| s_i (Eq. 7), were the rank of block i 1, ... R | :meth:`Blockwise.sizes` | (M, R) |
| c_i | every slot of every module of block i | (M, R) |
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rankadapt.adapters.reading import Reading, Stack
from rankadapt.scorers.kept import ModuleScorer


@dataclass(kw_only=True)
class Blockwise(ModuleScorer):
    """Scores blocks; every module holds what its block has."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._alike: Tensor | None = None

    @abstractmethod
    def contribution(self, reading: Reading, A: Tensor, B: Tensor) -> Tensor:
        """(M,): what each module adds to its block's contribution c.

        Args:
            A, B: (M, R) float32, the squared norm of each row of the factors, dead slots and what is set
                aside included.
        """

    def update(self, reading: Reading) -> None:
        alike = self._same_block(reading)
        A, B = (
            squares(reading, reading.stacks(name)) + squares(reading, reading.set_aside(name))
            for name in ("A", "B")
        )
        self._score(alike @ self.contribution(reading, A, B), reading)
        ranks = torch.arange(1, A.shape[1] + 1, device=A.device)
        self._kept["sizes"] = alike @ (A.cumsum(1).sqrt() + B.cumsum(1).sqrt()) / ranks

    def sizes(self) -> Tensor:
        return self._recall("sizes")

    def _same_block(self, reading: Reading) -> Tensor:
        """(M, M) float: 1 where two modules are of one block. A sum over blocks that needs no host."""
        if self._alike is None:  # blocks do not change, and asking for them anew would wait for the device
            blocks = reading.blocks
            self._alike = (blocks[:, None] == blocks).float()
        return self._alike


def squares(reading: Reading, stacks: Sequence[Stack]) -> Tensor:
    """(M, R): the squared norm of each row of a factor."""
    return reading.board(stacks, lambda values: values.float().square().sum(-1))


def norm(squares: Tensor, slots: Tensor) -> Tensor:
    """(M,): the Frobenius norm of a factor's rows in those ``slots`` (M, R), from its rows' squares."""
    return (squares * slots).sum(1).sqrt()
