"""What La-LoRA's scores share: transformer blocks are scored as one, and have a value (Eq. 7).

| symbol | here | shape |
|---|---|---|
| W_dw, W_up cut to r' (Eq. 3) | ``A``, ``B`` in live slots | (R, d_in), (R, d_out) |
| r_i, the rank of block i | mean rank of its modules | (M,) |
| s_i (Eq. 7) | :meth:`Blockwise.sizes` | (M,) |
| c_i | every slot of every module of block i | (M, R) |
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

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
            A, B: (M, R) float32, the squared norm of each row of the factors, dead slots included.
        """

    def update(self, reading: Reading) -> None:
        live, alike = reading.live, self._same_block(reading)
        A, B = (squares(reading, reading.stacks(name)) for name in ("A", "B"))
        self._score(alike @ self.contribution(reading, A, B), reading)
        ranks = alike @ live.sum(1).float() / alike.sum(1)
        self._kept["sizes"] = alike @ (norm(A, live) + norm(B, live)) / ranks.clamp(min=1)

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
