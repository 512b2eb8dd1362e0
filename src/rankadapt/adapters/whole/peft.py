"""Any method of the ``peft`` library, from its configuration class.

What is trained, how it starts and what it computes is peft's. What is not:

- the targets are those of the model's configuration, by whole paths, unless ``target_modules`` is given;
  (IA)³'s ``feedforward_modules`` are the second feed-forward layers among them;
- the task head is not copied (peft's ``modules_to_save``): it stays where it is, for the run to train;
- random frozen projections are drawn with the run's seed, unless ``projection_prng_key`` is given;
- AdaLoRA is refused: its ranks move only if the trainer calls peft after every step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rankadapt.adapters.adaptation import Whole
from rankadapt.adapters.whole.peft_config import (
    WHERE,
    architecture_problems,
    build_config,
    config_problems,
    is_prefix,
)
from rankadapt.adapters.whole.places import adapted_blocks, replace_module
from rankadapt.errors import ModelError, Problem

PREFIX_AND_CHECKPOINTS = Problem(
    "trainer.gradient_checkpointing",
    True,
    "drops past key values, and with them the whole prefix",
    "trainer.gradient_checkpointing=false, or choose another method",
)


@dataclass(kw_only=True)
class Peft(Whole):
    """A method of ``peft``.

    Attributes:
        config: ``_target_``, the configuration class (``peft.VeraConfig``), and its arguments.
        task_type: peft's name of the task, for methods that add virtual tokens.
    """

    config: dict[str, Any]
    task_type: str = "SEQ_CLS"

    @property
    def merges(self) -> bool:  # type: ignore[override]
        """Whether peft's tuner merges: all do but those that add virtual tokens."""
        from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

        if config_problems(self.config, self.task_type):
            return False
        config = build_config(self.config)
        tuner = PEFT_TYPE_TO_TUNER_MAPPING.get(config.peft_type)
        return not config.is_prompt_learning and hasattr(tuner, "merge_and_unload")

    @property
    def adds_tokens(self) -> bool:  # type: ignore[override]
        """Whether it learns virtual tokens, as prefix and prompt tuning."""
        if config_problems(self.config, self.task_type):
            return False
        return build_config(self.config).is_prompt_learning

    @property
    def works_by_prefix(self) -> bool:
        """Whether it works by past key values, which gradient checkpointing drops."""
        if config_problems(self.config, self.task_type):
            return False
        return is_prefix(type(build_config(self.config)))

    def install(self, model: nn.Module, targets: Mapping[str, nn.Linear], rank: int, seed: int) -> nn.Module:
        architecture = getattr(getattr(model, "config", None), "model_type", "")
        if problems := self.problems(architecture, targets):
            raise ModelError(problems)
        more = _targets(model, targets, self.config)
        config = build_config(self.config, projection_prng_key=seed, **more)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                return _installed(model, config, self.task_type)
            except (ValueError, TypeError, NotImplementedError) as error:
                reason = f"peft cannot put it into {type(model).__name__}: {error}"
                raise ModelError(Problem(WHERE, type(config).__name__, reason)) from error

    def problems(self, architecture: str, targets: Iterable[str]) -> list[Problem]:
        own = config_problems(self.config, self.task_type)
        return own or architecture_problems(self.config, self.task_type, architecture)

    def merge(self, model: nn.Module) -> nn.Module:
        if not self.merges:
            name = str(self.config.get("_target_"))
            reason = "cannot be merged: its virtual tokens are no weights of the base model"
            raise ModelError(Problem(f"{WHERE}._target_", name, reason))
        try:
            return _merged(model)
        except NotImplementedError as error:
            reason = f"peft cannot merge it: {error}"
            raise ModelError(Problem(f"{WHERE}._target_", self.config["_target_"], reason)) from error


def _targets(model: nn.Module, targets: Mapping[str, nn.Linear], config: Mapping[str, Any]) -> dict[str, Any]:
    """What the targets mean in peft's terms."""
    if "target_modules" in config:
        return {}
    try:
        ends = [block.ffn_out for block in adapted_blocks(model, targets)]
    except ModelError:
        ends = []
    return {
        "target_modules": list(targets),
        "feedforward_modules": [path for path in ends if path in targets],
    }


def _installed(model: nn.Module, config: Any, task_type: str) -> nn.Module:
    import peft
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
    from peft.tuners.tuners_utils import cast_adapter_dtype

    tuner = PEFT_TYPE_TO_TUNER_MAPPING.get(config.peft_type)
    alone = config.is_prompt_learning or config.is_adaption_prompt
    if not alone and not getattr(tuner, "uses_shared_state", False):
        peft.inject_adapter_in_model(config, model)
        cast_adapter_dtype(model, "default")
        return model
    config.task_type = task_type if alone else None
    wrapped = peft.get_peft_model(model, config)
    _uncopy(wrapped, config)
    if is_prefix(type(config)):
        wrapped.gradient_checkpointing_enable = _refuse_checkpoints
    return wrapped


def _uncopy(wrapped: Any, config: Any) -> None:
    """Put the task head back in the place of peft's copy of it."""
    from peft.utils import ModulesToSaveWrapper

    copies = {n: m for n, m in wrapped.named_modules() if isinstance(m, ModulesToSaveWrapper)}
    for path, copy in copies.items():
        replace_module(wrapped, path, copy.original_module)
    config.modules_to_save = None


def _refuse_checkpoints(*_: Any, **__: Any) -> None:
    raise ModelError(PREFIX_AND_CHECKPOINTS)


def _merged(model: nn.Module) -> nn.Module:
    import peft
    from peft.tuners.tuners_utils import BaseTunerLayer

    if isinstance(model, peft.PeftModel):
        return model.merge_and_unload()
    layers = {n: m for n, m in model.named_modules() if isinstance(m, BaseTunerLayer)}
    for path, layer in layers.items():
        if any(path.startswith(f"{outer}.") for outer in layers):
            continue
        layer.merge()
        replace_module(model, path, layer.get_base_layer())
    del model.peft_config
    return model
