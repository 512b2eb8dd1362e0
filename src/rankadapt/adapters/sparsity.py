"""Pruning of single entries of A while training (PriLoRA, Benedek and Wolf 2024, arXiv 2401.11316).

| symbol | here | shape |
|---|---|---|
| ||X_j||_2 of input feature j over a step's tokens | root of ``reading.input_energy()`` | (m, d_in) |
| X̄_j, smoothed by β | ``norms`` | (m, d_in) |
| S_ij = |A_ij| X̄_j | in :func:`least_important` | (m, R, d_in) |

Every ``every`` steps the ``share`` of each row of A with the lowest S is set to zero. From secondary sources:
no code is public. They give this rule, 40 steps, half of a row and β = 0.9, and call the pruning ongoing.

What they leave open: whether what was pruned may grow again. It does here until the next time, because what
stays at zero has the lowest S for ever, so that there would be nothing to repeat; ``regrow: false`` is that
other reading. The norm is of the mean over tokens, so that steps of more tokens weigh no more (within a step
the order is the same). A layer that a forward pass calls twice counts the inputs of both calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor
from torch.optim import Optimizer

from rankadapt.adapters.linear import AdaptedLinear
from rankadapt.adapters.reading import Adapters, Reading


def least_important(A: Tensor, norms: Tensor, share: float) -> Tensor:
    """Which entries go: of each row the ``share`` with the lowest ``|A_ij| norms_j``, rounded down, ties to
    the first.

    Args:
        A: (m, R, d_in). norms: (m, d_in), not negative.

    Returns:
        (m, R, d_in) bool.
    """
    order = (A.abs() * norms[:, None]).argsort(dim=-1, stable=True)
    lowest = order[..., : int(share * A.shape[-1])]
    return torch.zeros_like(A, dtype=torch.bool).scatter_(-1, lowest, True)


@dataclass(kw_only=True)
class Sparsity:
    """Keeps the inputs' norms, and prunes A by them. Its state knows nothing of slots: ranks may move.

    Attributes:
        every: optimizer steps between two prunings.
        share: of each row, to prune.
        beta: share of the past in the norms, in [0, 1).
        regrow: whether pruned entries go on training from zero; False keeps them at zero for good.
    """

    every: Annotated[int, Gt(0)] = 40
    share: Annotated[float, Gt(0), Lt(1)] = 0.5
    beta: Annotated[float, Ge(0), Lt(1)] = 0.9
    regrow: bool = True

    def __post_init__(self) -> None:
        self._norms: dict[str, Tensor] = {}

    @torch.no_grad()
    def observe(self, adapters: Adapters, reading: Reading) -> None:
        """Take in one optimizer step: its inputs, and before the optimizer uses them its gradients."""
        for index, stack in enumerate(reading.input_energy()):
            norms, key = stack.values.sqrt(), f"norms.{index}"
            self._norms[key] = torch.lerp(norms, self._norms.get(key, norms), self.beta)
        if not self.regrow:
            for _, layers in adapters.alike("A"):
                self._keep_zeros(layers)

    def _keep_zeros(self, layers: list[AdaptedLinear]) -> None:
        """An entry is exactly zero if it was pruned, and has no moment then: without a gradient it stays."""
        layers = [layer for layer in layers if layer.A.grad is not None]
        if layers:
            kept = torch.stack([layer.A.detach() for layer in layers]).ne(0)
            gradients = [layer.A.grad for layer in layers if layer.A.grad is not None]
            torch._foreach_mul_(gradients, list(kept.to(gradients[0].dtype).unbind()))

    @torch.no_grad()
    def prune(self, adapters: Adapters, optimizer: Optimizer | None, step: int) -> None:
        """Prune if it is time to, after ``step`` (from 1)."""
        if step % self.every or not self._norms:
            return
        for index, (_, layers) in enumerate(adapters.alike("A")):
            A = torch.stack([layer.A.detach() for layer in layers])
            goes = least_important(A.float(), self._norms[f"norms.{index}"], self.share)
            torch._foreach_copy_(
                [layer.A.detach() for layer in layers], list(A.masked_fill(goes, 0).unbind())
            )
            for layer, mask in zip(layers, goes, strict=True):
                state = optimizer.state.get(layer.A, {}) if optimizer and not self.regrow else {}
                for value in state.values():
                    if isinstance(value, Tensor) and value.shape == mask.shape:
                        value.masked_fill_(mask, 0)

    def state_dict(self) -> dict[str, Any]:
        """The norms so far. What is pruned is in A itself."""
        return dict(self._norms)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self._norms = dict(state)
