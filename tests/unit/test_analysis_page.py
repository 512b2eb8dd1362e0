"""docs/analysis.md names functions that there are, and every figure there is."""

from __future__ import annotations

import importlib
import re

from rankadapt.analysis import plots
from tests.composed import ROOT

PAGE = (ROOT / "docs/analysis.md").read_text()
PARTS = "allocation|courses|effective_rank|importance|life|logged|plots|sparsity|sweeps"


def test_every_function_it_names_exists() -> None:
    named = set(re.findall(rf"`({PARTS})\.(\w+)", PAGE))
    assert len(named) > 20
    assert [
        f"{part}.{name}"
        for part, name in sorted(named)
        if not callable(getattr(importlib.import_module(f"rankadapt.analysis.{part}"), name, None))
    ] == []


def test_every_figure_is_named() -> None:
    drawn = set(plots.__all__) - {"plot_ranks"}  # a run draws that one itself
    assert sorted(name for name in drawn if f"plots.{name}" not in PAGE) == []


def test_its_example_imports_what_there_is() -> None:
    example = re.search(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert example is not None
    exec("\n".join(line for line in example.group(1).splitlines() if line.startswith("from ")), {})


def test_the_notebooks_it_names_are_all_there_are() -> None:
    named = set(re.findall(r"notebooks/(\w+)\.ipynb", PAGE))
    assert named == {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
