"""What the README shows runs as it stands there."""

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml

from rankadapt.training.validation import parse
from tests.composed import ROOT, SMALL, composed

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_library_example_trains_and_moves_ranks() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=50, **sizes))
    example = next(block for block in blocks("python") if "attach(" in block)
    shorter = example.replace("t_i=300, delta_t=100, t_f=1000", "t_i=2, delta_t=2, t_f=2")
    names: dict[str, object] = {"model": model, "torch": torch}
    exec(shorter.replace("total_steps=3000", "total_steps=10"), names)
    optimizer, ids = names["optimizer"], torch.randint(0, 50, (2, 9))
    for _ in range(10):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()  # type: ignore[attr-defined]
        optimizer.zero_grad()  # type: ignore[attr-defined]
    ranks = names["controller"].adapters.ranks()  # type: ignore[attr-defined]
    assert len(ranks) == 14
    assert sum(ranks) == 8 * 14
    assert ranks != [8] * 14


def test_the_scorer_example_is_a_scorer(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = ModuleType("mine")
    monkeypatch.setitem(sys.modules, "mine", mine)
    exec(next(block for block in blocks("python") if "GradientTimesWeight" in block), vars(mine))
    settings = yaml.safe_load(next(block for block in blocks("yaml") if "mine." in block))
    config = composed("method=hebira", *SMALL) | {"scorer": settings}
    from rankadapt.runs.session import build_session
    from tests.contract.test_methods import trained

    made = build_session(
        parse(config | {"schedule": {**config["schedule"], "t_i": 2, "delta_t": 2, "t_f": 2}})
    )
    trained(made, 8)
    assert type(made.config.scorer).__name__ == "GradientTimesWeight"
    assert made.adapters.ranks() != made.ranks.initial


def test_every_file_it_points_to_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert Path(ROOT / target).exists(), target


def commands(text: str) -> list[list[str]]:
    """The training commands in the code blocks of ``text``, in parts; with the shell variables set before."""
    found, variables = [], {}
    for line in text.splitlines():
        assigned = re.fullmatch(r'([A-Z]+)="(.*)"', line)
        if assigned or line.startswith("python train.py "):
            line = re.sub(r"\$([A-Z]+)", lambda name: variables[name[1]], line.partition(" #")[0])
        if assigned:
            variables[assigned[1]] = line.split('"')[1]
        elif line.startswith("python train.py "):
            found.append(line.split()[2:])
    return found


@pytest.mark.parametrize("document", ["README.md", "docs/results.md", "docs/tasks.md"])
def test_every_train_command_composes(document: str) -> None:
    """Commands with settings are composed and validated; of sweeps, every job."""
    found = commands((ROOT / document).read_text())
    assert len(found) >= 8
    for parts in found:
        overrides = [part for part in parts if "=" in part and "<" not in part]
        keys, values = zip(*(part.split("=", 1) for part in overrides), strict=True)
        lists = [value.split(",") if "-m" in parts else [value] for value in values]
        for one in itertools.product(*lists):
            parse(composed(*map("=".join, zip(keys, one, strict=True))))
