"""A frozen linear layer with slots for directions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rankadapt.adapters.combine import Add, Call, Combine
from rankadapt.adapters.forms import Form
from rankadapt.adapters.merging import Mergeable, shift_base
from rankadapt.adapters.options import AdapterOptions, TokenWeights
from rankadapt.adapters.probes import ProbedInput, ProbedUpdate
from rankadapt.boards import Storage

RESERVE_CORE = 1e-5
"""The fixed core of a direction that trains ahead (IncreLoRA's code)."""


class AdaptedLinear(Mergeable):
    """``base`` and a low-rank update in R slots, of which the first ``rank`` are live.

    The slots' parameters (``A`` (R, d_in), ``B`` (R, d_out), ...) are attributes named by the form. They
    never change shape. Only :mod:`rankadapt.adapters.slots` writes them and ``live`` outside training.

    Args:
        base: the layer to adapt; it is frozen here.
        form: the form of the update.
        slots: R. rank: directions at the start, at most R.
        options: scale and dropout.
        seed: of the initial values; equal on every process.
        combine: how the update meets the base weight; None to add it.
        storage: what becomes of dead slots.
    """

    A: nn.Parameter
    live: Tensor
    scale: Tensor
    window_scale: Tensor
    ahead: Tensor

    def __init__(
        self,
        base: nn.Linear,
        form: Form,
        slots: int,
        rank: int,
        options: AdapterOptions,
        seed: int,
        combine: Combine | None = None,
        storage: Storage = "fresh",
    ):
        super().__init__()
        self.base, self.form, self.options = base.requires_grad_(False), form, options
        self.combine, self.storage = combine or Add(), storage
        self.in_features, self.out_features = base.in_features, base.out_features
        self.slots, self.initial_rank, self.rank = slots, rank, rank
        self.window: int | None = None  # how many slots take part while training; None for all that live
        self.learn_from = 0  # the first of them that receives gradients
        self.probe: Tensor | None = None
        self.input_probe: Tensor | None = None
        self.update_probe: Tensor | None = None
        self.tokens = TokenWeights()
        self.dropout = nn.Dropout(options.dropout)
        self.residual = False
        self._create_slots(base, seed)
        self.extra_names = []
        for name, value in self.combine.parameters(base.weight.data).items():
            self.register_parameter(name, nn.Parameter(value))
            self.extra_names.append(name)
        self.register_load_state_dict_post_hook(_refresh)
        self.refresh()

    def _create_slots(self, base: nn.Linear, seed: int) -> None:
        device, rank, form = base.weight.device, self.rank, self.form
        drawn = rank if self.storage == "fresh" else self.slots
        first = min(drawn + form.reserve, self.slots)
        place = torch.arange(self.slots)
        shapes = form.shapes(base.in_features, base.out_features, self.slots)
        for index, (name, shape) in enumerate(shapes.items()):
            values = torch.zeros(self.slots, *shape)
            values[:first] = form.draw(form.initial[name], first, shape, form.std, seed * 8 + index)
            values = form.trimmed(name, values)
            if self.storage == "aside":
                kept = (place >= rank).view(-1, *[1] * len(shape))
                self.register_buffer(f"aside_{name}", (values * kept).to(device))
                values = values * ~kept
            trains = name not in form.frozen
            self.register_parameter(name, nn.Parameter(values.to(device), requires_grad=trains))
        self.register_buffer("live", (place < rank).to(device))
        self.register_buffer("ahead", torch.zeros(self.slots, device=device))
        if form.reserve:
            self.ahead[rank:first] = RESERVE_CORE
        for name in ("scale", "window_scale"):
            self.register_buffer(name, torch.ones((), device=device), persistent=False)

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

    def extra_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters of the combination (DoRA's magnitude), by name."""
        return {name: getattr(self, name) for name in self.extra_names}

    def own_names(self) -> list[str]:
        """The names of what a checkpoint must hold of this layer."""
        buffers = [n for n in self._buffers if n not in self._non_persistent_buffers_set]
        return [*self.slot_parameters(), *self.extra_names, *buffers]

    @property
    def width(self) -> int:
        """How many leading slots take part in a forward pass."""
        if self.storage == "in_place":
            return self.slots
        held = min(self.rank + (self.form.reserve if self.reserves else 0), self.slots)
        return held if self.window is None or not self.training else min(self.window, held)

    def resize(self, rank: int, prefix: bool = True) -> None:
        """Note that ``rank`` slots live, the first ones if ``prefix``; the scale follows."""
        if prefix:
            self.live.copy_(torch.arange(self.slots, device=self.live.device) < rank)
        self.rank = rank
        self.scale.fill_(self.options.scale(rank, self.initial_rank, self.slots))

    def refresh(self) -> None:
        """Bring the host's copy of the rank, and the scale, in line with ``live``. Syncs the device."""
        self.reserves = self.form.reserve > 0
        if self.live.device.type == "meta":
            return
        self.reserves = self.reserves and bool(self.ahead.any())
        self.resize(int(self.live.sum()), prefix=False)

    def watch(self, activations: bool = True, inputs: bool = False, update: bool = False) -> None:
        """Note sums during backward passes, into the ``grad`` of each probe: of every slot's energy
        ``||X A[i,:]^T||^2``, of every input feature's, and the gradient of the whole update. None of them
        where all are False."""

        def probe(on: bool, *shape: int) -> Tensor | None:
            return torch.zeros(shape, device=self.live.device, requires_grad=True) if on else None

        if self.probes() == (None, None, None) and not (activations or inputs or update):
            return
        self.probe = probe(activations, self.slots)
        self.input_probe = probe(inputs, self.in_features + 1)
        self.update_probe = probe(update, self.out_features, self.in_features)

    def probes(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Those of activations, inputs and the update; None for what is not noted."""
        return self.probe, self.input_probe, self.update_probe

    def up(self, windowed: bool = False) -> Tensor:
        """``P`` (R, d_out) with ``ΔW = P^T A``: scale and core are folded in; ``windowed`` at the scale
        of the present window."""
        slots: Mapping[str, Tensor] = self.slot_parameters()
        if self.reserves:
            core = torch.where(self.ahead > 0, self.ahead, slots["e"])
            slots = {**slots, "e": core}
        scale = self.window_scale if windowed and self.window is not None else self.scale
        return self.form.up(slots, scale)

    def delta(self) -> Tensor:
        """``P^T A`` (d_out, d_in), in float32."""
        return self.up().float().t() @ self.A.float()

    def forward(self, x: Tensor) -> Tensor:
        if self._base_weight is not None:
            return self.base(x)
        branch = self.dropout(x) if self.training and self.options.dropout else None
        bias: Tensor | None = self.base.bias
        if not x.is_meta and torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x = x.to(dtype)
            bias = None if bias is None else bias.to(dtype)
            branch = None if branch is None else branch.to(dtype)
        A, P = self.A.to(x.dtype), self.up(windowed=self.training).to(x.dtype)
        if self.learn_from and self.training:
            A, P = (torch.cat([v[: self.learn_from].detach(), v[self.learn_from :]]) for v in (A, P))
        tokens = self.tokens.of(x)
        # A compiled graph must not depend on the rank: dead slots are zero, so all R may take part.
        width = self.slots if torch.compiler.is_compiling() and self.window is None else self.width
        extra, fused = self.extra_parameters(), self.options.fused
        call = Call(x, branch, self.base, bias, A, P, self.probe, tokens, width, fused, extra)
        return self._note(self.combine.forward(call), x if branch is None else branch, tokens)

    def _note(self, y: Tensor, x: Tensor, tokens: Tensor | None) -> Tensor:
        if self.input_probe is not None:
            y = ProbedInput.apply(y, x.detach(), self.input_probe, tokens)
        if self.update_probe is not None:
            y = ProbedUpdate.apply(y, x.detach(), self.update_probe)
        return y

    def _apply(self, fn: Any, recurse: bool = True) -> AdaptedLinear:
        super()._apply(fn, recurse)
        if self._base_weight is not None:
            self._base_weight = fn(self._base_weight)
        self.watch(*(probe is not None for probe in self.probes()))
        return self

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        moved = self.residual and f"{prefix}initial_A" in state
        with torch.no_grad():
            if moved:  # another machine's SVD may have other signs: its residual, not ours
                shift_base(self, state[f"{prefix}initial_A"], state[f"{prefix}initial_P"])
        super()._load_from_state_dict(state, prefix, *rest)

    def extra_repr(self) -> str:
        return f"form={type(self.form).__name__}, slots={self.slots}, rank={self.rank}"


def _refresh(module: AdaptedLinear, _: Any) -> None:
    module.refresh()


def other_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters of ``model`` outside the adapters, with their paths: the frozen base, and the head."""
    own = {
        id(p)
        for _, layer in adapted_layers(model)
        for p in (*layer.slot_parameters().values(), *layer.extra_parameters().values())
    }
    return ((name, p) for name, p in model.named_parameters() if id(p) not in own)


def adapted_layers(model: nn.Module) -> Iterator[tuple[str, AdaptedLinear]]:
    """The adapted layers of ``model`` with their paths, in the order of the model."""
    return ((name, m) for name, m in model.named_modules() if isinstance(m, AdaptedLinear))
