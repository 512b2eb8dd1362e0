"""A frozen linear layer with slots for directions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from rankadapt.adapters.forms import Form
from rankadapt.adapters.lowrank import LowRankLinear, lowrank_linear_reference


@dataclass(kw_only=True)
class AdapterOptions:
    """What all forms share.

    Attributes:
        lora_alpha: numerator of the scale.
        scaling: the scale is ``lora_alpha`` over the module's ``current`` rank, so that it moves with it
            (HeBiRA's "1/ranknum"), or over its ``initial`` rank (AdaLoRA).
        dropout: on the input of the adapter branch.
        fused: one autograd node per layer; False writes it out for plain autograd (slower, for checks).
    """

    lora_alpha: Annotated[float, Gt(0)] = 16.0
    scaling: Literal["current", "initial"] = "current"
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    fused: bool = True


class TokenWeights:
    """Shared by all adapted layers of a model: the weight of each token (batch, time) in activation
    energies. None counts every token, padding included."""

    value: Tensor | None = None


class AdaptedLinear(nn.Module):
    """``base`` plus a low-rank update in R slots, of which the first ``rank`` are live.

    The slots' parameters (``A`` (R, d_in), ``B`` (R, d_out), ...) are attributes named by the form. They
    never change shape. Only :mod:`rankadapt.adapters.slots` writes them and ``live`` outside training.

    Args:
        base: the layer to adapt; it is frozen here.
        form: the form of the update.
        slots: R. rank: directions at the start, at most R.
        options: scale and dropout.
        seed: of the initial values; equal on every process.
    """

    A: nn.Parameter
    live: Tensor
    scale: Tensor

    def __init__(
        self, base: nn.Linear, form: Form, slots: int, rank: int, options: AdapterOptions, seed: int
    ):
        super().__init__()
        self.base, self.form, self.options = base.requires_grad_(False), form, options
        self.slots, self.initial_rank, self.rank = slots, rank, rank
        self.probe: Tensor | None = None
        self.tokens = TokenWeights()
        self.dropout = nn.Dropout(options.dropout)
        self._base_weight: Tensor | None = None
        device = base.weight.device
        for index, (name, shape) in enumerate(form.shapes(base.in_features, base.out_features).items()):
            values = torch.zeros(slots, *shape)
            values[:rank] = form.draw(form.initial[name], rank, shape, form.std, seed * 8 + index)
            self.register_parameter(name, nn.Parameter(values.to(device)))
        self.register_buffer("live", (torch.arange(slots) < rank).to(device))
        self.register_buffer("scale", torch.ones((), device=device), persistent=False)
        self.register_load_state_dict_post_hook(_refresh)
        self.refresh()

    @property
    def weight(self) -> Tensor:
        """The base weight (d_out, d_in), for models that look at it."""
        return self.base.weight

    @property
    def bias(self) -> Tensor | None:
        """The base bias (d_out,)."""
        return self.base.bias

    def slot_parameters(self) -> dict[str, nn.Parameter]:
        """The slots' parameters by name, in the form's order."""
        return {name: getattr(self, name) for name in self.form.initial}

    def refresh(self) -> None:
        """Bring the host's copy of the rank, and the scale, in line with ``live``. Syncs the device."""
        if self.live.device.type == "meta":
            return
        self.rank = int(self.live.sum())
        ranks = self.rank if self.options.scaling == "current" else self.initial_rank
        self.scale.fill_(self.options.lora_alpha / max(ranks, 1))

    def watch(self, on: bool = True) -> None:
        """Sum the energy ``||X A[i,:]^T||^2`` of every slot during backward passes, into ``probe.grad``."""
        self.probe = torch.zeros(self.slots, device=self.live.device, requires_grad=True) if on else None

    def up(self) -> Tensor:
        """``P`` (R, d_out) with ``ΔW = P^T A``: scale and core are folded in."""
        return self.form.up(self.slot_parameters(), self.scale)

    def delta(self) -> Tensor:
        """ΔW (d_out, d_in), in float32."""
        return self.up().float().t() @ self.A.float()

    def forward(self, x: Tensor) -> Tensor:
        if self._base_weight is not None:
            return self.base(x)
        branch = self.dropout(x) if self.training and self.options.dropout else None
        weight: Tensor = self.base.weight
        bias: Tensor | None = self.base.bias
        if not x.is_meta and torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight = x.to(dtype), weight.to(dtype)
            bias = None if bias is None else bias.to(dtype)
            branch = None if branch is None else branch.to(dtype)
        A, P = self.A.to(x.dtype), self.up().to(x.dtype)
        tokens = self.tokens.value
        if tokens is not None and tokens.shape != x.shape[:-1]:
            tokens = None  # not the batch: DeBERTa also projects its relative positions
        if not self.options.fused or weight.requires_grad:
            return lowrank_linear_reference(x, branch, weight, bias, A, P, self.probe, tokens)
        # A compiled graph must not depend on the rank: dead slots are zero, so all R may take part.
        r = self.slots if torch.compiler.is_compiling() else self.rank
        return LowRankLinear.apply(x, branch, weight, bias, A, P, self.probe, tokens, r)

    def merge(self) -> None:
        """Add the update to the base weight; :meth:`unmerge` brings the base back bit for bit, for which
        the original weight is kept."""
        if self._base_weight is None:
            self._base_weight = self.base.weight.data
            with torch.no_grad():
                self.base.weight.data = (self._base_weight.float() + self.delta()).to(self.base.weight.dtype)

    def unmerge(self) -> None:
        """Undo :meth:`merge`."""
        if self._base_weight is not None:
            self.base.weight.data, self._base_weight = self._base_weight, None

    def merged(self) -> nn.Linear:
        """The plain layer with the update in its weight; this one gives its base away for good."""
        self.merge()
        self._base_weight = None
        return self.base

    def _apply(self, fn: Any, recurse: bool = True) -> AdaptedLinear:
        super()._apply(fn, recurse)
        if self._base_weight is not None:
            self._base_weight = fn(self._base_weight)
        if self.probe is not None and self.probe.device != self.live.device:
            self.watch()
        return self

    def extra_repr(self) -> str:
        return f"form={type(self.form).__name__}, slots={self.slots}, rank={self.rank}"


def _refresh(module: AdaptedLinear, _: Any) -> None:
    module.refresh()


def other_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters of ``model`` outside the slots, with their paths: the frozen base, and the head."""
    slots = {id(p) for _, layer in adapted_layers(model) for p in layer.slot_parameters().values()}
    return ((name, p) for name, p in model.named_parameters() if id(p) not in slots)


def adapted_layers(model: nn.Module) -> Iterator[tuple[str, AdaptedLinear]]:
    """The adapted layers of ``model`` with their paths, in the order of the model."""
    return ((name, m) for name, m in model.named_modules() if isinstance(m, AdaptedLinear))
