"""A bottleneck, and the places of a layer at which it can sit.

=========  ======================================================  =========
symbol     meaning                                                 shape
=========  ======================================================  =========
``D``      ``down``                                                (m, d_in)
``U``      ``up``                                                  (d_out, m)
``f(x)``   ``U act(D x + b_D) + b_U``: without its own residual    (..., d_out)
=========  ======================================================  =========
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankadapt.adapters.adaptation import Whole
from rankadapt.errors import ModelError, Problem

Activation = Literal["gelu", "relu", "swish", "tanh"]
Init = Literal["truncated", "gaussian", "mam"]
Side = Literal["input", "output", "parallel"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "swish": F.silu,
    "tanh": torch.tanh,
}


class Bottleneck(nn.Module):
    """``f(x) = U act(D x)``, (..., d_in) -> (..., d_out), its parameters in float32.

    Args:
        size: m.
        init: both factors ``truncated`` normal (at two deviations) or ``gaussian`` with ``std``; ``mam``: D
            Kaiming-uniform as in nn.Linear and U zero, so that f is zero. Biases are zero.
        seed: of the initial values; equal on every process.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        size: int,
        activation: Activation,
        init: Init,
        std: float,
        bias: bool,
        seed: int,
        device: torch.device | None = None,
    ):
        super().__init__()
        self.activation = activation
        generator = torch.Generator().manual_seed(seed % 2**64)
        self.down = nn.Parameter(_draw((size, d_in), init, std, generator).to(device))
        up = torch.zeros(d_out, size) if init == "mam" else _draw((d_out, size), init, std, generator)
        self.up = nn.Parameter(up.to(device))
        self.down_bias = nn.Parameter(torch.zeros(size, device=device)) if bias else None
        self.up_bias = nn.Parameter(torch.zeros(d_out, device=device)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        u = ACTIVATIONS[self.activation](_affine(x, self.down, self.down_bias))
        return _affine(u, self.up, self.up_bias)

    def extra_repr(self) -> str:
        return f"{self.down.shape[1]} -> {self.down.shape[0]} -> {self.up.shape[0]}, {self.activation}"


class Attached(nn.Module):
    """``base`` with a bottleneck f: on its ``input`` (base(x + f(x))), on its ``output`` (y + f(y)), or
    ``parallel`` to it (base(x) + f(x))."""

    def __init__(self, base: nn.Module, bottleneck: nn.Module, side: Side):
        super().__init__()
        self.base, self.bottleneck, self.side = base, bottleneck, side

    @property
    def weight(self) -> Tensor:
        """The weight of the base, for models that look at it."""
        return self.base.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        """The bias of the base."""
        return self.base.bias  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        if self.side == "input":
            return self.base(x + self.bottleneck(x))
        y = self.base(x)
        return y + self.bottleneck(y if self.side == "output" else x)

    def extra_repr(self) -> str:
        return f"side={self.side}"


@dataclass(kw_only=True)
class Nonlinear(Whole):
    """What has an activation inside: no weight is equal to it."""

    merges: ClassVar[bool] = False

    def merge(self, model: nn.Module) -> nn.Module:
        reason = "has an activation inside, so no weight of the base model can hold it"
        remedy = "keep its tensors beside the base model, or use a method that merges, e.g. method=lora"
        raise ModelError(Problem("form", type(self).__name__, reason, remedy))


def layer_norms(model: nn.Module) -> list[nn.Module]:
    """The normalisation layers of ``model`` (LayerNorm, RMSNorm, ...), in model order."""
    return [m for m in model.modules() if type(m).__name__.endswith("Norm")]


def _draw(shape: tuple[int, int], init: Init, std: float, generator: torch.Generator) -> Tensor:
    values = torch.empty(shape)
    if init == "mam":
        bound = 1 / math.sqrt(shape[1])
        return values.uniform_(-bound, bound, generator=generator)
    if init == "truncated":
        return nn.init.trunc_normal_(values, 0.0, std, -2 * std, 2 * std, generator=generator)
    return values.normal_(0.0, std, generator=generator)


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))
