"""PE-DyRA's score: where the gradient is, and what the inputs make of a direction (Eq. 3-7, Algorithm 1).

| symbol | here | shape |
|---|---|---|
| ‖X_j‖ = (1/N) Σ x_ij², smoothed | ``energy`` | (m, d_in) |
| S_inp (Eq. 6) | ``inputs`` | (M, R) |
| S_grad (Eq. 4) | :class:`~rankadapt.scorers.gradient_aware.GradientAware` | (M, R) |
| α | ``alpha`` | |

Where this differs from the paper: its α "appropriately chosen" is 0.5, and each part is first divided by its
mean over all live directions, because they differ by orders of magnitude (``normalise: false`` does not). The
paper's own letters do not settle on which factor the energy sits: on the one that the input meets. What it
leaves open: ``beta_input`` is 0.85, the energy starts at its first value, and |e_i| is 1 without a core. A
new direction has no S_inp before its first step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor

from rankadapt.adapters.reading import Reading
from rankadapt.boards import Moves
from rankadapt.scorers.gradient_aware import GradientAware


@dataclass(kw_only=True)
class GradientAwareInput(GradientAware):
    """Gradient and input parts of a direction, mixed. Without the input part it is ``gradient_aware``.

    Attributes:
        alpha: share of the gradient part.
        normalise: divide each part by its mean over all live directions before they are mixed.
        beta_input: share of the past in the input energies, in [0, 1).
    """

    alpha: Annotated[float, Ge(0), Le(1)] = 0.5
    normalise: bool = True
    beta_input: Annotated[float, Ge(0), Lt(1)] = 0.85
    reads_inputs: ClassVar[bool] = True

    def update(self, reading: Reading) -> None:
        super().update(reading)
        core = reading.core()
        inputs = torch.zeros_like(core)
        stacks = zip(reading.stacks("A"), reading.input_energy(), strict=True)
        for index, (A, energy) in enumerate(stacks):
            smoothed = self._energy(f"energy.{index}", energy.values)
            inputs[A.rows] = torch.einsum("mrd,md->mr", A.values.float().abs(), smoothed)
        norms = reading.board(reading.stacks("B"), lambda B: B.float().norm(dim=-1))
        self._kept |= {"inputs": core * inputs * norms, "live": reading.live}

    def _energy(self, key: str, raw: Tensor) -> Tensor:
        if key not in self._kept:
            self._kept[key] = raw.float().clone()
        return self._smooth(key, raw.float(), self.beta_input)

    def scores(self) -> Tensor:
        parts = super().scores(), self._kept["inputs"]
        if self.normalise:
            parts = _relative(parts[0], self._kept["live"]), _relative(parts[1], self._kept["live"])
        return self.alpha * parts[0] + (1 - self.alpha) * parts[1]

    def move(self, moves: Moves) -> None:
        super().move(moves)
        self._kept["inputs"] = moves.carry(self._kept["inputs"])
        self._kept["live"] = moves.carry(self._kept["live"], fill=False) | moves.born


def _relative(board: Tensor, live: Tensor) -> Tensor:
    """``board`` (M, R) over its mean on ``live`` (M, R) slots; as it is where that is zero."""
    mean = (board * live).sum() / live.sum().clamp(min=1)
    return board / torch.where(mean > 0, mean, 1)
