"""The house style, as far as it can be counted: short functions, short files, docstrings."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src"
FILES = sorted((ROOT / "rankadapt").rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef
each_file = pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT / "rankadapt")))


def functions(file: Path) -> Iterator[tuple[str, int]]:
    """(where, lines from ``def`` to the end, docstring included) of every function."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, Function):
            assert node.end_lineno is not None
            yield f"{file.relative_to(ROOT)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1


def undocumented(file: Path) -> Iterator[str]:
    """Public things of ``file`` without a docstring. Methods of a base class need not repeat theirs."""
    tree = ast.parse(file.read_text())
    if not ast.get_docstring(tree) and tree.body:
        yield f"{file.relative_to(ROOT)}: the module itself"
    for node in tree.body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            yield f"{file.relative_to(ROOT)}:{node.lineno} {node.name}"
        if isinstance(node, ast.ClassDef):
            yield from _undocumented_methods(file, node)


def _undocumented_methods(file: Path, owner: ast.ClassDef) -> Iterator[str]:
    for node in owner.body:
        if not isinstance(node, Function) or node.name.startswith("_") or ast.get_docstring(node):
            continue
        if not (owner.bases and _is_inherited(file, owner.name, node.name)):
            yield f"{file.relative_to(ROOT)}:{node.lineno} {owner.name}.{node.name}"


def _is_inherited(file: Path, owner: str, method: str) -> bool:
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    bases = getattr(importlib.import_module(name), owner).__mro__[1:]
    return any(method in vars(base) for base in bases)


@each_file
def test_no_function_is_over_60_lines(file: Path) -> None:
    assert [where for where, lines in functions(file) if lines > 60] == []


def test_nine_in_ten_functions_are_within_35_lines() -> None:
    lengths = [lines for file in FILES for _, lines in functions(file)]
    assert sum(lines <= 35 for lines in lengths) >= 0.9 * len(lengths)


@each_file
def test_no_file_is_over_250_lines(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 250


@each_file
def test_all_that_is_public_has_a_docstring(file: Path) -> None:
    assert list(undocumented(file)) == []


@pytest.mark.parametrize("folder", ["scorers", "policies", "adapters/forms"])
def test_plugins_are_within_120_lines(folder: str) -> None:
    files = sorted((ROOT / "rankadapt" / folder).glob("*.py"))
    assert files
    assert [f.name for f in files if len(f.read_text().splitlines()) > 120] == []
