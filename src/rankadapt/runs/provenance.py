"""What a result was made with: code, versions, hardware."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from rankadapt import __version__

PACKAGES = ("torch", "transformers", "pytorch-lightning", "datasets", "hydra-core", "numpy")


def provenance(data: dict[str, str]) -> dict[str, Any]:
    """Git commit, versions, hardware, and the fingerprints of the ``data``."""
    return {
        "git": _git(),
        "versions": {"rankadapt": __version__, "python": platform.python_version()}
        | {name: _version(name) for name in PACKAGES},
        "hardware": _hardware(),
        "data": data,
    }


def _git() -> dict[str, Any] | None:
    here = Path(__file__).parent
    try:
        commit = _run("git", "-C", str(here), "rev-parse", "HEAD")
        dirty = bool(_run("git", "-C", str(here), "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    return {"commit": commit, "dirty": dirty}


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _hardware() -> dict[str, Any]:
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }
