"""The yaml files of the tasks: whole, typed, and loadable where the data is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter
from tiny_tokenizer import tiny_tokenizer

from rankadapt.sources import Sources
from rankadapt.tasks.entailment import Entailment
from rankadapt.tasks.glue import Glue

ROOT = Path(__file__).resolve().parents[2]
REAL_MIRROR = ROOT.parent / "shared" / "hub"
needs_real_mirror = pytest.mark.skipif(not REAL_MIRROR.is_dir(), reason=f"no mirror at {REAL_MIRROR}")


GLUE_FILES = sorted((ROOT / "conf" / "task" / "glue").glob("*.yaml"))
PROTOCOL = {
    "adapter": {"lora_alpha", "dropout"},
    "model": {"classifier_dropout"},
    "optimizer": {"lr", "weight_decay", "warmup_steps"},
    "evaluation": {"every_n_steps"},
}


class TestYaml:
    def test_all_nine_are_there(self) -> None:
        names = "cola mnli mrpc qnli qqp rte sst2 stsb wnli"
        assert [file.stem for file in GLUE_FILES] == names.split()

    @pytest.mark.parametrize("file", GLUE_FILES, ids=lambda file: file.stem)
    def test_a_glue_file_is_a_task_and_its_protocol(self, file: Path) -> None:
        from omegaconf import OmegaConf

        text = file.read_text()
        assert text.startswith("# @package _global_\n")
        content: Any = OmegaConf.to_container(OmegaConf.create(yaml.safe_load(text)))
        assert content["task"].pop("_target_") == "rankadapt.tasks.glue.Glue"
        task = TypeAdapter(Glue).validate_python(content["task"])
        assert task.name == f"glue/{file.stem}"
        for node, keys in PROTOCOL.items():
            assert set(content[node]) == keys
        loaded: Any = OmegaConf.load(file)
        assert isinstance(loaded.optimizer.lr, float)
        assert loaded.trainer.max_epochs >= 5

    def test_the_demo_file(self) -> None:
        content = yaml.safe_load((ROOT / "conf" / "task" / "demo" / "entailment.yaml").read_text())
        content["task"].pop("_target_")
        assert TypeAdapter(Entailment).validate_python(content["task"]).train_size == 4000

    @needs_real_mirror
    @pytest.mark.parametrize("name", ["rte", "cola", "stsb", "wnli"])
    def test_on_the_real_data(self, name: str) -> None:
        content = yaml.safe_load((ROOT / "conf" / "task" / "glue" / f"{name}.yaml").read_text())
        content["task"].pop("_target_")
        task = TypeAdapter(Glue).validate_python({**content["task"], "max_train_examples": 8})
        data = task.load(tiny_tokenizer("the of and"), Sources(REAL_MIRROR), seed=0)
        assert len(data.train) == 8
        assert (
            len(data.evaluation["validation"]) == {"rte": 277, "cola": 1043, "stsb": 1500, "wnli": 71}[name]
        )
