"""Composing configurations outside of Hydra's own command. Imports nothing that is slow to start."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from rankadapt.runs.directory import register


def composed(conf: Path, overrides: Iterable[str] = (), name: str = "config") -> DictConfig:
    """The file ``name`` of the folder ``conf`` with its defaults and ``overrides``, not resolved.

    Raises:
        HydraException: they do not go together.
    """
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf.absolute()), version_base="1.3"):
        return compose(name, overrides=list(overrides))


def resolved(conf: Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """What ``python train.py <overrides>`` would run, as plain values."""
    plain: Any = OmegaConf.to_container(composed(conf, overrides), resolve=True)
    return plain
