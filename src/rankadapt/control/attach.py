"""The controller in anyone's own training loop: one call, nothing to remember."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from rankadapt.control.controller import Controller
from rankadapt.errors import ConfigError, Problem


class Attachment:
    """A controller that runs with an optimizer's steps. ``step`` counts them, from 0 before the first."""

    def __init__(
        self, controller: Controller, optimizer: Optimizer, total_steps: int, clip_norm: float | None
    ):
        if isinstance(optimizer, torch.optim.LBFGS):
            reason = "calls its closure several times a step: there is no one gradient to be scored"
            raise ConfigError(Problem("optimizer", "LBFGS", reason, "AdamW, or any other that steps once"))
        self.controller, self.optimizer, self.clip_norm, self.step = controller, optimizer, clip_norm, 0
        controller.start(total_steps)
        self._hooks = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    def _before(self, optimizer: Optimizer, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict] | None:
        closure = args[1] if len(args) > 1 else kwargs.get("closure")  # the first one is the optimizer
        changed: tuple[tuple, dict] | None = None
        if closure is not None:  # it makes the gradients: they are there to be looked at once it has run
            with torch.enable_grad():
                loss = closure()
            changed = (args[0], lambda: loss), {}
        self._look()
        return changed

    def _look(self) -> None:
        self.controller.observe()
        if self.clip_norm is not None:
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm)

    def _after(self, *_: Any) -> None:
        self.step += 1
        self.controller.adjust(self.step, self.optimizer)

    def detach(self) -> None:
        """Let go of the optimizer and note the final ranks."""
        for hook in self._hooks:
            hook.remove()
        self.controller.finish(self.step)

    def state_dict(self) -> dict[str, Any]:
        """The controller's state and the step."""
        return {"step": self.step, "controller": self.controller.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.step = state["step"]
        self.controller.load_state_dict(state["controller"])


def attach(
    controller: Controller, optimizer: Optimizer, total_steps: int, clip_norm: float | None = None
) -> Attachment:
    """Run ``controller`` with every ``optimizer.step()``.

    Args:
        total_steps: optimizer steps of the whole run; the schedule is checked against it here.
        clip_norm: clip gradients to this norm after they were scored. Clip here rather than in the loop:
            a gradient clipped before ``optimizer.step()`` is what would be scored.

    ``optimizer.step(closure)`` is as good as a loop of one's own: the closure runs once, before its gradients
    are scored and clipped.

    Raises:
        ConfigError: the schedule would never fire in ``total_steps``; the optimizer is LBFGS.
    """
    return Attachment(controller, optimizer, total_steps, clip_norm)
