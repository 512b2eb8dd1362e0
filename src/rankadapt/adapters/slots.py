"""Rank changes: the only code that writes live masks, and moves slot values and optimizer state.

The live slots of a module are its first ``rank`` rows. A change removes rows, closes the gaps in order (so
that slots stay sorted by age), and draws new rows behind the survivors. The same permutation is applied to
parameters, to their optimizer state, and, by the caller, to whatever else is kept per slot.

That is storage ``fresh``. What is cut off may also wait with its weights (``aside``), or stay where it is and
go on training (``in_place``): see :data:`rankadapt.boards.Storage`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rankadapt.adapters.linear import RESERVE_CORE, AdaptedLinear
from rankadapt.adapters.reading import Adapters
from rankadapt.boards import Change, Moves, plan, stay

OptimizerReset = Literal["changed", "new", "all", "none"]
"""Whose AdamW state starts anew at an event:

- ``changed``: every module that lost or received a direction, step count included (HeBiRA's "weight
  inheritance with optimizer reset").
- ``new``: only the new directions. Their first moment is 0; their second moment is the mean of the
  module's survivors, because AdamW counts steps per tensor: a zero second moment there would make the
  first updates several times too large. A module without survivors starts anew altogether.
- ``all``: every adapted module.
- ``none``: survivors and new directions keep the module's step count, new ones with moments of 0. For
  ablation: a new direction is kicked, its first update is up to ``(1-b1)/sqrt(1-b2)`` times the learning
  rate, 3.2 with AdamW's defaults.
"""
SECOND_MOMENTS = frozenset({"exp_avg_sq", "max_exp_avg_sq"})


@torch.no_grad()
def apply(
    adapters: Adapters, change: Change, optimizer: Optimizer | None, reset: OptimizerReset, seed: int
) -> Moves:
    """Carry out ``change`` on every module it touches.

    Args:
        change: within the limits of the modules.
        optimizer: whose state follows; None if there is none.
        reset: whose optimizer state starts anew (nothing is new under ``in_place``: no state is touched).
        seed: of the new directions: a function of run and step, equal on every process.

    Returns:
        The moves, for boards kept elsewhere.
    """
    live, storage = adapters.live(), adapters.storage
    if storage == "in_place":
        return _mask(adapters, live, change)
    moves = plan(live, change)
    carry_out = _set_aside if storage == "aside" else _rearrange
    for row, kept, births in zip(moves.changed, moves.kept, moves.births, strict=True):
        event = _Event(moves.source[row], kept, births, optimizer, reset, seed * 65_537 + row)
        carry_out(adapters.layers[row], event)
    if reset == "all":
        for layer in adapters.layers:
            _restart(optimizer, layer.slot_parameters().values())
    return moves


@dataclass(frozen=True)
class _Event:
    """What happens to one module: its slots come from ``source`` (R,); ``kept`` stay, ``births`` follow."""

    source: Tensor
    kept: int
    births: int
    optimizer: Optimizer | None
    reset: OptimizerReset
    seed: int

    @property
    def new(self) -> slice:
        return slice(self.kept, self.kept + self.births)

    @property
    def rank(self) -> int:
        return self.kept + self.births

    def restarts(self) -> bool:
        return self.reset == "changed" or (self.reset == "new" and not self.kept)


def _rearrange(layer: AdaptedLinear, event: _Event) -> None:
    if layer.reserves:
        return _promote(layer, event)
    lost = event.kept < layer.rank
    inherited = layer.options.scale(layer.rank, layer.initial_rank, layer.slots)
    for index, (name, parameter) in enumerate(layer.slot_parameters().items()):
        square = name in layer.form.square
        if lost:
            parameter.copy_(_pick(parameter, event.source, square))
        _draw(layer, index, name, parameter, event)
        if not event.restarts():
            for key, state in _row_states(event.optimizer, parameter):
                state.copy_(_pick(state, event.source, square))
                _settle(key, state, event)
    layer.resize(event.rank)
    if layer.form.new_direction == "preserving" and event.kept:
        outgoing = layer.slot_parameters()[layer.form.outgoing]
        outgoing[: event.kept] *= inherited / layer.options.scale(event.rank, layer.initial_rank, layer.slots)
    if event.restarts():
        _restart(event.optimizer, layer.slot_parameters().values())


def _promote(layer: AdaptedLinear, event: _Event) -> None:
    """Growth where directions train ahead: the reserve goes live as it is, and a new one is drawn behind."""
    if event.kept < layer.rank:
        raise RuntimeError("a form with a reserve only grows")
    behind = slice(event.kept + layer.form.reserve, event.rank + layer.form.reserve)
    fresh = _Event(event.source, behind.start, event.births, event.optimizer, event.reset, event.seed)
    for index, (name, parameter) in enumerate(layer.slot_parameters().items()):
        _draw(layer, index, name, parameter, fresh)
        for key, state in _row_states(event.optimizer, parameter):
            _settle(key, state, fresh)
    core = layer.slot_parameters()[layer.form.outgoing]
    core[event.new] = layer.ahead[event.new]
    core[behind] = 0
    layer.ahead[event.new] = 0
    layer.ahead[behind] = RESERVE_CORE
    layer.resize(event.rank)


def _set_aside(layer: AdaptedLinear, event: _Event) -> None:
    """The prefix grows or shrinks; what leaves it waits with its weights."""
    for name, parameter in layer.slot_parameters().items():
        waiting = getattr(layer, f"aside_{name}")
        waiting[event.rank : layer.rank] = parameter[event.rank : layer.rank]
        parameter[event.rank : layer.rank] = 0
        parameter[event.new] += waiting[event.new]
        waiting[event.new] = 0
        for key, state in _row_states(event.optimizer, parameter):
            state[event.rank : layer.rank] = 0
            _settle(key, state, event)
    layer.resize(event.rank)
    if event.restarts():
        _restart(event.optimizer, layer.slot_parameters().values())


def _mask(adapters: Adapters, live: Tensor, change: Change) -> Moves:
    after = live & ~change.pruned if change.revived is None else live & ~change.pruned | change.revived
    moves = stay(live, change)
    for row, rank in zip(moves.changed, moves.kept, strict=True):
        adapters.layers[row].live.copy_(after[row])
        adapters.layers[row].resize(rank, prefix=False)
    hold(adapters)
    return moves


@torch.no_grad()
def hold(adapters: Adapters) -> None:
    """Set the cores of dead slots to zero, under ``in_place``: they may have regrown since the last event."""
    cores = [layer.slot_parameters()[layer.form.outgoing].detach() for layer in adapters.layers]
    live = adapters.live().to(cores[0].dtype)
    torch._foreach_mul_(cores, list(live.view(*live.shape, *[1] * (cores[0].dim() - 1)).unbind()))


@torch.no_grad()
def drop_reserves(adapters: Adapters, optimizer: Optimizer | None) -> None:
    """Let go of the directions that train ahead, once the budget is spent (IncreLoRA)."""
    for layer in adapters.layers:
        for parameter in layer.slot_parameters().values():
            parameter[layer.rank :] = 0
            for _, state in _row_states(optimizer, parameter):
                state[layer.rank :] = 0
        layer.ahead.zero_()
        layer.refresh()


@torch.no_grad()
def rotate(adapters: Adapters, optimizer: Optimizer | None) -> None:
    """Write every module's update as its singular triplets, largest first: the same update, now cut with the
    least error by dropping the last ones. The optimizer starts anew: its moments were for other factors."""
    for layer in adapters.layers:
        U, S, V = singular_triplets(layer.A[: layer.rank], layer.up()[: layer.rank])
        layer.form.place(layer.slot_parameters(), U, S / layer.scale, V)
        _restart(optimizer, layer.slot_parameters().values())


def singular_triplets(A: Tensor, P: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U (d_out, r), S (r,), V (r, d_in) of ``P^T A``, for A (r, d_in) and P (r, d_out), at the cost of r."""
    Qa, Ra = torch.linalg.qr(A.float().t())
    Qp, Rp = torch.linalg.qr(P.float().t())
    U, S, V = torch.linalg.svd(Rp @ Ra.t())
    return Qp @ U, S, V @ Qa.t()


def _draw(layer: AdaptedLinear, index: int, name: str, parameter: nn.Parameter, event: _Event) -> None:
    if not event.births:
        return
    form = layer.form
    new = form.draw(
        form.births()[name], event.births, tuple(parameter.shape[1:]), form.new_std, event.seed * 8 + index
    )
    parameter[event.new] = new.to(parameter)
    if name in form.square:
        parameter.copy_(form.trimmed(name, parameter))


def _settle(key: str, state: Tensor, event: _Event) -> None:
    """The moments of new rows, which hold nothing yet."""
    state[event.new] = 0
    if event.reset == "new" and key in SECOND_MOMENTS and event.kept:
        state[event.new] = state[: event.kept].mean(0)


def _pick(values: Tensor, source: Tensor, square: bool) -> Tensor:
    """Rows of ``values`` (R, ...) by ``source`` (R,), zero where it is -1; the columns too if ``square``."""
    alive = (source >= 0).view(-1, *[1] * (values.dim() - 1))
    picked = values[source.clamp(min=0)] * alive
    return _pick(picked.t(), source, square=False).t() if square else picked


def _row_states(optimizer: Optimizer | None, parameter: nn.Parameter) -> Iterator[tuple[str, Tensor]]:
    """The optimizer's tensors that have a row per slot."""
    state: dict[str, Any] = optimizer.state.get(parameter, {}) if optimizer else {}
    return ((k, v) for k, v in state.items() if isinstance(v, Tensor) and v.shape == parameter.shape)


def _restart(optimizer: Optimizer | None, parameters: Any) -> None:
    """Zero every state of ``parameters``, step counts included, as if they were just created."""
    for parameter in parameters:
        state = optimizer.state.get(parameter, {}) if optimizer else {}
        for key, value in state.items():
            if isinstance(value, Tensor):
                value.zero_()
            elif isinstance(value, (int, float)) and key == "step":
                state[key] = 0
