"""The notebooks run on what runs leave, and are kept without what they printed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

from rankadapt.runs.run import run
from rankadapt.training.validation import parse
from tests.composed import RANK_EVENTS, ROOT, SMALL, composed

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@each
def test_nothing_that_was_printed_is_kept(path: Path) -> None:
    cells = code(nbformat.read(path, as_version=4))
    assert [cell.source for cell in cells if cell.outputs or cell.execution_count is not None] == []
    assert sum("folders" in cell.metadata.get("tags", ()) for cell in cells) == 1


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep, a run whose ranks stay, plain LoRA, and a run with a penalty."""
    root = tmp_path_factory.mktemp("left")
    runs = {
        f"sweep/k{k}-seed{seed}": ["method=hebira", *RANK_EVENTS, f"policy.k={k}", f"seed={seed}"]
        for k, seed in ((2, 1), (2, 2), (4, 1))
    }
    stay = ["budget.min_rank=8", "budget.max_rank=8"]
    runs["fixed"] = ["method=hebira", *RANK_EVENTS, *stay]
    runs["methods/lora"] = ["method=lora"]
    runs["methods/pedyra"] = ["method=pedyra", *RANK_EVENTS, "policy.k=3"]
    for name, overrides in runs.items():
        options = ["evaluation.every_n_steps=null", "trainer.log_every_n_steps=2"]
        resolved = composed(*SMALL, *options, *overrides)
        run(parse(resolved), root / name, resolved)
    return root


FOLDERS = {
    "one_run": "RUN, FIXED, BASELINE = '{0}/methods/pedyra', '{0}/fixed', '{0}/methods/lora'\nBLOCK = 1",
    "runs_compared": "FOLDERS = ['{0}/methods', '{0}/fixed']",
    "sensitivity": "FOLDERS, KEY, SERIES, METHODS = ['{0}/sweep'], 'policy.k', 'method', None",
}
FIGURES = {"one_run": 15, "runs_compared": 4, "sensitivity": 1}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelManager]:
    """One for all: importing takes longer than everything else. Each notebook begins by forgetting."""
    manager = KernelManager()
    environment = os.environ | {"IPYTHONDIR": str(tmp_path_factory.mktemp("ipython"))}
    manager.start_kernel(cwd=str(ROOT / "notebooks"), env=environment)
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.mark.slow
@each
def test_a_notebook_runs(path: Path, left: Path, kernel: KernelManager) -> None:
    notebook = nbformat.read(path, as_version=4)
    (folders,) = [cell for cell in code(notebook) if "folders" in cell.metadata.get("tags", ())]
    folders.source = "%reset -f\n" + FOLDERS[path.stem].format(left)
    NotebookClient(notebook, km=kernel, timeout=120).execute()
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == FIGURES[path.stem]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
