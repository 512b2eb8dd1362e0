"""The controller's host in ``transformers.Trainer``.

adapters = Adapters(inject(model, ...))
controller = Controller(adapters, Bidirectional(k=12), Hebbian(), Schedule(t_i=300, delta_t=100, t_f=2600))
Trainer(model, args, train_dataset=..., callbacks=[RankTrainerCallback(controller)]).train()
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rankadapt.control import Controller

FILE = "rank_controller.pt"


class RankTrainerCallback(TrainerCallback):
    """Runs ``controller`` with every optimizer step of a Trainer, and saves it with its checkpoints.

    The Trainer clips gradients before it calls anyone. So that what is scored is not clipped, this callback
    takes ``max_grad_norm`` over while training, and clips after it has looked.
    """

    def __init__(self, controller: Controller):
        self.controller = controller
        self._clip = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._clip, args.max_grad_norm = args.max_grad_norm or 0.0, 0.0
        if state.global_step:
            saved = self._file(args, state)
            self.controller.load_state_dict(torch.load(saved, map_location="cpu", weights_only=True))
        self.controller.start(state.max_steps)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.controller.observe()
        if self._clip > 0:
            trained = [p for p in kwargs["model"].parameters() if p.requires_grad]
            torch.nn.utils.clip_grad_norm_(trained, self._clip)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        optimizer = kwargs["optimizer"]
        self.controller.adjust(state.global_step + 1, getattr(optimizer, "optimizer", optimizer))

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            torch.save(self.controller.state_dict(), self._file(args, state))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.controller.finish(state.global_step)
        args.max_grad_norm = self._clip

    def _file(self, args: TrainingArguments, state: TrainerState) -> Path:
        return Path(args.output_dir or ".") / f"checkpoint-{state.global_step}" / FILE
