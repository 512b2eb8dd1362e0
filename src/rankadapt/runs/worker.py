"""One process of a run in several: ``python -m rankadapt.runs.worker <config.yaml> <directory>``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from rankadapt.runs.main import EXIT_INTERRUPTED, guarded
from rankadapt.runs.run import run
from rankadapt.training.validation import parse


def main(config_path: str, directory: str) -> int:
    """Run one process; returns its exit code."""
    resolved = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(config_path)))
    results, code = guarded(lambda: run(parse(resolved), Path(directory), resolved))
    return EXIT_INTERRUPTED if results and results["status"] == "interrupted" else code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
