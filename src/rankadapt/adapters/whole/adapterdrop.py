"""AdapterDrop (Rücklé et al. 2021, arXiv 2010.11918): bottlenecks, but not in the first ``n`` blocks.

*Specialised*: the first n blocks never have one. *Robust*: they all do, and every forward pass in training
goes without those of the first ``n' ~ U{0..n}`` blocks, so that at evaluation any number up to n may be left
out.

Where this differs from the paper or its code, and why:

- A dropped bottleneck is multiplied by zero, not skipped: its gradient is zero, not missing, so that
  processes that draw different numbers still agree on what is averaged. It saves no time in training.
- Blocks are counted in model order: a decoder's come after its encoder's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from rankadapt.adapters.whole.bottleneck import Activation, Attached, Nonlinear
from rankadapt.adapters.whole.houlsby import Houlsby
from rankadapt.adapters.whole.pfeiffer import Pfeiffer, TwiceNormed
from rankadapt.adapters.whole.places import adapted_blocks
from rankadapt.errors import ModelError, Problem


class Gate(nn.Module):
    """How many blocks go without their bottleneck just now; shared by all of them.

    Args:
        n: at most this many in training. evaluate_without: this many otherwise.
    """

    dropped: Tensor

    def __init__(self, n: int, evaluate_without: int, device: torch.device):
        super().__init__()
        self.n, self.evaluate_without = n, evaluate_without
        self.register_buffer("dropped", torch.zeros((), dtype=torch.long, device=device), persistent=False)

    def draw(self, model: nn.Module, _: Any) -> None:
        """Before every forward pass of ``model``; what a backward pass recomputes sees the same number."""
        if model.training:
            self.dropped.copy_(torch.randint(0, self.n + 1, ()))
        else:
            self.dropped.fill_(self.evaluate_without)


class Gated(nn.Module):
    """The bottleneck ``base`` of the block ``index``, or zero while that block is dropped."""

    def __init__(self, base: nn.Module, index: int, gate: Gate):
        super().__init__()
        self.base, self.index, self.gate = base, index, gate

    def forward(self, x: Tensor) -> Tensor:
        y = self.base(x)
        return y * (self.gate.dropped <= self.index).to(y.dtype)


@dataclass(kw_only=True)
class AdapterDrop(Nonlinear):
    """Houlsby or Pfeiffer bottlenecks without those of the first blocks.

    Attributes:
        adapter: of which kind.
        n: blocks without; None for five in twelve, as the paper has it for BERT-base.
        robust: in training at most n, drawn for every forward pass.
        evaluate_without: blocks without at evaluation, if robust (else it is always n).
        size, activation: of the bottleneck; None for the kind's own.
        train_layer_norms: as in :class:`Houlsby`; None for the kind's own.
    """

    adapter: Literal["houlsby", "pfeiffer"] = "pfeiffer"
    n: Annotated[int, Ge(0)] | None = None
    robust: bool = False
    evaluate_without: Annotated[int, Ge(0)] = 0
    size: Annotated[int, Gt(0)] | None = None
    activation: Activation | None = None
    train_layer_norms: bool | None = None

    def install(self, model: nn.Module, targets: Mapping[str, nn.Linear], rank: int, seed: int) -> nn.Module:
        blocks = adapted_blocks(model, targets)
        n = max(round(len(blocks) * 5 / 12), 1) if self.n is None else self.n
        left_out = max(n, self.evaluate_without)
        if left_out > len(blocks) or (left_out == len(blocks) and not self.robust):
            reason = f"leaves no bottleneck in a model of {len(blocks)} blocks"
            raise ModelError(Problem("form.n", left_out, reason, "lower it"))
        if not self.robust:
            return self._kind().install_in(model, blocks[n:], seed)
        self._kind().install_in(model, blocks, seed)
        gate = Gate(n, self.evaluate_without, next(model.parameters()).device)
        for index, block in enumerate(blocks):
            for module in model.get_submodule(block.path).modules():
                if isinstance(module, Attached | TwiceNormed):
                    module.bottleneck = Gated(module.bottleneck, index, gate)
        model.register_forward_pre_hook(gate.draw)
        return model

    def problems(self, architecture: str, targets: Iterable[str]) -> list[Problem]:
        return self._kind().problems(architecture, targets)

    def _kind(self) -> Houlsby | Pfeiffer:
        own = {
            "size": self.size,
            "activation": self.activation,
            "train_layer_norms": self.train_layer_norms,
        }
        given: dict[str, Any] = {key: value for key, value in own.items() if value is not None}
        return Houlsby(**given) if self.adapter == "houlsby" else Pfeiffer(**given)
