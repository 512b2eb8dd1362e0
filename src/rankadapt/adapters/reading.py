"""What scorers may see of the adapters: boards, and stacks of parameters and gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rankadapt.adapters.collection import Adapters, Stack

__all__ = ["Adapters", "Reading", "Stack"]


class Reading:
    """What one optimizer step left behind, before the optimizer moves anything.

    Gradients are those of the whole step: accumulated, reduced over processes, unscaled, unclipped.
    """

    def __init__(self, adapters: Adapters):
        self._adapters = adapters
        self._energies: Tensor | None = None
        self._input_energies: list[Stack] | None = None

    @property
    def live(self) -> Tensor:
        """(M, R) bool."""
        return self._adapters.live()

    @property
    def shape(self) -> tuple[int, int]:
        """(M, R), the shape of every board."""
        return len(self._adapters), self._adapters.slots

    @property
    def device(self) -> torch.device:
        """Where the boards live."""
        return self._adapters.device

    def activation(self) -> Tensor:
        """(M, R) float32: ``||X A[i,:]^T||_2`` over all tokens of the step (HeBiRA Eq. 4)."""
        if self._energies is None:
            self._energies = self._adapters.take_energies()
        return self._energies.sqrt()

    def core(self) -> Tensor:
        """(M, R) float32: ``|e_i|``, or 1 where the form has no core."""
        layers = self._adapters.layers
        cores = [layer.form.core(layer.slot_parameters()) for layer in layers]
        return torch.stack(
            [layer.live.float() if c is None else c.detach() for layer, c in zip(layers, cores, strict=True)]
        ).abs()

    def gradient_norm(self, name: str) -> Tensor:
        """(M, R) float32: the L2 norm of dLoss/d``name``, per slot (HeBiRA Eq. 5 for ``B``)."""
        return self.board(self._adapters.stacks(name, gradients=True), _row_norms)

    def update_norm(self) -> Tensor:
        """(M, R) float32: the Frobenius norm of each direction's share of the update, ``|P_i| |A_i|``: its
        singular value, where the directions are singular triplets."""
        layers = self._adapters.layers
        ups = torch.stack([layer.up().detach().float().norm(dim=1) for layer in layers])
        return ups * self.board(self.stacks("A"), _row_norms)

    def core_norm(self) -> Tensor:
        """(M,) float32: the Frobenius norm of each module's core: ``||L + U||_F`` or ``||e||_2`` over live
        directions (1 per direction where the form has no core)."""
        layers = self._adapters.layers
        return torch.stack([layer.form.core_norm(layer.slot_parameters(), layer.live) for layer in layers])

    @property
    def blocks(self) -> Tensor:
        """(M,) int64: the transformer block of each module, from 0."""
        return torch.tensor(self._adapters.blocks(), device=self.device)

    def input_energy(self) -> Sequence[Stack]:
        """(m, d_in) float32 for each group of modules of equal shape: the mean over all tokens of the step of
        the square of every input feature (PE-DyRA Eq. 6). Only where the scorer ``reads_inputs``."""
        if self._input_energies is None:
            self._input_energies = self._adapters.take_input_energies()
        return self._input_energies

    def dense_sensitivity(self) -> Tensor:
        """(M,) float32: ``sum |ΔW * dLoss/dΔW| / sqrt(numel)`` of the whole update of every module
        (IncreLoRA). Only where the scorer ``reads_dense``."""
        return self._adapters.take_dense_sensitivity()

    def set_aside(self, name: str) -> Sequence[Stack]:
        """(m, R, ...): what parameter ``name`` has set aside in dead slots, zero in live ones."""
        return self._adapters.stacks(name, aside=True)

    def stacks(self, name: str, gradients: bool = False) -> Sequence[Stack]:
        """A parameter or its gradient, (m, R, ...) for each group of modules of equal shape."""
        return self._adapters.stacks(name, gradients)

    def board(self, stacks: Sequence[Stack], reduce: Callable[[Tensor], Tensor]) -> Tensor:
        """Reduce every stack (m, R, ...) to (m, R) and lay the results out as a board (M, R)."""
        board = torch.empty(self.shape, device=self.device)
        for stack in stacks:
            board[stack.rows] = reduce(stack.values)
        return board


def _row_norms(values: Tensor) -> Tensor:
    return torch.linalg.vector_norm(
        values.float().flatten(2) if values.dim() > 2 else values.float()[..., None], dim=-1
    )
