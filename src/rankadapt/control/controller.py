"""The controller: watches every step, changes ranks when the schedule says so.

    forward, backward
      observe()            gradients of the whole step, weights before it  -> scorer
    optimizer.step()
      adjust(step)         if the timetable fires: policy -> slots -> trace

Plain PyTorch. Its hosts (the Lightning callback, the transformers callback, :func:`rankadapt.control.attach`)
only call these two, so that nobody can forget them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch.distributed as dist
from annotated_types import Ge, Gt
from torch import Tensor
from torch.optim import Optimizer

from rankadapt.adapters import slots
from rankadapt.adapters.reading import Adapters, Reading
from rankadapt.adapters.slots import OptimizerReset
from rankadapt.boards import Change, Event, Limits
from rankadapt.control.schedule import Schedule, Timetable
from rankadapt.control.trace import Trace
from rankadapt.errors import ConfigError, Problem, TrainingError
from rankadapt.policies import Policy
from rankadapt.scorers import Scorer


@dataclass(kw_only=True)
class ControlOptions:
    """How rank changes are carried out.

    Attributes:
        min_rank: no module falls below it (PE-DyRA; HeBiRA is silent).
        max_rank: no module rises above it; None for no limit but the slots.
        optimizer_reset: whose AdamW state starts anew, see :data:`rankadapt.adapters.slots.OptimizerReset`.
        count_padding: whether padding tokens count in activation energies.
        seed: of the new directions.
    """

    min_rank: Annotated[int, Ge(0)] = 1
    max_rank: Annotated[int, Gt(0)] | None = None
    optimizer_reset: OptimizerReset = "changed"
    count_padding: bool = True
    seed: int = 0


class Controller:
    """Drives the ranks of ``adapters``.

    Args:
        adapters: of the model that is trained.
        scorer: fills the board of scores; None if ``policy`` never moves a rank.
        policy: decides.
        schedule: when; None if ``policy`` never moves a rank.
        options: how.
    """

    def __init__(
        self,
        adapters: Adapters,
        policy: Policy,
        scorer: Scorer | None = None,
        schedule: Schedule | None = None,
        options: ControlOptions | None = None,
    ):
        self.adapters, self.policy, self.options = adapters, policy, options or ControlOptions()
        self.moves = policy.moves_ranks
        if self.moves and (scorer is None or schedule is None):
            raise TypeError(f"{type(policy).__name__} moves ranks: it needs a scorer and a schedule")
        self.scorer, self.schedule = (scorer, schedule) if self.moves else (None, None)
        self.trace = Trace(adapters.names)
        self.timetable: Timetable | None = None
        if self.scorer is not None and self.scorer.reads_activations:
            adapters.watch()

    @property
    def limits(self) -> Limits:
        """Bounds on the ranks, on the device that the adapters are on now."""
        return self.adapters.limits(self.options.min_rank, self.options.max_rank)

    def start(self, total_steps: int) -> None:
        """Lay the schedule over a run of ``total_steps`` optimizer steps.

        Raises:
            ConfigError: it would never fire, or a module is above its maximum rank already.
        """
        if self.schedule is not None:
            self._refuse_overfull()
            self.timetable = self.schedule.over(total_steps)
        if not self.trace.rows:  # not when a run goes on
            self.trace.mark(0, self.adapters.ranks())

    def observe(self) -> None:
        """Take in the gradients of one whole optimizer step, before the optimizer uses them."""
        if self.scorer is not None:
            self.scorer.update(Reading(self.adapters))

    def skip(self) -> None:
        """Forget a step that the optimizer will not take (its gradients overflowed in fp16)."""
        if self.scorer is not None and self.scorer.reads_activations:
            self.adapters.take_energies()

    def adjust(self, step: int, optimizer: Optimizer | None) -> Change | None:
        """Change ranks if the timetable fires after optimizer step ``step`` (from 1).

        Returns:
            The change, or None if there was none to make.

        Raises:
            TrainingError: a score is not finite.
        """
        if self.timetable is None or self.scorer is None or not self.timetable.fires(step):
            return None
        live, scores = self.adapters.live(), _agreed(self.scorer.scores())
        self._refuse_nonfinite(scores, live, step)
        events = self.timetable.events()
        change = self.policy(
            scores, live, self.limits, Event(events.index(step), len(events), step, self.timetable.total)
        )
        self._check(change, live)
        seed = self.options.seed * 1_000_003 + step
        self.scorer.move(slots.apply(self.adapters, change, optimizer, self.options.optimizer_reset, seed))
        self.trace.event(step, self.adapters.ranks(), scores, live, change)
        return change

    def finish(self, step: int) -> None:
        """Note the final ranks."""
        self.trace.mark(step, self.adapters.ranks())

    def state_dict(self) -> dict[str, Any]:
        """All that decides the next change: tensors and plain values. Ranks are in the model's own state."""
        scorer = None if self.scorer is None else self.scorer.state_dict()
        return {"scorer": scorer, "trace": self.trace.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        if self.scorer is not None:
            device = self.limits.maximum.device
            self.scorer.load_state_dict(
                {k: v.to(device) if isinstance(v, Tensor) else v for k, v in state["scorer"].items()}
            )
        self.trace.load_state_dict(state["trace"])

    def _refuse_overfull(self) -> None:
        """What a module cannot hold cannot be conserved either."""
        over = [
            Problem(name, rank, f"its rank is above its maximum of {most} (control.max_rank)", "raise it")
            for name, rank, most in zip(
                self.adapters.names, self.adapters.ranks(), self.limits.maximum.tolist(), strict=True
            )
            if rank > most
        ]
        if over:
            raise ConfigError(over)

    def _refuse_nonfinite(self, scores: Tensor, live: Tensor, step: int) -> None:
        bad = (live & ~scores.isfinite()).nonzero()
        if len(bad):
            row, slot = bad[0].tolist()
            raise TrainingError(
                Problem(
                    f"score of slot {slot} of {self.adapters.names[row]}",
                    float(scores[row, slot]),
                    f"scores must be finite to change ranks at step {step} ({len(bad)} are not)",
                    "the loss or its gradient has overflowed: lower optimizer.lr, or train in bf16 or fp32",
                )
            )

    def _check(self, change: Change, live: Tensor) -> None:
        """A policy that breaks its limits is a defect: stop before it is carried out."""
        before, ranks = live.sum(1), change.ranks_after(live)
        limits = self.limits
        falls = (ranks < before) & (ranks < limits.minimum)
        outside = falls | ((ranks > before) & (ranks > limits.maximum))
        if bool(outside.any()) or bool((change.pruned & ~live).any()) or bool((change.born < 0).any()):
            raise RuntimeError(
                f"{type(self.policy).__name__} decided on ranks outside the limits: {ranks.tolist()}"
            )


def _agreed(scores: Tensor) -> Tensor:
    """The scores of process 0, so that every process decides alike."""
    if dist.is_available() and dist.is_initialized():
        dist.broadcast(scores := scores.clone(), src=0)
    return scores
