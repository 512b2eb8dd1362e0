"""The records of many runs: every ``results.json`` below some folders; what cannot be read is named."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankadapt.errors import Problem

SCHEMA = 1
_HOLDS = {"status": str, "method": str, "seed": int, "config": dict, "metrics": dict, "rank": dict}


@dataclass(frozen=True)
class Record:
    """One run: its ``folder`` and the ``content`` of its ``results.json``. A failed run has one too."""

    folder: Path
    content: dict[str, Any]


def read_records(folders: Iterable[Path]) -> tuple[list[Record], list[Problem]]:
    """Every record below ``folders``, by path, each once; and a problem for each file that is left out."""
    files = {file.resolve() for folder in folders for file in folder.rglob("results.json")}
    records: list[Record] = []
    problems: list[Problem] = []
    for file in sorted(files):
        found = _read(file)
        if isinstance(found, Record):
            records.append(found)
        else:
            problems.append(found)
    return records, problems


def read_record(folder: Path) -> Record | Problem:
    """The record in ``folder``, or why there is none."""
    return _read(folder / "results.json")


def _read(file: Path) -> Record | Problem:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        return Problem(str(file), None, f"cannot be read: {error}", "left out; run it again")
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        return Problem(str(file), None, f"is not a record of schema {SCHEMA}", "left out")
    wrong = [key for key, kind in _HOLDS.items() if not isinstance(content.get(key), kind)]
    if wrong:
        return Problem(str(file), None, f"lacks {', '.join(wrong)}, or holds another type there", "left out")
    return Record(file.parent, content)


def command_of(folder: Path) -> str | None:
    """The command line of the run in ``folder``, without its seed and without what changes no result; None
    where Hydra left none."""
    try:
        text = (folder / ".hydra/overrides.yaml").read_text(encoding="utf-8")
    except OSError:
        return None
    given = [line.removeprefix("- ").strip("'\"") for line in text.splitlines() if line.startswith("- ")]
    kept = [o for o in given if o.partition("=")[0].partition(".")[0] not in ("seed", "resume", "paths")]
    return " ".join(["python train.py -m", *kept])
