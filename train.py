"""``python train.py method=hebira task=glue/rte``: see README.md."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from rankadapt.runs.commandline import explained
from rankadapt.runs.directory import register
from rankadapt.runs.sweep import Ended

register()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def train(cfg: DictConfig) -> Ended:
    """Compose and run; imports wait until a run is really to start."""
    from rankadapt.runs.main import main

    return main(cfg)


if __name__ == "__main__":
    explained(train, Path(__file__).parent / "conf")
