"""The published tables as the project ships them."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from rankadapt.papers import Cell, tables
from rankadapt.papers.published import DATA, KINDS

MIRROR = Path(os.environ.get("RANKADAPT_PAPERS", Path(__file__).parents[3] / "shared/papers/tables"))
NUMBERS = re.compile(r"(?<![\w.])\d[\d,]*\.?\d*(?:e-?\d+)?(?=k\b|GB|MB|s\b|M\b|[^\w]|$)")


def one(table: str, **wanted: object) -> Cell:
    found = [c for c in tables()[table].cells if all(getattr(c, k) == v for k, v in wanted.items())]
    assert len(found) == 1, found
    return found[0]


def test_every_file_is_a_table_and_every_table_has_one() -> None:
    files = {f"{f.parent.name}/{f.stem}" for f in DATA.glob("*/*.csv")}
    assert files == tables().keys()
    assert len(files) == 47
    assert all(t.cells and t.kind in KINDS for t in tables().values())


def test_cells_are_told_apart_by_their_conditions() -> None:
    for table in tables().values():
        where = Counter((c.model, c.method, c.variant, c.rank, c.task, c.metric) for c in table.cells)
        assert max(where.values()) == 1, (table.name, where.most_common(2))


def test_figures_of_results_are_numbers() -> None:
    for table in tables().values():
        if table.kind != "hyperparameters":
            assert all(cell.number > 0 for cell in table.cells), table.name


def test_known_figures() -> None:
    assert one("hebira/table03_glue_r8", method="HeBiRA(Ours)", task="RTE").number == 88.45
    cell = one("hebira/table11_three_seeds", method="AdaLoRA", task="CoLA")
    assert (cell.number, cell.sd, cell.metric) == (70.69, 1.18, "matthews_correlation")
    assert (
        one("lalora/table06_squad", method="La-LoRA", rank=16, task="SQuADv1.1", metric="f1").number == 93.0
    )
    assert one("lalora/table07_cnn_dailymail", method="FT", metric="rouge2").model == "T5-small"
    assert one("pedyra/table13_budgets", method="LoRA", rank=32, task="CoLA").number == 69.92


def test_what_has_no_rank_is_given_none() -> None:
    """Full fine-tuning has none, and some of La-LoRA's ablations do not say theirs."""
    ranks = {c.rank for t in tables().values() for c in t.cells if c.method in {"FT", "Full FT", "BitFit"}}
    silent = [c for n in ("table10_car", "table11_fidelity") for c in tables()[f"lalora/{n}"].cells]
    assert ranks == {None} == {c.rank for c in silent}
    assert one("lalora/table11_fidelity", variant="with matrix f", task="RTE").model == "RoBERTa-large"


def test_a_row_of_averages_is_not_a_run() -> None:
    cells = tables()["hebira/table03_glue_r8"].cells
    assert sum(c.is_average for c in cells) == len({c.method for c in cells}) == 10


@pytest.mark.parametrize("name", sorted(tables()))
def test_nothing_printed_is_lost(name: str) -> None:
    """Every figure of the original table is a figure here, as often."""
    if not (MIRROR / f"{name}.csv").is_file():
        pytest.skip(f"no {MIRROR}/{name}.csv")
    with (MIRROR / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    ours = tables()[name].cells
    printed = Counter(
        round(float(number.replace(",", "")) * (1000 if f"{number}k" in text else 1), 6)
        for row in rows
        for title, text in zip(header, row, strict=True)
        if "aram" not in title
        and title not in {"Method", "Rank", "Hyper-Parameter", "Model", "LLM", "Dataset", "Corpus"}
        for number in NUMBERS.findall(text)
    )
    held = Counter(float(n) for c in ours for n in (c.value, c.sd) if _is_number(n))
    missing = {n for n in printed if held[n] < printed[n]}
    assert not missing, missing


def _is_number(text: object) -> bool:
    try:
        return text is not None and float(str(text)) == float(str(text))
    except ValueError:
        return False
