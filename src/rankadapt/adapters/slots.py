"""Rank changes: the only code that writes live masks, slot values and optimizer state.

The live slots of a module are its first ``rank`` rows. A change removes rows, closes the gaps in order (so
that slots stay sorted by age), and draws new rows behind the survivors. The same permutation is applied to
parameters, to their optimizer state, and, by the caller, to whatever else is kept per slot.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rankadapt.adapters.linear import AdaptedLinear
from rankadapt.adapters.reading import Adapters
from rankadapt.boards import Change, Moves, plan

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


@torch.no_grad()
def apply(
    adapters: Adapters, change: Change, optimizer: Optimizer | None, reset: OptimizerReset, seed: int
) -> Moves:
    """Carry out ``change`` on every module it touches.

    Args:
        change: within the limits of the modules.
        optimizer: whose state follows; None if there is none.
        reset: whose optimizer state starts anew.
        seed: of the new directions: a function of run and step, equal on every process.

    Returns:
        The moves, for boards kept elsewhere.
    """
    moves = plan(adapters.live(), change)
    for row in moves.changed:
        _rearrange(
            adapters.layers[row], moves.source[row], moves.born[row], optimizer, reset, seed * 65_537 + row
        )
    if reset == "all":
        for layer in adapters.layers:
            _restart(optimizer, layer.slot_parameters().values())
    return moves


def _rearrange(
    layer: AdaptedLinear,
    source: Tensor,
    born: Tensor,
    optimizer: Optimizer | None,
    reset: OptimizerReset,
    seed: int,
) -> None:
    survivors = bool((source >= 0).any())
    for index, (name, parameter) in enumerate(layer.slot_parameters().items()):
        draw = layer.form.newborn[name]
        new = layer.form.draw(
            draw, int(born.sum()), tuple(parameter.shape[1:]), layer.form.new_std, seed * 8 + index
        )
        parameter.copy_(_pick(parameter, source))
        parameter[born] = new.to(parameter)
        for key, state in _row_states(optimizer, parameter):
            picked = _pick(state, source)
            if reset == "new" and key in SECOND_MOMENTS and survivors:
                picked[born] = picked[source >= 0].mean(0)
            state.copy_(picked)
    layer.live.copy_((source >= 0) | born)
    layer.refresh()
    if reset == "changed" or (reset == "new" and not survivors):
        _restart(optimizer, layer.slot_parameters().values())


SECOND_MOMENTS = frozenset({"exp_avg_sq", "max_exp_avg_sq"})


def _pick(values: Tensor, source: Tensor) -> Tensor:
    """Rows of ``values`` (R, ...) by ``source`` (R,), zero where it is -1."""
    alive = (source >= 0).view(-1, *[1] * (values.dim() - 1))
    return values[source.clamp(min=0)] * alive


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
