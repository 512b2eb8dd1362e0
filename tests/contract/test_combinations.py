"""docs/combinations.md is what the code says, and what it says is so: read off the document, cell by cell."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from rankadapt.adapters import Form, inject
from rankadapt.adapters.inject import linear_targets
from rankadapt.errors import ConfigError
from rankadapt.runs.session import build_session
from rankadapt.training.validation import parse
from scripts import combination_table as script
from tests.composed import RANK_EVENTS, ROOT, SMALL, composed, small
from tests.contract.test_axes import check_laws
from tests.contract.test_methods import trained

DOCUMENT = (ROOT / "docs/combinations.md").read_text()
COMPANY = {"bea_ahead": ["policy=incremental"]}
"""What a form cannot do without."""


@dataclass(frozen=True)
class Cell:
    """One cell of the table whose upper left corner says ``corner``."""

    corner: str
    row: str
    column: str
    text: str

    def overrides(self) -> list[str]:
        """Of ``method=lora`` with a random scorer, for all but the methods' table."""
        if "\\" in self.corner:
            first, second = self.corner.split(" \\ ")
            return [f"{first}={self.row}", f"{second}={self.column}", *COMPANY.get(self.row, [])]
        chosen = {"form": "bea", "policy": "bidirectional"} | {self.corner: self.row} | self._of_column()
        if self.corner == "scorer" and chosen["form"] == "bea_ahead":
            chosen["policy"] = "incremental"
        scaling = {"adapter.scaling": "initial"} if "truncate" in (self.row, self.column) else {}
        return [f"{key}={value}" for key, value in (scaling | chosen).items()]

    def _of_column(self) -> dict[str, str]:
        if "=" in self.column:
            key, _, value = self.column.partition("=")
            return {key: value}
        if self.column == "without slots":
            return {"form": "houlsby"}
        return {"policy" if self.column in script.values("policy") else "form": self.column}


def cells() -> Iterator[Cell]:
    header: list[str] = []
    for line in DOCUMENT.splitlines():
        if not line.startswith("|"):
            header = []
            continue
        entries = [entry.strip() for entry in line.strip("|").split("|")]
        if not header:
            header = entries
        elif not line.startswith("|---"):
            for column, text in zip(header[1:], entries[1:], strict=True):
                yield Cell(header[0], entries[0], column, text)


def sample(pairs: int, large: int) -> list[Cell]:
    """Some cells that say yes, of every table: always the same ones, until the document changes."""
    chosen: list[Cell] = []
    for corner in dict.fromkeys(c.corner for c in CELLS if c.corner != "method"):
        wanted = [c for c in CELLS if c.corner == corner and c.text == "yes" and "precision" not in c.column]
        wanted = [
            c for c in wanted if not c.column.startswith("compile")
        ]  # minutes; tests/unit/test_compile.py
        count = pairs if "\\" in corner else large
        chosen += random.Random(corner).sample(wanted, count)
    return chosen


def refused() -> list[Cell]:
    """One cell for every reason of every table."""
    first: dict[tuple[str, str, bool], Cell] = {}
    for cell in CELLS:
        if cell.text != "yes":
            kind = "=" in cell.column  # two tables have policies in their rows, each with its own numbers
            first.setdefault((cell.corner, cell.text, kind), cell)
    return list(first.values())


CELLS = list(cells())


def label(cell: Cell) -> str:
    return f"{cell.row}-{cell.column}"


def test_the_document_is_what_the_script_writes() -> None:
    assert script.document() == DOCUMENT, "python scripts/combination_table.py > docs/combinations.md"


def test_the_document_asks_every_value_of_every_axis() -> None:
    asked = {(c.corner, c.row) for c in CELLS}
    for group in ("policy", "scorer", "method"):
        assert {row for corner, row in asked if corner == group} == set(script.values(group)) - {"none"}
    for group in ("combine", "init", "quantization"):
        assert {c.column for c in CELLS if c.corner == f"form \\ {group}"} == set(script.values(group))
    assert len(CELLS) > 500
    assert {re.sub(r"[\d, ]+", "", c.text) for c in CELLS} == {"yes", "no"}


@pytest.mark.parametrize("cell", sample(pairs=2, large=5), ids=label)
def test_what_is_allowed_runs(cell: Cell) -> None:
    made = build_session(small("lora", "scorer=random", "form.std=0.2", *cell.overrides()))
    losses = trained(made, 12)
    assert torch.tensor(losses).isfinite().all()
    check_laws(made)


@pytest.mark.parametrize("cell", refused(), ids=label)
def test_what_is_refused_is_refused_when_the_config_is_composed(cell: Cell) -> None:
    if cell.corner == "method":
        overrides = [f"method={cell.row}", *SMALL, f"model={script.ARCHITECTURES[cell.column]}"]
    else:
        overrides = ["method=lora", *SMALL, *RANK_EVENTS, "scorer=random", *cell.overrides()]
    with pytest.raises(ConfigError) as refusal:
        parse(composed(*overrides))
    assert len(refusal.value.problems) == cell.text.count(",") + 1
    for problem in refusal.value.problems:
        assert f"`{problem.path}`" in DOCUMENT


@pytest.mark.parametrize("method", ["hebira", "houlsby", "pfeiffer", "prefix"])
def test_methods_on_roberta(method: str) -> None:
    """The other methods: test_architectures.py; the other architectures of text: test_methods.py."""
    made = build_session(small(method, "model=tiny_roberta"))
    assert torch.tensor(trained(made, 12)).isfinite().all()


@cache
def vit() -> tuple[type[nn.Module], Any]:
    from transformers import ViTConfig, ViTForImageClassification

    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    return ViTForImageClassification, ViTConfig(**size, image_size=8, patch_size=4, num_labels=3)


@pytest.mark.parametrize("method", script.values("method"))
def test_methods_on_a_vision_transformer(method: str) -> None:
    """Outputs and gradients are there, and finite. A whole run: tests/unit/test_images.py."""
    (cell,) = [c for c in CELLS if (c.corner, c.row, c.column) == ("method", method, "ViT")]
    config = script.method(method)
    assert not isinstance(config, ConfigError)
    kind, described = vit()
    torch.manual_seed(0)
    model, patterns = kind(described), script.section("model", "vit_base").targets
    if isinstance(config.form, Form):
        inject(
            model, patterns, config.form, 4, 8 + config.form.reserve, config.adapter, combine=config.combine
        )
    else:
        targets = linear_targets(model, patterns)
        problems = config.form.problems("vit", targets)
        assert bool(problems) == (cell.text != "yes")
        if problems:
            return
        model = config.form.install(model.requires_grad_(False), targets, 4, 0)
    assert cell.text == "yes"
    loss = model(pixel_values=torch.randn(2, 3, 8, 8), labels=torch.tensor([0, 2])).loss
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(g.isfinite().all() for g in gradients)
