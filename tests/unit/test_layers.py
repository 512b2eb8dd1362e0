"""Imports go one way (law 10): read from the source, nothing is imported here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src"
FILES = sorted((ROOT / "rankadapt").rglob("*.py"))

RUNNING = {"analysis", "export", "papers", "runs", "training"}
"""What runs experiments or looks at their results: nothing below may import it."""

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "boards": {"errors"},
    "hub": {"errors", "rows"},
    "mirror": {"errors", "rows"},
    "rows": {"errors"},
    "sources": {"errors", "hub", "mirror", "rows"},
    "adapters": {"boards", "errors"},
    "scorers": {"adapters.reading", "boards", "errors"},
    "policies": {"adapters.reading", "boards", "errors"},
    "control": {"adapters", "boards", "errors", "policies", "scorers"},
    "evaluation": {"errors"},
    "tasks": {"errors", "evaluation", "rows", "sources"},
}
"""Everything below :data:`RUNNING`, by part of the package: what it may import besides itself. An entry with
a dot is that module alone."""

MAY_NOT_IMPORT: dict[str, set[str]] = {
    "training": {"analysis", "export", "papers", "runs"},
    "export": {"analysis", "papers", "runs"},
    "analysis": {"papers", "runs"},
    "runs": {"papers"},
}
"""Among what runs: the loop does not know who looks at its results, and nobody knows the command line."""


def part_of(file: Path) -> str:
    """``adapters`` for src/rankadapt/adapters/slots.py, ``boards`` for src/rankadapt/boards.py."""
    return file.relative_to(ROOT / "rankadapt").parts[0].removesuffix(".py")


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name below ``rankadapt``) of every import, inside functions and for typing too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}:{node.lineno}: relative imports hide where they go"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from ((node.lineno, n.removeprefix("rankadapt.")) for n in names if n.startswith("rankadapt."))


def allowed(name: str, permits: set[str]) -> bool:
    return any(name == p or name.startswith(p + ".") for p in permits)


def violations(file: Path, permits: set[str]) -> list[str]:
    own = permits | {part_of(file)}
    return [
        f"{file.relative_to(ROOT)}:{line} imports {n}" for line, n in imports(file) if not allowed(n, own)
    ]


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_part_imports_only_what_lies_below(part: str) -> None:
    files = [f for f in FILES if part_of(f) == part]
    assert files, f"no such part: {part}"
    assert [v for f in files for v in violations(f, MAY_IMPORT[part])] == []


@pytest.mark.parametrize("part", MAY_NOT_IMPORT)
def test_what_runs_does_not_know_who_looks_on(part: str) -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line} imports {name}"
        for file in FILES
        if part_of(file) == part
        for line, name in imports(file)
        if allowed(name, MAY_NOT_IMPORT[part])
    ]
    assert found == []


def test_every_part_has_its_place() -> None:
    """A new part must be put into one of the two tables above; what nobody below imports may go on top."""
    known = MAY_IMPORT.keys() | RUNNING | {"__init__", "__main__"}
    top = {part_of(f) for f in FILES} - known
    imported = {n.split(".")[0] for f in FILES if part_of(f) in MAY_IMPORT for _, n in imports(f)}
    assert not top & imported


def test_the_reader_of_imports_sees_every_kind(tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    file.write_text(
        "import rankadapt.control.trace\nfrom rankadapt import boards\nimport torch\n"
        "def f():\n    from rankadapt.adapters.slots import apply\n"
    )
    assert [name for _, name in imports(file)] == ["control.trace", "boards", "adapters.slots.apply"]
    assert not allowed("adapters.slots.apply", MAY_IMPORT["scorers"])
    assert not allowed("adapters.readings", MAY_IMPORT["scorers"])
    assert allowed("adapters.reading.Reading", MAY_IMPORT["scorers"])
