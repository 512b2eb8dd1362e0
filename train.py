"""``python train.py method=hebira task=glue/rte``: see README.md."""

import hydra
from omegaconf import DictConfig

from rankadapt.runs.directory import register

register()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def train(cfg: DictConfig) -> None:
    """Compose and run; imports wait until a run is really to start."""
    from rankadapt.runs.main import main

    main(cfg)


if __name__ == "__main__":
    train()
