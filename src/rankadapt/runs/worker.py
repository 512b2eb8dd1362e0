"""One process of a run in several: ``python -m rankadapt.runs.worker <config.yaml> <directory>``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from rankadapt.runs.main import guarded
from rankadapt.runs.run import run
from rankadapt.training.validation import parse


def main(config_path: str, directory: str) -> int:
    """Run one process; returns its exit code."""
    resolved = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(config_path)))
    return guarded(lambda: run(parse(resolved), Path(directory), resolved))[1].code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
