"""Any configuration class of ``peft``, by name, and what speaks against it before a model is touched."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from rankadapt.errors import ModelError, Problem

WHERE = "form.config"
NOT_HERE = {
    "modules_to_save": "the head is trained in full by model.trainable, without a copy of it",
    "task_type": "it is form.task_type",
    "peft_type": "the class says it",
    "inference_mode": "this is training",
}
DECODERS = ("llama", "mistral", "gemma", "gemma2", "qwen2", "qwen3", "gpt2", "phi3")
"""Model types whose sequence classifier looks for the last token that is no padding."""
VISION = ("vit", "deit", "dinov2", "swin")
"""Model types without tokens of text."""


def config_problems(config: Mapping[str, Any], task_type: str) -> list[Problem]:
    """What is wrong with the configuration by itself: its class, the names and values of its keys."""
    try:
        import peft
    except ImportError:
        return [Problem("form", "Peft", "needs the package peft", "pip install 'peft>=0.18'")]
    found = _config_class(config.get("_target_"))
    if isinstance(found, Problem):
        return [found]
    problems = [*_refused(found), *_unknown_keys(config, found)]
    if task_type not in list(peft.TaskType):
        known = ", ".join(t.value for t in peft.TaskType)
        problems.append(Problem("form.task_type", task_type, "peft knows no such task", f"known: {known}"))
    if "layers_to_transform" in config and "target_modules" not in config:
        reason = "is without effect on targets given by their whole paths"
        value, remedy = config["layers_to_transform"], "narrow model.targets"
        problems.append(Problem(f"{WHERE}.layers_to_transform", value, reason, remedy))
    return problems


def architecture_problems(config: Mapping[str, Any], task_type: str, architecture: str) -> list[Problem]:
    """What a model type of ``transformers`` lacks for this configuration, whose own problems are none."""
    import peft

    kind = _config_class(config.get("_target_"))
    assert not isinstance(kind, Problem)
    if not issubclass(kind, peft.PromptLearningConfig):
        return []
    name, reason, classifies = kind.__name__, "", task_type == "SEQ_CLS"
    if is_prefix(kind) and architecture in ("deberta", "deberta-v2"):
        reason = f"needs past key values, which the attention of {architecture} does not take"
    elif architecture in ("bart", "mbart") and classifies:
        reason = f"cannot be put before the classifier of {architecture}"
    elif architecture in VISION:
        reason = f"puts virtual tokens before a text, and {architecture} reads images"
    elif architecture in DECODERS and classifies and not is_prefix(kind):
        reason = f"hides the padding from {architecture}, whose classifier then reads the wrong token"
    return [Problem(f"{WHERE}._target_", name, reason, "choose another method")] if reason else []


def is_prefix(kind: type) -> bool:
    """Whether the configuration class is of a method that works by past key values."""
    return kind.__name__ in ("PrefixTuningConfig", "CartridgeConfig")


def build_config(config: Mapping[str, Any], **more: Any) -> Any:
    """The configuration object of ``peft``; ``more`` is set where its class has such a key and ``config``
    does not set it.

    Raises:
        ModelError: the class refuses the values.
    """
    kind = _config_class(config["_target_"])
    assert not isinstance(kind, Problem)
    given = {key: value for key, value in config.items() if key != "_target_"}
    fields = {f.name for f in dataclasses.fields(kind)}
    given |= {key: value for key, value in more.items() if key in fields and key not in given}
    try:
        return kind(**given)
    except (TypeError, ValueError) as error:
        raise ModelError(Problem(WHERE, kind.__name__, f"peft refuses it: {error}")) from error


def _config_class(target: object) -> Any:
    """The class that ``_target_`` names, or what is wrong with the name."""
    import peft

    where = f"{WHERE}._target_"
    if target is None:
        return Problem(where, None, "is missing", "name a class, e.g. peft.LoHaConfig")
    module, _, name = str(target).rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        configs = {n.lower(): n for n in vars(peft) if n.endswith("Config")}
        near = [configs[n] for n in difflib.get_close_matches(name.lower(), configs, n=1)]
        return Problem(where, target, f"cannot be imported ({error})", _did_you_mean("peft.", near))
    if not (isinstance(found, type) and issubclass(found, peft.PeftConfig)):
        return Problem(where, target, "is no subclass of peft.PeftConfig", "e.g. peft.LoHaConfig")
    return found


def _refused(kind: Any) -> Iterator[Problem]:
    """Methods that are not themselves without a call of the trainer after every step."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    name = kind.__name__
    tuner = PEFT_TYPE_TO_TUNER_MAPPING.get(kind().peft_type) if _has_defaults(kind) else None
    if name == "AdaLoraConfig" or hasattr(tuner, "update_and_allocate"):
        reason = "nothing here calls peft's update_and_allocate after each step: its ranks would never move"
        remedy = "use method=adalora" if name == "AdaLoraConfig" else "choose another method"
        yield Problem(f"{WHERE}._target_", name, reason, remedy)


def _has_defaults(kind: Any) -> bool:
    """Some classes cannot be made without arguments (AdaLoRA wants its total steps)."""
    try:
        kind()
    except (TypeError, ValueError):
        return False
    return True


def _unknown_keys(config: Mapping[str, Any], kind: Any) -> Iterator[Problem]:
    fields = [f.name for f in dataclasses.fields(kind) if f.init]
    for key, value in config.items():
        if key in NOT_HERE:
            yield Problem(f"{WHERE}.{key}", value, "cannot be set here", NOT_HERE[key])
        elif key not in fields and key != "_target_":
            near = difflib.get_close_matches(key, fields, n=1)
            remedy = _did_you_mean(f"{WHERE}.", near) or f"leave it out: ~{WHERE}.{key}"
            yield Problem(f"{WHERE}.{key}", value, f"is not a key of {kind.__name__}", remedy)


def _did_you_mean(prefix: str, near: list[str]) -> str:
    return f"did you mean {prefix}{near[0]}?" if near else ""
