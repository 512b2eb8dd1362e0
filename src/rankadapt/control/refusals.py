"""What stops a rank change before it is carried out."""

from __future__ import annotations

from torch import Tensor

from rankadapt.adapters.reading import Adapters
from rankadapt.adapters.sparsity import Sparsity
from rankadapt.boards import Change, Limits
from rankadapt.errors import ConfigError, Problem, TrainingError


def refuse_overfull(adapters: Adapters, limits: Limits) -> None:
    """What a module cannot hold cannot be conserved either.

    Raises:
        ConfigError: a module is above its maximum rank.
    """
    over = [
        Problem(name, rank, f"its rank is above its maximum of {most} (control.max_rank)", "raise it")
        for name, rank, most in zip(adapters.names, adapters.ranks(), limits.maximum.tolist(), strict=True)
        if rank > most
    ]
    if over:
        raise ConfigError(over)


def refuse_idle(sparsity: Sparsity | None, steps: int) -> None:
    """Raise a ConfigError if a run of so many steps is over before anything is pruned."""
    if sparsity is not None and sparsity.every > steps:
        reason = f"nothing would be pruned in a run of {steps} steps"
        raise ConfigError(Problem("sparsity.every", sparsity.every, reason, f"at most {steps}"))


def refuse_nonfinite(adapters: Adapters, scores: Tensor, asked: Tensor, step: int) -> None:
    """Raise a TrainingError if a score (M, R) that decides, one of ``asked``, is not finite."""
    bad = (asked & ~scores.isfinite()).nonzero()
    if len(bad):
        row, slot = bad[0].tolist()
        raise TrainingError(
            Problem(
                f"score of slot {slot} of {adapters.names[row]}",
                float(scores[row, slot]),
                f"scores must be finite to change ranks at step {step} ({len(bad)} are not)",
                "the loss or its gradient has overflowed: lower optimizer.lr, or train in bf16 or fp32",
            )
        )


def refuse_broken_limits(policy: str, change: Change, live: Tensor, limits: Limits) -> None:
    """A policy that breaks its limits is a defect: stop before it is carried out."""
    before, ranks = live.sum(1), change.ranks_after(live)
    falls = (ranks < before) & (ranks < limits.minimum)
    outside = falls | ((ranks > before) & (ranks > limits.maximum))
    wrong = (change.pruned & ~live).any() | (change.born < 0).any()
    if change.revived is not None:
        wrong = wrong | (change.revived & live).any()
    if bool(outside.any() | wrong):
        raise RuntimeError(f"{policy} decided on ranks outside the limits: {ranks.tolist()}")
