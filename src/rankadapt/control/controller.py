"""The controller: watches every step, changes ranks when the schedule says so.

    forward, backward
      observe()            gradients of the whole step, weights before it  -> penalty, scorer
    optimizer.step
      adjust(step)         if the timetable fires: policy -> slots -> trace

Plain PyTorch. Its hosts (the Lightning callback, the transformers callback, :func:`rankadapt.control.attach`)
only call these two, so that nobody can forget them.
"""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from rankadapt.adapters import slots
from rankadapt.adapters.penalty import Penalty
from rankadapt.adapters.reading import Adapters, Reading
from rankadapt.adapters.sparsity import Sparsity
from rankadapt.boards import Change, Event, Limits
from rankadapt.control.options import ControlOptions
from rankadapt.control.rates import RestartedRates
from rankadapt.control.refusals import refuse_broken_limits, refuse_idle, refuse_nonfinite, refuse_overfull
from rankadapt.control.schedule import Schedule, Timetable
from rankadapt.control.trace import Trace
from rankadapt.policies import Policy
from rankadapt.scorers import Scorer


class Controller:
    """Drives the ranks of ``adapters``.

    Args:
        adapters: of the model that is trained, injected with the policy's ``storage``.
        policy: decides.
        scorer: fills the board of scores; None if ``policy`` never moves a rank.
        schedule: when; None if ``policy`` never moves a rank.
        options: how.
        penalty: added to the gradients of every step; None for none.
        sparsity: prunes entries of A; None for none.
    """

    def __init__(
        self,
        adapters: Adapters,
        policy: Policy,
        scorer: Scorer | None = None,
        schedule: Schedule | None = None,
        options: ControlOptions | None = None,
        penalty: Penalty | None = None,
        sparsity: Sparsity | None = None,
    ):
        self.adapters, self.policy, self.options = adapters, policy, options or ControlOptions()
        self.penalty, self.penalty_value, self.sparsity = penalty, None, sparsity
        self.moves = policy.moves_ranks
        if self.moves and (scorer is None or schedule is None):
            raise TypeError(f"{type(policy).__name__} moves ranks: it needs a scorer and a schedule")
        if self.moves and adapters.storage != policy.storage:
            raise TypeError(f"inject(..., storage={policy.storage!r}) is what {type(policy).__name__} needs")
        self.scorer, self.schedule = (scorer, schedule) if self.moves else (None, None)
        self.budget = self.options.budget or self._spent()
        self.trace = Trace(adapters.names)
        self.timetable: Timetable | None = None
        restarted = self.options.restarted if self.moves else None
        self.rates = None if restarted is None else RestartedRates(adapters, restarted)
        self.taken = self.total = 0
        self._skipped = False
        self._watching: bool | None = None
        self._watch(True)

    penalty_value: Tensor | None
    """The penalty of the last step, on the device; None before the first or without one."""

    @property
    def limits(self) -> Limits:
        """Bounds on the ranks, on the device that the adapters are on now."""
        options = self.options
        return self.adapters.limits(options.min_rank, options.max_rank, options.unit == "parameters")

    def _spent(self) -> int:
        costs = [1] * len(self.adapters)
        if self.options.unit == "parameters":
            costs = self.adapters.parameter_costs()
        return sum(rank * cost for rank, cost in zip(self.adapters.ranks(), costs, strict=True))

    def start(self, total_steps: int) -> None:
        """Lay the schedule over a run of ``total_steps`` optimizer steps.

        Raises:
            ConfigError: it would never fire, or a module is above its maximum rank already.
        """
        self.total = total_steps
        refuse_idle(self.sparsity, total_steps)
        if self.schedule is not None:
            refuse_overfull(self.adapters, self.limits)
            self.timetable = self.schedule.over(total_steps, self.policy.closes)
        if not self.trace.rows:  # not when a run goes on
            self.trace.mark(0, self.adapters.ranks())
            if self.scorer is not None:
                self.scorer.begin(Reading(self.adapters))
        self._set_window()

    def observe(self) -> None:
        """Take in the gradients of one whole optimizer step, before the optimizer uses them."""
        self._skipped = False
        if self.penalty is not None:
            self.penalty_value = self.penalty.add_gradients(self.adapters)
        reading = Reading(self.adapters)
        if self.sparsity is not None:
            self.sparsity.observe(self.adapters, reading)
        self._score("before_step", self.taken + 1, reading)
        if self.rates is not None:
            self.rates.before_step()

    def skip(self) -> None:
        """Forget a step that the optimizer will not take (its gradients overflowed in fp16)."""
        self._skipped = True
        self.adapters.forget()

    def adjust(self, step: int, optimizer: Optimizer | None) -> Change | None:
        """Change ranks if the timetable fires after optimizer step ``step`` (from 1).

        Returns:
            The change, or None if there was none to make.

        Raises:
            TrainingError: a score is not finite.
        """
        self.taken = step
        if not self._skipped:
            if self.rates is not None:
                self.rates.after_step(step, self.total)
            if self.sparsity is not None:
                self.sparsity.prune(self.adapters, optimizer, step)
            self._score("after_step", step, Reading(self.adapters))
        change = None
        if self.timetable is not None:
            if self.timetable.fires(step):
                change = self._change(step, optimizer)
            elif self.adapters.storage == "in_place" and step > self.timetable.last:
                slots.hold(self.adapters)
        self._set_window()
        return change

    def finish(self, step: int) -> None:
        """Note the final ranks."""
        self.trace.mark(step, self.adapters.ranks())

    def state_dict(self) -> dict[str, Any]:
        """All that decides the next change: tensors and plain values. Ranks are in the model's own state."""
        states = {n: None if part is None else part.state_dict() for n, part in self._parts().items()}
        return {"taken": self.taken, **states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.taken = state["taken"]
        for name, part in self._parts().items():
            if part is not None:
                part.load_state_dict(self._placed(state[name]))
        self._set_window()

    def _parts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("scorer", "policy", "rates", "sparsity", "trace")}

    def _placed(self, state: dict[str, Any]) -> dict[str, Any]:
        device = self.adapters.device
        return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in state.items()}

    def _change(self, step: int, optimizer: Optimizer | None) -> Change:
        assert self.timetable is not None
        assert self.scorer is not None
        if self.policy.rotates:
            slots.rotate(self.adapters, optimizer)
        if self.scorer.when == "at_events":
            self.scorer.update(Reading(self.adapters))
        live, scores = self.adapters.live(), _agreed(self.scorer.scores())
        limits = self.limits
        asked = live | (self.adapters.storage == "in_place")  # there the dead may revive
        refuse_nonfinite(self.adapters, scores, asked, step)
        change = self.policy(scores, live, limits, self._event(step))
        refuse_broken_limits(type(self.policy).__name__, change, live, limits)
        seed = self.options.seed * 1_000_003 + step
        moves = slots.apply(self.adapters, change, optimizer, self.options.optimizer_reset, seed)
        self.scorer.move(moves)
        if self.rates is not None:
            self.rates.move(moves, step)
        done = step == self.timetable.last or self._spent() >= self.budget
        if self.adapters.reserves and done:  # nothing is left to train ahead for
            slots.drop_reserves(self.adapters, optimizer)
        self.trace.event(step, self.adapters.ranks(), scores, live, change)
        return change

    def _event(self, step: int) -> Event:
        assert self.timetable is not None
        assert self.scorer is not None
        events, total = self.timetable.events(), self.timetable.total
        sizes = self.scorer.sizes()
        return Event(
            index=events.index(step),
            count=len(events),
            step=step,
            total=total,
            first=self.timetable.t_i,
            last=total - self.timetable.t_f,
            budget=self.budget,
            sizes=None if sizes is None else _agreed(sizes),
        )

    def _score(self, moment: str, step: int, reading: Reading) -> None:
        """Let the scorer look, as long as an event is still to come that will ask it."""
        if self.scorer is None:
            return
        if self.timetable is not None and step > self.timetable.last - self.policy.closes:
            self._watch(False)
        elif self.scorer.when == moment:
            self.scorer.update(reading)

    def _watch(self, on: bool) -> None:
        """Have the sums made that the scorer reads, if it is ``on``, and those that sparsity does."""
        scorer, sparse = self.scorer, self.sparsity is not None
        if on == self._watching or (scorer is None and not sparse):
            return
        self._watching = on
        wanted = (False, False, False)
        if scorer is not None and on:
            wanted = (scorer.reads_activations, scorer.reads_inputs, scorer.reads_dense)
        self.adapters.watch(wanted[0], wanted[1] or sparse, wanted[2])

    def _set_window(self) -> None:
        rank = max(self.adapters.ranks(), default=0)
        window = self.policy.window(self.taken + 1, rank, self.options.seed) if rank else None
        if window is not None:
            self.adapters.set_window(window, window - 1 if self.policy.frozen else 0)


def _agreed(scores: Tensor) -> Tensor:
    """The scores of process 0, so that every process decides alike."""
    if dist.is_available() and dist.is_initialized():
        dist.broadcast(scores := scores.clone(), src=0)
    return scores
