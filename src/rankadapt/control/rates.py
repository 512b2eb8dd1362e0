"""Learning rates by age: those of new directions begin anew (IncreLoRA, Zhang et al. 2023, arXiv 2308.12043).

| symbol | here | shape |
|---|---|---|
| t, T | ``step`` (from 1), ``total``: optimizer steps of the run | |
| W | ``warmup``: of the run, and again of everything that is added | |
| t_0, the step after which it began to train | ``drawn``; ``lived``, for cores that were held back | (M, R) |
| η(t) / η_max | :meth:`Rates.share` | (M, R) |

The run's schedule, seen from t_0: linear from 0 over W steps, then as the run decays, to the same end at T.
In the paper's code what an event adds is a parameter group with a scheduler of its own. Here a direction is a
row among others: the optimizer takes its step at the run's rate, and each row then goes as much of the way as
its own rate says. A step of AdamW, weight decay included, is proportional to its rate, so this is the same.
As there, a direction of a reserve begins when it is drawn, and its core when it goes live.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from rankadapt.adapters.reading import Adapters
from rankadapt.boards import Moves

Decay = Literal["linear", "cosine", "constant"]


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The course of a run's learning rate.

    Attributes:
        warmup: optimizer steps from 0 to the highest rate. decay: from there to the end.
    """

    warmup: Annotated[int, Ge(0)] = 0
    decay: Decay = "linear"

    def share(self, taken: Tensor, total: Tensor) -> Tensor:
        """What the rate is after ``taken`` of ``total`` steps, as a share of the highest; shapes alike."""
        rest = (total - self.warmup).clamp(min=1)
        done = (taken - self.warmup) / rest
        if self.decay == "linear":
            falls = (1 - done).clamp(min=0)
        elif self.decay == "cosine":
            falls = ((1 + torch.cos(math.pi * done)) / 2).clamp(min=0)
        else:
            falls = torch.ones_like(done)
        return torch.where(taken < self.warmup, taken / max(self.warmup, 1), falls)


class RestartedRates:
    """Lets what is added to ``adapters`` go through the run's ``rates`` from its own beginning.

    To be called at both ends of every optimizer step, and after every rank change.
    """

    def __init__(self, adapters: Adapters, rates: Rates):
        self.adapters, self.rates = adapters, rates
        self.drawn: Tensor | None = None
        self.lived: Tensor | None = None
        self._before: dict[str, list[Tensor]] = {}
        self._noted = False

    drawn: Tensor | None
    """(M, R) float32: the step after which each slot's rows were drawn, 0 for those of the start; None if
    there are no others."""
    lived: Tensor | None
    """(M, R) float32: the step after which each slot went live."""

    @torch.no_grad()
    def before_step(self) -> None:
        """Note where the rows are, once there are some that are younger than the run."""
        self._noted = self.drawn is not None
        for name, parameters in self._parameters().items() if self._noted else ():
            if name not in self._before:
                self._before[name] = [torch.empty_like(p) for p in parameters]
            torch._foreach_copy_(self._before[name], parameters)

    @torch.no_grad()
    def after_step(self, step: int, total: int) -> None:
        """Let each row have gone as far in ``step`` (from 1) as its own rate takes it, not the run's."""
        noted, self._noted = self._noted, False
        for name, parameters in self._parameters().items() if noted else ():
            factor = self.factor(name, step, total).to(parameters[0].dtype)
            weights = list(factor.view(*factor.shape, *[1] * (parameters[0].dim() - 1)).unbind())
            moved = torch._foreach_lerp(self._before[name], parameters, weights)
            torch._foreach_copy_(parameters, moved)

    def factor(self, name: str, step: int, total: int) -> Tensor:
        """(M, R): the rate of each slot of parameter ``name`` in ``step`` (from 1), over that of the run; 1
        where the run's is 0, and for what was there at its start."""
        held_back = self._reserve and name == self.adapters.layers[0].form.outgoing
        born = self.lived if held_back else self.drawn
        assert born is not None
        run = self.rates.share(*(born.new_full((), n) for n in (step - 1, total)))
        own = self.rates.share(step - 1 - born, total - born)
        return torch.where(run > 0, own / torch.where(run > 0, run, 1), 1)

    def move(self, moves: Moves, step: int) -> None:
        """Follow a rank change after ``step``."""
        if self.lived is None or self.drawn is None:
            if not any(moves.births):
                return
            self.lived = self.drawn = torch.zeros(moves.source.shape, device=moves.source.device)
        self.lived = moves.carry(self.lived).masked_fill(moves.born, step)
        if not self._reserve:
            self.drawn = self.lived
            return
        drawn = torch.zeros_like(moves.born)  # as far behind what went live as the reserve is deep
        drawn[:, self._reserve :] = moves.born[:, : -self._reserve]
        self.drawn = self.drawn.masked_fill(drawn, step)

    def state_dict(self) -> dict[str, Any]:
        """When everything began."""
        return {"drawn": self.drawn, "lived": self.lived}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.drawn, self.lived = state["drawn"], state["lived"]

    @property
    def _reserve(self) -> int:
        return self.adapters.layers[0].form.reserve

    def _parameters(self) -> dict[str, list[Tensor]]:
        """Those that an optimizer moves, by name, in the order of the boards."""
        names = self.adapters.layers[0].slot_parameters()
        found = {name: [getattr(layer, name) for layer in self.adapters.layers] for name in names}
        return {name: [p.detach() for p in ps] for name, ps in found.items() if ps[0].requires_grad}
