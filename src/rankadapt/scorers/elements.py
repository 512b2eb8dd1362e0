"""The importance of single weights, smoothed, and its uncertainty: what AdaLoRA and PE-DyRA share.

AdaLoRA (Zhang et al. 2023, arXiv 2303.10512), section 3.2; PE-DyRA Eq. 3.

| symbol | here | shape |
|---|---|---|
| I(w) = |w · dLoss/dw| | ``raw`` | (m, R, ...) |
| Ī, smoothed by beta1 | ``mean`` | (m, R, ...) |
| Ū, |I - Ī| with the new Ī, smoothed by beta2 | ``spread`` | (m, R, ...) |
| s(w) = Ī · Ū | in :meth:`Elementwise._board` | (m, R, ...) |

A board of one parameter holds the mean of ``s`` over a row of A or B, and ``s`` itself for e. Modules of
equal shape are one stack of m. Cores that belong to no single direction (``tri``) have no part in it.

What the papers leave open: a new direction's Ī and Ū start at zero, as at the start of training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import Tensor

from rankadapt.adapters.reading import Reading
from rankadapt.boards import Moves
from rankadapt.scorers.base import When
from rankadapt.scorers.kept import Keeper

PARAMETERS = ("A", "B", "e")
"""What a direction is made of, where the form has it."""


@dataclass(kw_only=True)
class Elementwise(Keeper):
    """Keeps ``mean`` and ``spread`` of every weight of every direction.

    Attributes:
        beta1: share of the past in Ī, in [0, 1). beta2: the same in Ū.
        when: ``before_step`` pairs the weights with the gradients they had, unclipped; ``after_step`` the
            moved weights with the clipped gradients, as AdaLoRA's own code.
    """

    beta1: Annotated[float, Ge(0), Lt(1)] = 0.85
    beta2: Annotated[float, Ge(0), Lt(1)] = 0.85
    when: When = "before_step"

    def update(self, reading: Reading) -> None:
        for name in _present(reading):
            stacks = zip(reading.stacks(name), reading.stacks(name, gradients=True), strict=True)
            for index, (weights, gradients) in enumerate(stacks):
                self._kept[f"{name}.{index}.rows"] = weights.rows
                self._take(f"{name}.{index}", weights.values.float() * gradients.values.float())

    def _take(self, key: str, products: Tensor) -> None:
        raw = products.abs_()
        mean = self._smooth(f"{key}.mean", raw, self.beta1)
        self._smooth(f"{key}.spread", (raw - mean).abs_(), self.beta2)

    def _names(self) -> list[str]:
        """The parameters that the form has."""
        return [name for name in PARAMETERS if f"{name}.0.rows" in self._kept]

    def _stacks(self, name: str) -> list[str]:
        """The keys of a parameter's stacks."""
        return [key.removesuffix(".rows") for key in self._kept if _is_rows(key, name)]

    def _board(self, name: str) -> Tensor:
        """(M, R) float32: the mean of ``s`` over the weights that a slot has in parameter ``name``."""
        rows, scores = [], []
        for key in self._stacks(name):
            importance = self._kept[f"{key}.mean"] * self._kept[f"{key}.spread"]
            rows.append(self._kept[f"{key}.rows"])
            scores.append(importance.flatten(2).mean(-1) if importance.dim() > 2 else importance)
        return torch.cat(scores)[torch.cat(rows).argsort()]

    def move(self, moves: Moves) -> None:
        for name in self._names():
            for key in self._stacks(name):
                source = moves.source[self._kept[f"{key}.rows"]]
                for kind in ("mean", "spread"):
                    self._kept[f"{key}.{kind}"] = _carried(self._kept[f"{key}.{kind}"], source)


def _present(reading: Reading) -> list[str]:
    form = reading._adapters.layers[0].form
    return [name for name in PARAMETERS if name in form.initial]


def _is_rows(key: str, name: str) -> bool:
    return key.startswith(f"{name}.") and key.endswith(".rows")


def _carried(values: Tensor, source: Tensor) -> Tensor:
    """``values`` (m, R, ...) with slot i from ``source`` (m, R), zero where that is -1."""
    module = torch.arange(len(source), device=source.device)[:, None]
    alive = (source >= 0).view(*source.shape, *[1] * (values.dim() - 2))
    return values[module, source.clamp(min=0)] * alive
