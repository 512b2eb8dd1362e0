"""Configurations composed as the command line composes them, for runs of a second on tiny models."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from PIL import Image

from rankadapt.analysis.plots import plot_ranks
from rankadapt.policies import Policy
from rankadapt.runs.compose import resolved
from rankadapt.runs.run import run
from rankadapt.training.config import RunConfig
from rankadapt.training.validation import _located, parse

ROOT = Path(__file__).resolve().parents[1]
METHODS = sorted(path.stem for path in (ROOT / "conf/method").glob("*.yaml"))

SMALL = [
    "model=tiny_bert",
    "task=demo/entailment",
    "task.train_size=120",
    "task.eval_size=40",
    "task.batch_size=8",
    "trainer.max_steps=12",
    "trainer.accelerator=cpu",
    "trainer.progress_bar=false",
    "optimizer.lr=0.005",
    "optimizer.warmup_steps=0",
    "evaluation.every_n_steps=4",
    "evaluation.at_start=false",
]
"""Twelve steps on a tiny BERT: a second."""

DIGITS = [
    "task=images/digits",
    "task.max_train_examples=120",
    "task.max_eval_examples=40",
    *(o for o in SMALL if o.partition("=")[0] not in ("model", "task", "task.train_size", "task.eval_size")),
]
"""The same on the digits, for a tiny ViT."""

RANK_EVENTS = ["schedule.t_i=2", "schedule.delta_t=2", "schedule.t_f=2"]
"""Events after steps 4, 6, 8 and 10, for methods that move ranks."""
PRUNING = "sparsity.every=3"
"""The same for methods that prune entries of A."""
FEW = {"k": 3, "top_h": 5}
"""Directions or modules per event: there are only twelve modules."""


def composed(*overrides: str) -> dict[str, Any]:
    """The resolved configuration of ``python train.py <overrides>``."""
    return deepcopy(_composed(overrides))


@cache
def _composed(overrides: tuple[str, ...]) -> dict[str, Any]:
    return resolved(ROOT / "conf", overrides)


def small(method: str, *overrides: str, on: Sequence[str] = SMALL) -> RunConfig:
    """A run of a second with ``method``, with rank events if it moves ranks; :data:`SMALL` or ``on``.

    Hydra takes a quarter of a second to compose, so it only composes the groups; values are set afterwards.
    """
    groups = [o for o in overrides if "." not in o.partition("=")[0] or o[0] in "+~"]
    cfg = composed(f"method={method}", *on, *groups)
    values = [o for o in overrides if o not in groups]
    if cfg["sparsity"].get("every"):
        values = [PRUNING, *values]
    policy = cfg["policy"]
    if _located("policy", policy["_target_"], Policy, []).moves_ranks:
        few = [f"policy.{key}={value}" for key, value in FEW.items() if policy.get(key)]
        values = [*RANK_EVENTS, *few, *values]
    for key, _, value in (v.partition("=") for v in values):
        section, _, name = key.rpartition(".")
        target = cfg
        for part in section.split("."):
            target = target[part]
        if name not in target:
            raise KeyError(f"{key}: {section} has {', '.join(target)}")
        target[name] = yaml.safe_load(value)
    return parse(cfg)


def run_small(directory: Path, method: str, *overrides: str, drawn: bool = False) -> dict[str, Any]:
    """Run :func:`small` in ``directory``."""
    return run_undrawn(small(method, *overrides), directory, list(overrides), drawn)


def run_undrawn(
    config: RunConfig, directory: Path, overrides: Sequence[str] = (), drawn: bool = False
) -> dict[str, Any]:
    """Run ``config`` in ``directory``. Unless it is to be ``drawn``, its plot is one black pixel: drawing
    takes as long as all the rest."""
    draw = plot_ranks if drawn else (lambda frame, path, title: Image.new("L", (1, 1)).save(path))
    with mock.patch("rankadapt.runs.run.plot_ranks", draw):
        return run(config, directory, {"overrides": list(overrides)})
