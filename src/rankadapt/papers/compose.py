"""Composing a run's configuration outside of its command."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from rankadapt.runs.directory import register
from rankadapt.training.config import RunConfig
from rankadapt.training.validation import parse

CONF = Path(__file__).resolve().parents[3] / "conf"
"""The configuration beside the sources, as in a checkout."""


def configuration(overrides: Iterable[str], conf: Path = CONF) -> RunConfig:
    """What ``python train.py <overrides>`` would run.

    Raises:
        ConfigError: it is no run.
    """
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf), version_base="1.3"):
        cfg = compose("config", overrides=list(overrides))
    resolved: Any = OmegaConf.to_container(cfg, resolve=True)
    return parse(resolved)
