"""All adapters of a model, in order."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rankadapt.adapters.linear import AdaptedLinear, adapted_layers
from rankadapt.adapters.options import TokenWeights
from rankadapt.boards import Limits, Storage
from rankadapt.errors import ModelError, Problem


@dataclass(frozen=True)
class Stack:
    """One quantity of several modules of equal shape, stacked.

    Attributes:
        rows: (m,) int64, the modules' rows on the boards. values: (m, ...), e.g. (m, R, d_in) for weights.
    """

    rows: Tensor
    values: Tensor


class Adapters:
    """The adapted layers of ``model``, in model order.

    Args:
        may_be_empty: a model that is adapted in another way has none.

    Raises:
        ModelError: the model has none, or they differ in the number of slots.
    """

    def __init__(self, model: nn.Module, may_be_empty: bool = False):
        found = dict(adapted_layers(model))
        if not found and not may_be_empty:
            raise ModelError(
                Problem("model", type(model).__name__, "it has no adapted layer", "call inject first")
            )
        self.names: list[str] = list(found)
        self.layers: list[AdaptedLinear] = list(found.values())
        self.slots = self.layers[0].slots if found else 0
        if {layer.slots for layer in self.layers} - {self.slots}:
            raise ModelError(Problem("model", None, "its layers differ in their number of slots"))
        # Not new ones: several views of one model must agree.
        self.tokens = self.layers[0].tokens if found else TokenWeights()
        self.storage: Storage = self.layers[0].storage if found else "fresh"
        self._groups: dict[str, list[tuple[Tensor, list[AdaptedLinear]]]] = {}
        for layer in self.layers:
            layer.tokens = self.tokens

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def device(self) -> torch.device:
        """Where the boards live."""
        return self.layers[0].live.device if self.layers else torch.device("cpu")

    def live(self) -> Tensor:
        """(M, R) bool: the slots in use."""
        return torch.stack([layer.live for layer in self.layers])

    def ranks(self) -> list[int]:
        """The rank of every module, from the host's copy: no device sync."""
        return [layer.rank for layer in self.layers]

    @property
    def reserves(self) -> bool:
        """Whether directions train ahead of the live ones."""
        return any(layer.reserves for layer in self.layers)

    def blocks(self) -> list[int]:
        """The transformer block of every module, counted from 0 in model order: what its path has up to and
        with the first number. A module outside all blocks is one of its own."""
        return block_numbers(self.names)

    def parameter_costs(self) -> list[int]:
        """What one direction of each module takes of trainable parameters."""
        return [layer.form.count(1, layer.in_features, layer.out_features) for layer in self.layers]

    def limits(self, minimum: int, maximum: int | None, parameters: bool = False) -> Limits:
        """Bounds on ranks: ``maximum`` is cut to R and to each layer's min(d_in, d_out). A direction costs
        its ``parameters``, or 1."""
        top = self.slots if maximum is None else min(maximum, self.slots)
        sizes = [min(top, layer.in_features, layer.out_features) for layer in self.layers]
        return Limits(
            torch.full((len(self),), minimum, device=self.device),
            torch.tensor(sizes, device=self.device),
            torch.tensor(self.parameter_costs(), device=self.device) if parameters else None,
            torch.tensor(self.blocks(), device=self.device),
        )

    def watch(self, activations: bool = True, inputs: bool = False, update: bool = False) -> None:
        """Let every backward pass note what is asked for, see :meth:`AdaptedLinear.watch`."""
        for layer in self.layers:
            layer.watch(activations, inputs, update)

    @torch.no_grad()
    def set_window(self, window: int, learn_from: int = 0) -> None:
        """Let only the first ``window`` slots of every module take part while training, at the scale of that
        rank, and only those from ``learn_from`` on receive gradients (DyLoRA)."""
        for layer in self.layers:
            layer.window, layer.learn_from = window, learn_from
        scales = [layer.window_scale for layer in self.layers]
        torch._foreach_zero_(scales)
        torch._foreach_add_(scales, self.layers[0].options.scale(window, window, self.slots))

    def forget(self) -> None:
        """Drop what the probes have noted since it was last taken."""
        for layer in self.layers:
            for probe in layer.probes():
                if probe is not None:
                    probe.grad = None

    def take_energies(self) -> Tensor:
        """(M, R) float32: ``||X A[i,:]^T||^2`` over all calls, tokens, micro-batches and processes since the
        last time, which are forgotten here."""
        zero = torch.zeros(self.slots, device=self.device)
        return _summed(torch.stack([_taken(layer.probe, zero) for layer in self.layers]))

    def take_input_energies(self) -> list[Stack]:
        """(m, d_in) float32 per width: the mean over all tokens since the last time of every input feature's
        square."""
        stacks = []
        for rows, layers in self.alike("A"):
            zero = torch.zeros(layers[0].in_features + 1, device=self.device)
            sums = _summed(torch.stack([_taken(layer.input_probe, zero) for layer in layers]))
            stacks.append(Stack(rows, sums[:, :-1] / sums[:, -1:].clamp(min=1)))
        return stacks

    def take_dense_sensitivity(self) -> Tensor:
        """(M,) float32: ``sum |ΔW * dLoss/dΔW| / sqrt(numel)`` since the last time; the gradient is averaged
        over processes, as gradients are. Module by module: all updates at once would take as much memory as
        all these gradients do."""
        zero = torch.zeros((), device=self.device)
        products = [_dense_product(layer, zero) for layer in self.layers]
        roots = [(layer.in_features * layer.out_features) ** 0.5 for layer in self.layers]
        return torch.stack(torch._foreach_div(torch._foreach_norm(products, 1), roots))

    def stacks(self, name: str, gradients: bool = False, aside: bool = False) -> list[Stack]:
        """Parameter ``name`` of all modules, or its gradient, or what it has set aside, stacked by shape."""
        stacks = []
        for rows, layers in self.alike(name):
            tensors = [getattr(layer, name) for layer in layers]
            if gradients:
                tensors = [torch.zeros_like(t) if t.grad is None else t.grad for t in tensors]
            if aside:
                tensors = [
                    getattr(layer, f"aside_{name}", torch.zeros_like(t))
                    for layer, t in zip(layers, tensors, strict=True)
                ]
            stacks.append(Stack(rows, torch.stack(tensors).detach()))
        return stacks

    def alike(self, name: str) -> list[tuple[Tensor, list[AdaptedLinear]]]:
        """Modules by the shape of their parameter ``name``; the groups are made once."""
        if name not in self._groups:
            shapes: dict[torch.Size, list[int]] = {}
            for row, layer in enumerate(self.layers):
                shapes.setdefault(getattr(layer, name).shape, []).append(row)
            self._groups[name] = [
                (torch.tensor(rows, device=self.device), [self.layers[row] for row in rows])
                for rows in shapes.values()
            ]
        return self._groups[name]


def block_numbers(paths: Iterable[str]) -> list[int]:
    """The transformer block of every module path, counted from 0 in the order given."""
    seen: dict[str, int] = {}
    return [seen.setdefault(block_of(path), len(seen)) for path in paths]


def block_of(path: str) -> str:
    """``bert.encoder.layer.3`` for a module in it; the path itself where it has no number."""
    match = re.match(r"(?:[^.]+\.)*?\d+(?=\.|$)", path)
    return match.group(0) if match else path


def _taken(probe: Tensor | None, zero: Tensor) -> Tensor:
    if probe is None or probe.grad is None:
        return zero
    noted, probe.grad = probe.grad, None
    return noted


def _summed(board: Tensor) -> Tensor:
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(board)
    return board


def _dense_product(layer: AdaptedLinear, zero: Tensor) -> Tensor:
    """``ΔW * dLoss/dΔW`` (d_out, d_in), in the place of the gradient that is taken; ``zero`` without one."""
    gradient = _taken(layer.update_probe, zero)
    if dist.is_available() and dist.is_initialized():
        gradient = _summed(gradient) / dist.get_world_size()
    return gradient.mul_(layer.delta().detach()) if gradient.dim() else gradient
