"""One process of a run in several: ``python -m rankadapt.runs.worker <config.yaml> <directory>``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import torch.distributed as dist
from omegaconf import OmegaConf

from rankadapt.runs.main import guarded
from rankadapt.runs.run import run
from rankadapt.training.validation import parse


def main(config_path: str, directory: str) -> int:
    """Run one process; returns its exit code."""
    resolved = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(config_path)))
    code = guarded(lambda: run(parse(resolved), Path(directory), resolved))[1].code
    # Gloo's threads would now and then abort a process that leaves them running. After a failure they may
    # wait for a process that is gone: then they are left.
    if code == 0 and dist.is_initialized():
        dist.destroy_process_group()
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
