"""All adapters of a model as boards: what scorers and policies may see of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rankadapt.adapters.linear import AdaptedLinear, adapted_layers
from rankadapt.boards import Limits
from rankadapt.errors import ModelError, Problem


@dataclass(frozen=True)
class Stack:
    """One parameter of several modules of equal shape, stacked.

    Attributes:
        rows: (m,) int64, the modules' rows on the boards. values: (m, R, ...) weights or gradients.
    """

    rows: Tensor
    values: Tensor


class Adapters:
    """The adapted layers of ``model``, in model order.

    Raises:
        ModelError: the model has none, or they differ in the number of slots.
    """

    def __init__(self, model: nn.Module):
        found = dict(adapted_layers(model))
        if not found:
            raise ModelError(
                Problem("model", type(model).__name__, "it has no adapted layer", "call inject first")
            )
        self.names: list[str] = list(found)
        self.layers: list[AdaptedLinear] = list(found.values())
        self.slots = self.layers[0].slots
        if {layer.slots for layer in self.layers} != {self.slots}:
            raise ModelError(Problem("model", None, "its layers differ in their number of slots"))
        self.tokens = self.layers[0].tokens  # not a new one: several views of one model must agree
        self._groups: dict[str, list[tuple[Tensor, list[AdaptedLinear]]]] = {}
        for layer in self.layers:
            layer.tokens = self.tokens

    def __len__(self) -> int:
        return len(self.layers)

    def live(self) -> Tensor:
        """(M, R) bool: the slots in use."""
        return torch.stack([layer.live for layer in self.layers])

    def ranks(self) -> list[int]:
        """The rank of every module, from the host's copy: no device sync."""
        return [layer.rank for layer in self.layers]

    def limits(self, minimum: int, maximum: int | None) -> Limits:
        """Bounds on ranks: ``maximum`` is cut to R and to each layer's min(d_in, d_out)."""
        top = self.slots if maximum is None else min(maximum, self.slots)
        sizes = [min(top, layer.base.in_features, layer.base.out_features) for layer in self.layers]
        device = self.layers[0].live.device
        return Limits(torch.full((len(self),), minimum, device=device), torch.tensor(sizes, device=device))

    def watch(self) -> None:
        """Let every backward pass sum the activation energies."""
        for layer in self.layers:
            layer.watch()

    def take_energies(self) -> Tensor:
        """(M, R) float32: ``||X A[i,:]^T||^2`` over all calls, tokens, micro-batches and processes since the
        last time, which are forgotten here."""
        zero = torch.zeros(self.slots, device=self.layers[0].live.device)
        board = torch.stack([_taken(layer, zero) for layer in self.layers])
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(board)
        return board

    def stacks(self, name: str, gradients: bool = False) -> list[Stack]:
        """Parameter ``name`` of all modules, or its gradient, stacked by shape."""
        if name not in self._groups:
            self._groups[name] = self._by_shape(name)
        stacks = []
        for rows, layers in self._groups[name]:
            tensors = [getattr(layer, name) for layer in layers]
            if gradients:
                tensors = [torch.zeros_like(t) if t.grad is None else t.grad for t in tensors]
            stacks.append(Stack(rows, torch.stack(tensors).detach()))
        return stacks

    def _by_shape(self, name: str) -> list[tuple[Tensor, list[AdaptedLinear]]]:
        shapes: dict[torch.Size, list[int]] = {}
        for row, layer in enumerate(self.layers):
            shapes.setdefault(getattr(layer, name).shape, []).append(row)
        device = self.layers[0].live.device
        return [
            (torch.tensor(rows, device=device), [self.layers[row] for row in rows])
            for rows in shapes.values()
        ]


def _taken(layer: AdaptedLinear, zero: Tensor) -> Tensor:
    if layer.probe is None or layer.probe.grad is None:
        return zero
    energy, layer.probe.grad = layer.probe.grad, None
    return energy


class Reading:
    """What one optimizer step left behind, before the optimizer moves anything.

    Gradients are those of the whole step: accumulated, reduced over processes, unscaled, unclipped.
    """

    def __init__(self, adapters: Adapters):
        self._adapters = adapters
        self._energies: Tensor | None = None

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
        return self._adapters.layers[0].live.device

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
        return self._adapters.take_input_energies()

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
